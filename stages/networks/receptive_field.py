"""Where a feature map's cells lie in the image, from a network's own kernels, strides and paddings.

Cell i of a map sees the pixels ``first + stride * i`` to ``last + stride * i`` of the input, 0-based and inclusive, in
either direction; pixels outside the image are padding. The centre of that receptive field is where the cell is taken to
lie (SPP paper section 4.1; 20 + 16 i for ZF-5).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from cache.errors import StageError

from .caffenet import CrossChannelNorm
from .network import Network
from .zf5 import WithinChannelNorm


@dataclass(frozen=True)
class Axis:
    """One direction of a map: pixels from cell to cell, and cell 0's receptive field, ``first`` to ``last``."""

    stride: int = 1
    first: int = 0
    last: int = 0

    @property
    def centre(self) -> float:
        """Centre of cell 0's receptive field, in pixels, where pixel 0 is at 0."""
        return (self.first + self.last) / 2

    def slid(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Axis":
        """Return the axis after a convolution or pooling of this one.

        Ceil or floor of the output's size changes how many cells there are, not where they lie.
        """
        reach = (kernel - 1) * dilation - padding
        return Axis(self.stride * stride, self.first - padding * self.stride, self.last + reach * self.stride)


@dataclass(frozen=True)
class Geometry:
    """Both directions of a map."""

    y: Axis = Axis()
    x: Axis = Axis()


# Layers whose cell (y, x) is made of cell (y, x) alone.
_POINTWISE = (nn.ReLU, nn.BatchNorm2d, CrossChannelNorm)


def map_geometry(network: Network, layer: str | None = None) -> Geometry:
    """Work out the geometry of a feature map, the network's conv5 or another, along its graph from the input.

    Where branches meet (SqueezeNet's concatenation, ResNet's sum) the receptive field is the larger. Raises
    ``StageError`` for a layer of which it is not known how far it sees.
    """
    module: Any = network.graph([network.conv5 if layer is None else layer])
    found: dict[fx.Node, Geometry] = {}
    for node in module.graph.nodes:
        if node.op == "output":
            break
        before = _joined(found[parent] for parent in node.all_input_nodes)
        if node.op == "call_module":
            before = _after(module.get_submodule(str(node.target)), before, network.name)
        found[node] = before  # functions on such a path are pointwise or join: relu, cat, add
    return found[node.all_input_nodes[0]]


def _joined(branches: Iterable[Geometry]) -> Geometry:
    """Return the geometry of a map whose cell is computed from the same cell of each branch.

    It covers all their receptive fields; without branches it is the image's.
    """
    made = list(branches) or [Geometry()]
    return Geometry(_joined_axis([m.y for m in made]), _joined_axis([m.x for m in made]))


def _joined_axis(axes: list[Axis]) -> Axis:
    """Do for one direction what :func:`_joined` does for both."""
    return Axis(axes[0].stride, min(a.first for a in axes), max(a.last for a in axes))


def _after(layer: nn.Module, before: Geometry, name: str) -> Geometry:
    """Return the geometry of a layer's output, from its input's; ``StageError`` for a kind of layer not known."""
    if isinstance(layer, _POINTWISE):
        return before
    if isinstance(layer, WithinChannelNorm):
        kernel, stride, padding, dilation = (layer.window,) * 2, (1, 1), (layer.window // 2,) * 2, (1, 1)
    elif isinstance(layer, nn.Conv2d | nn.MaxPool2d) and not isinstance(layer.padding, str):
        kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
        padding, dilation = _pair(layer.padding), _pair(layer.dilation)
    else:
        raise StageError(
            f"it is not known how far a {type(layer).__name__} of network {name} sees, and so where a cell of its map "
            "lies in the image; choose another network.name"
        )
    return Geometry(
        before.y.slid(kernel[0], stride[0], padding[0], dilation[0]),
        before.x.slid(kernel[1], stride[1], padding[1], dilation[1]),
    )


def _pair(value: Any) -> tuple[int, int]:
    """Return a size of torch's, one number for both directions or one for each, as two (y, x)."""
    return (value, value) if isinstance(value, int) else tuple(value)
