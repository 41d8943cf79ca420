"""The cells of a layer's units in the network's input, and the part of the crop that each sees."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages.networks.network import Network
from stages.networks.receptive_field import Axis, map_geometry

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """A layer that is a map of ``channels`` x ``rows`` x ``columns`` units, flattened in this order.

    ``fields`` int64 [rows, columns, 4]: the receptive field of each cell in px of the network's input, x1, y1, x2, y2,
    right and bottom exclusive, cut at the input's edges.
    """

    channels: int
    rows: int
    columns: int
    fields: Ints

    def unit(self, y: int, x: int, channel: int) -> int:
        """Return the number of a unit; the authors' ``c * 36 + y * 6 + x``."""
        return (channel * self.rows + y) * self.columns + x

    @property
    def centre(self) -> tuple[int, int]:
        """The cell (y, x) in the middle; of an even number the later one, whose field is nearer to the crop's."""
        return self.rows // 2, self.columns // 2


def cells_of(network: Network, layer: str, length: int) -> Cells | None:
    """Find the cells of a layer whose feature has ``length`` units; None where it has none (fc6, fc7, a pyramid).

    Fields are worked out from the network's kernels, strides and paddings (:func:`map_geometry`); a cell of pool5
    averaged to a grid sees what all cells that are averaged see. (pool5 of CaffeNet: 195 px, centres 33 + 32 i.)
    """
    side, like = network.input.side_px, next(network.parameters())
    node = network.node(layer)
    with torch.inference_mode():
        shape = network.graph([layer])(torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device))[node].shape
    if len(shape) != 4:
        return None
    channels, rows, columns = (int(extent) for extent in shape[1:])
    grid = network.pool5_grid if layer == "pool5" else None
    shown = (rows, columns) if grid is None else (grid, grid)
    if channels * shown[0] * shown[1] != length or shown == (1, 1):
        return None
    geometry = map_geometry(network, layer)
    y = _spans(geometry.y, rows, shown[0], side)
    x = _spans(geometry.x, columns, shown[1], side)
    return Cells(channels, *shown, _boxes(y, x))


def _spans(axis: Axis, cells: int, shown: int, side: int) -> Ints:
    """Return where the fields begin and end along one direction: int64 [shown, 2], of ``cells`` averaged to these."""
    at = np.arange(shown)
    first, last = at * cells // shown, -(-(at + 1) * cells // shown) - 1
    spans = np.stack([axis.first + axis.stride * first, axis.last + axis.stride * last + 1], axis=1)
    cut: Ints = np.clip(spans, 0, side)
    return cut


def _boxes(y: Ints, x: Ints) -> Ints:
    fields = np.empty((len(y), len(x), 4), np.int64)
    fields[:, :, 0], fields[:, :, 2] = x[:, 0], x[:, 1]
    fields[:, :, 1], fields[:, :, 3] = y[:, :1], y[:, 1:]
    return fields


def evenly_spaced(cells: Cells, network: Network, layer: str) -> Cells:
    """Return the cells with fields as the authors' pool5 explorer draws them: the true extent, evenly spaced centres.

    Of CaffeNet's pool5 at 19, 57, 95, 132, 170, 208, 97 px to either side; the true centres are 33 + 32 i.
    """
    side, geometry = network.input.side_px, map_geometry(network, layer)
    spans = []
    for axis, n in ((geometry.y, cells.rows), (geometry.x, cells.columns)):
        centres = np.rint(side * (2 * np.arange(n) + 1) / (2 * n)).astype(np.int64)
        half = (axis.last - axis.first) // 2
        spans.append(np.clip(np.stack([centres - half, centres + half + 1], axis=1), 0, side))
    return Cells(cells.channels, cells.rows, cells.columns, _boxes(*spans))
