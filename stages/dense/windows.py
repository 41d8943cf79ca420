"""A network's windows over a feature map of any size: every place at which its fully connected layers fit.

A window is what the network takes of a crop: g x g values of its last pooling, of side k, stride p and some padding.
Pooled at stride 1 instead, a map holds what OverFeat pools at p x p offsets (section 3.3, Figure 3), interleaved: a
window's values lie p apart, and the next window begins one cell further on. A map of n cells along a side, where a
crop's has n0, has n - n0 + 1 windows along it; the network's own stride would take every p-th.

Window y shows the pixels s y to s y + side, where s is the map's stride and side the crop's. What it gives is not that
crop's pass, though: where convolutions pad their maps, a window sees real pixels past its edges, a crop zeros.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import StageError
from stages.networks.network import Network
from stages.networks.pyramid import PyramidPool
from stages.networks.receptive_field import Axis, map_geometry
from stages.networks.spec import MAX_SIDE_PX


@dataclass(frozen=True)
class LastPooling:
    """A regular max pooling of a map: ``kernel`` squared cells, ``stride`` apart, ``padding`` beyond the map's edges.

    ``grid`` squared values of it are what fc6 takes.
    """

    grid: int
    kernel: int
    stride: int
    padding: int = 0

    @property
    def span(self) -> int:
        """Values at stride 1 from the first to the last that a window takes along a side, both counted."""
        return (self.grid - 1) * self.stride + 1

    @property
    def cells(self) -> int:
        """Cells of the smallest map that has one window, along a side."""
        return self.span + self.kernel - 1 - 2 * self.padding


@dataclass(frozen=True)
class DenseWindows:
    """A network's windows: each is ``side_px`` squared in the image and ``cells`` squared on the map.

    The next one begins ``stride_px`` further on, which is one cell.
    """

    side_px: int
    stride_px: int
    cells: int
    pooling: LastPooling

    def __call__(self, fmap: Tensor) -> Tensor:
        """Map [B, c, h, w] -> [B, h - cells + 1, w - cells + 1, c, g, g], a view of the map pooled at stride 1.

        h and w are at least ``cells``.
        """
        span, stride = self.pooling.span, self.pooling.stride
        every = self.pooled(fmap).unfold(2, span, 1).unfold(3, span, 1)[..., ::stride, ::stride]
        return every.permute(0, 2, 3, 1, 4, 5)

    def pooled(self, fmap: Tensor) -> Tensor:
        """Pool maps [B, c, h, w] at stride 1, as far as windows reach: [B, c, h - cells + span, w - cells + span].

        A pooling that rounds up reaches past a crop's map: here it takes what is there, and past this map, as padding
        does, nothing.
        """
        kernel, before, span = self.pooling.kernel, self.pooling.padding, self.pooling.span
        after = max(span + kernel - 1 - before - self.cells, 0)
        padded = functional.pad(fmap, (before, after, before, after), value=-math.inf)
        rows, columns = (length - self.cells + span for length in fmap.shape[2:])
        return functional.max_pool2d(padded, kernel, stride=1)[:, :, :rows, :columns]

    def gathered(
        self, pooled: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Copy the windows at ``rows`` and ``columns``, int64 [n] both, out of a pooled map [y, x, c].

        Returns:
            float32 [n, c * g * g], each as fc6 takes it: (c, y, x).
        """
        steps = self.pooling.stride * np.arange(self.pooling.grid)
        found = pooled[(rows[:, None] + steps)[:, :, None], (columns[:, None] + steps)[:, None, :]]  # [n, g, g, c]
        length = pooled.shape[2] * self.pooling.grid**2
        values: NDArray[np.float32] = found.transpose(0, 3, 1, 2).reshape(len(rows), length).astype(np.float32)
        return values


