"""Fast R-CNN's head: the network's fc6 and fc7 on pooled RoIs, and behind them two new layers (section 2.1)."""

from collections.abc import Iterator
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.errors import StageError
from stages.networks.network import Network
from stages.networks.pyramid import put_module

from .pooling import RoiPooling
from .rois import TargetNorm

CLASS_STD, BOX_STD = 0.01, 0.001  # of the new layers' initial weights (section 2.3); biases are 0
_LOGITS = "fc8"
_AT_ONCE = 512  # RoIs that go through the layers together; bounds memory at 50 MB of pooled values for vgg16


class FastHead(nn.Module):
    """Pooled RoIs to class logits and box transforms; fc6 and fc7 are the network's own, shared.

    ``cls_score`` has ``n_classes + 1`` outputs, background first. ``bbox_pred`` has four for each class: the authors
    give background four as well, which nothing reads or trains; here it has none. Both read what the network's own last
    layer reads, so fc7 after its ReLU and, where the network has it there, dropout, which is active in training mode.
    """

    def __init__(self, network: Network, n_classes: int, generator: torch.Generator) -> None:
        """Build the head behind a network's pool5, on its device.

        Raises ``StageError`` as :func:`grid_of`.

        Args:
            generator: What the two new layers' weights are drawn from, N(0, .01) and N(0, .001).
        """
        super().__init__()
        self.grid = grid_of(network)
        self.n_classes = n_classes
        self.fc = network.fc_graph([_LOGITS])
        self._node = network.node(_LOGITS)
        last = self.fc.get_submodule(self._node)
        assert isinstance(last, nn.Linear)  # so in all architectures with an fc6
        put_module(self.fc, self._node, nn.Identity())  # the graph's own module tree: the network keeps its layer
        self.cls_score = _new_layer(last, n_classes + 1, CLASS_STD, generator)
        self.bbox_pred = _new_layer(last, 4 * n_classes, BOX_STD, generator)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Map pooled RoIs, float32 [n, c, grid, grid], to logits [n, n_classes + 1] and transforms [n, n_classes, 4].

        Transforms are normalised (:class:`~stages.fast.rois.TargetNorm`).
        """
        fc7 = self.fc(torch.flatten(pooled, 1))[self._node]  # (c, y, x), whatever the memory's order
        return self.cls_score(fc7), self.bbox_pred(fc7).unflatten(1, (self.n_classes, 4))

    def new_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the two new layers."""
        yield from self.cls_score.parameters()
        yield from self.bbox_pred.parameters()


def _new_layer(like: nn.Linear, outputs: int, std: float, generator: torch.Generator) -> nn.Linear:
    """Make a layer that takes what ``like`` takes, on its device: weights N(0, std), biases 0."""
    layer = nn.Linear(like.in_features, outputs)
    with torch.no_grad():
        layer.weight.normal_(0, std, generator=generator)
        layer.bias.zero_()
    return layer.to(device=like.weight.device, dtype=like.weight.dtype)


def grid_of(network: Network) -> int:
    """Return the side k of the grid to which RoIs are pooled: fc6 takes ``channels * k * k`` values.

    6 for alexnet, zf5 and overfeat_fast, 5 for overfeat_accurate, 7 for vgg16, and the one level of ``network.pyramid``
    where there is one. Raises ``StageError`` where the network has no fc6, or one that takes no such grid.
    """
    try:
        fc = network.fc_graph([_LOGITS])
    except StageError:
        raise StageError(
            f"network {network.name} has no fc6 that could take pooled RoIs; set network.pyramid: [7] and network.fc: "
            "[1024, 1024] to give it new layers"
        ) from None
    if network.pyramid is not None and len(network.pyramid) > 1:
        raise StageError(
            f"fc6 of {network.name} takes a pyramid of levels {list(network.pyramid)}, RoIs are pooled to one grid; "
            "set network.pyramid to one level, such as [7], with weights that were trained with it, or with network.fc"
        )
    channels = network.fc6_channels
    taken = next(module for module in fc.modules() if isinstance(module, nn.Linear)).in_features
    side = isqrt(taken // channels)
    if side * side * channels != taken:
        raise StageError(
            f"fc6 of {network.name} takes {taken} values, which is no square grid of {channels} channels; set "
            "network.pyramid: [7] and network.fc: [1024, 1024] to give the network new layers"
        )
    return side


@torch.inference_mode()
def roi_scores(
    head: FastHead,
    pooling: RoiPooling,
    norm: TargetNorm,
    fmap: Tensor,
    boxes: NDArray[Any],
    scale: tuple[float, float] = (1.0, 1.0),
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Classify the RoIs of one image and say where their objects are; RoIs of the same cells are computed once.

    Args:
        head: In evaluation mode, on the map's device; :func:`~stages.fast.svd.compressed` or not.
        fmap: [1, c, h, w].
        boxes, scale: As :class:`~stages.fast.pooling.RoiPooling` takes them; n may be 0.

    Returns:
        Probabilities float32 [n, n_classes + 1], background first, and transforms float64 [n, n_classes, 4],
        denormalised.
    """
    rois = np.asarray(boxes).reshape(-1, 4)
    rows, which = pooling.distinct(rois, scale)
    probabilities = np.empty((len(rows), head.n_classes + 1), np.float32)
    transforms = np.empty((len(rows), head.n_classes, 4), np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        logits, moved = head(pooling(fmap, rois[rows[part]], scale))
        probabilities[part] = torch.softmax(logits.float(), 1).cpu().numpy()
        transforms[part] = moved.float().cpu().numpy()
    return probabilities[which], norm.denormalise(transforms[which])
