"""Fast R-CNN's head: the network's fc6 and fc7 on pooled RoIs, and behind them two new layers (section 2.1)."""

from collections.abc import Iterator
from math import isqrt

import torch
from torch import Tensor, nn

from cache.errors import StageError
from stages.networks.architectures import ARCHITECTURES
from stages.networks.network import Network
from stages.networks.pyramid import put_module

CLASS_STD, BOX_STD = 0.01, 0.001  # of the new layers' initial weights (section 2.3); biases are 0
_LOGITS = "fc8"


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

    6 for alexnet and zf5, 7 for vgg16, and the one level of ``network.pyramid`` where there is one. Raises
    ``StageError`` where the network has no fc6, or one that takes no such grid.
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
    place = ARCHITECTURES[network.name].place
    assert place is not None  # what the table has before any head is put there
    taken = next(module for module in fc.modules() if isinstance(module, nn.Linear)).in_features
    side = isqrt(taken // place.channels)
    if side * side * place.channels != taken:
        raise StageError(
            f"fc6 of {network.name} takes {taken} values, which is no square grid of {place.channels} channels; set "
            "network.pyramid: [7] and network.fc: [1024, 1024] to give the network new layers"
        )
    return side
