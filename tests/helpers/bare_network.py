"""A network whose convolutions pad nothing, so that a window of its map is the crop's own, and pictures for it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.networks.network import Network
from stages.networks.pixels import scaled_image
from stages.networks.spec import InputSpec

SIDE, STRIDE = 57, 4  # of the network below


class Bare(nn.Module):
    """The layers of ``small``, fewer channels, none padded: crops of 57 px, a map of 4 x 4 cells, pooled to 2 x 2."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 4, 5, 2), (4, 5, 3, 1), (5, 6, 3, 1), (6, 6, 3, 1), (6, 5, 3, 1))
        one, two, three, four, five = (nn.Conv2d(a, b, kernel, stride=step) for a, b, kernel, step in widths)
        self.features = nn.Sequential(
            *(one, nn.ReLU(), nn.MaxPool2d(3, 2), two, nn.ReLU(), nn.MaxPool2d(2, 1)),
            *(three, nn.ReLU(), four, nn.ReLU(), five, nn.ReLU(), nn.MaxPool2d(2, 2)),
        )
        layers = (nn.Dropout(), nn.Linear(5 * 4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 7), nn.ReLU())
        self.classifier = nn.Sequential(*layers, nn.Linear(7, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map crops [B, 3, 57, 57] to logits [B, 3]."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


def bare_network(mean: float = 0.5) -> Network:
    """A network without padding, in the layout of ``small``."""
    network = Network("small", Bare(), InputSpec(SIDE, "rgb", 1.0, (mean,) * 3, (0.25,) * 3), None, 3).eval()
    draw_weights(network)
    return network


def draw_weights(network: Network) -> None:
    """Weights that keep the size of what goes through, so that windows and crops differ by more than rounding."""
    generator = torch.Generator().manual_seed(3)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def both_flips(image: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """The image and its mirror image as the network takes them, at their own size: [2, 3, h, w]."""
    flips = [scaled_image(np.ascontiguousarray(one), spec, image.shape[1::-1])[0] for one in (image, image[:, ::-1])]
    return torch.from_numpy(np.stack(flips))