def windows_of(network: Network) -> DenseWindows:
    """Work out a network's windows, from shapes alone.

    Raises ``StageError`` where there are none: without an fc6, or where no regular pooling leads from a crop's map to
    what fc6 takes. It says what would do: which ``network.input.side_px``, which ``network.pyramid``.
    """
    try:
        fc = network.fc_graph(["fc8"])
    except StageError:
        raise StageError(
            f"network {network.name} has no fully connected layer that takes pool5, and so no windows; train it with "
            f"network.fc, such as [1024, 1024], and {_grid_told(network)}"
        ) from None
    axis = map_geometry(network).y
    channels, cells = _map_of_crop(network)
    values = next(one for one in fc.modules() if isinstance(one, nn.Linear)).in_features
    layer = network.trunk.get_submodule(network.node("pool5"))
    if isinstance(layer, PyramidPool):
        pooling = _of_pyramid(layer.levels, network, cells, axis)
    else:
        pooling = _of_layer(layer, network, cells, axis, math.isqrt(values // channels))
    return DenseWindows(network.input.side_px, axis.stride, cells, pooling)


def _grid_told(network: Network) -> str:
    """Word which pyramid would pool a crop's map regularly, and where none would, at which input one does."""
    cells = _map_of_crop(network)[1]
    divisors = [grid for grid in range(7, 2, -1) if cells % grid == 0]
    if divisors:
        return f"network.pyramid: [{divisors[0]}]"
    near = [n for n in range(max(cells - 4, 4), cells + 5) if n % 4 == 0]
    return f"network.pyramid: [4] with network.input.side_px: {_sides(map_geometry(network).y, near)}"


def _map_of_crop(network: Network) -> tuple[int, int]:
    """Find the channels of conv5's map of a crop, and its cells along a side."""
    side = network.input.side_px
    conv = copy.deepcopy(network.graph([network.conv5])).to("meta")
    with torch.inference_mode():
        fmap = conv(torch.empty(1, 3, side, side, device="meta"))[network.conv5]
    return int(fmap.shape[1]), int(fmap.shape[2])


def _of_pyramid(levels: tuple[int, ...], network: Network, cells: int, axis: Axis) -> LastPooling:
    """Read a pyramid as a pooling: one level, whose bins neither overlap nor differ in size."""
    if len(levels) > 1:
        raise StageError(
            f"network {network.name} has a pyramid of {list(levels)}, and windows need a regular last pooling; train "
            "it with network.pyramid of one level"
        )
    (grid,) = levels
    if cells % grid:
        less = cells - cells % grid
        sides = _sides(axis, [n for n in (less, less + grid) if n])
        other = f"network.input.side_px: {sides}, or with " if sides else ""
        raise StageError(
            f"network {network.name} brings {cells} x {cells} cells of a crop to {grid} x {grid}, which is no regular "
            f"pooling; train it with {other}network.pyramid: [{cells}]"
        )
    return LastPooling(grid, cells // grid, cells // grid)


def _of_layer(layer: nn.Module, network: Network, cells: int, axis: Axis, grid: int) -> LastPooling:
    """Read an architecture's own last pooling, from a crop's map to the ``grid`` squared values that fc6 takes."""
    regular = isinstance(layer, nn.MaxPool2d) and layer.dilation == 1
    sizes = (layer.kernel_size, layer.stride, layer.padding) if regular else ()
    alike = [size for size in sizes if isinstance(size, int)]  # in both directions
    if len(alike) < 3:
        raise StageError(
            f"network {network.name} pools its last map by {layer}, and windows need a regular max pooling; choose "
            "another network.name"
        )
    pooling = LastPooling(grid, *alike)
    pooled = int(layer(torch.empty(1, 1, cells, cells, device="meta")).shape[-1])
    if pooled != grid:
        raise StageError(
            f"network {network.name} pools a crop to {pooled} x {pooled} values and averages them to the {grid} x "
            f"{grid} that fc6 takes, which is no regular pooling; train it with network.input.side_px: "
            f"{_sides(axis, [pooling.cells])}"
        )
    return pooling


def _sides(axis: Axis, cells: list[int]) -> str:
    """Say which crops have so many cells along a side, with the last cell as far from the edge as the first."""
    sides = [axis.first + axis.last + 1 + axis.stride * (n - 1) for n in cells]
    return " or ".join(str(side) for side in sides if side <= MAX_SIDE_PX)
