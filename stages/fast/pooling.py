"""RoI pooling: the cells of a feature map under each RoI, as a grid of k x k values (Fast R-CNN section 2.1).

``max`` is the authors' RoI pooling, Caffe's roi_pooling_layer.cu: both corners of the RoI are divided by the stride and
rounded, half away from 0; the window reaches from one to the other, the last cell included, and has at least one cell;
its bins begin at floors and end at ceilings of float32 products, so that they overlap; only then are they cut to the
map. An empty bin is 0. Half of all RoIs touch the image's right or bottom edge and leave the map there: pixel 799 of
800 rounds to cell 50, and the map ends at 49. ``align`` is RoIAlign (He et al. 2017), with 2 x 2 samples a bin.

**Coordinates.** Boxes come as all boxes here, with exclusive right and bottom edges, in the pixels of any image whose
``scale`` leads to the network's input: the original image with its (scale_x, scale_y), or the input itself with 1.
``max`` takes ``x1 * scale_x, y1 * scale_y, (x2 - 1) * scale_x, (y2 - 1) * scale_y``: pixel indices, of which the last
is inclusive, as the authors' are before they are scaled. ``align`` takes ``x1 * scale_x`` ... ``x2 * scale_x``: edges.

**Cells.** RoI pooling takes cell i for one that lies at pixel ``stride * i``, which is so for ZF-5 as Faster R-CNN has
it; RoIAlign takes it for one that covers pixels from ``stride * i`` on, so that its centre is half a stride further.
With ``cells: own`` (ours) RoIs are moved by what the network's own cell centres differ from that.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from stages.networks.receptive_field import Axis, Geometry

SAMPLES = 2  # of RoIAlign's, per bin and direction
_LEAST = np.finfo(np.float32).min

PoolingKind = Literal["max", "align"]
Cells = Literal["authors", "own"]


@dataclass(frozen=True)
class RoiPooling:
    """How RoIs are pooled: the grid's side k, how a cell of the map lies in the network's input, and the two choices
    that the module's text explains."""

    grid: int
    geometry: Geometry
    kind: PoolingKind = "max"
    cells: Cells = "authors"

    def __post_init__(self) -> None:
        if self.geometry.x.stride != self.geometry.y.stride:
            raise ValueError(f"RoI pooling needs one stride for both directions, not {self.geometry}")

    @property
    def stride(self) -> int:
        """Pixels of the network's input from cell to cell."""
        return self.geometry.x.stride

    def __call__(self, fmap: Tensor, boxes: NDArray[Any], scale: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """Pool the RoIs of one image.

        On a CPU ``max`` is computed by this module, on CUDA by torchvision, to the same bits; both have gradients.

        Args:
            fmap: [1, c, h, w]; quickest in channels-last memory.
            boxes: [n, 4] px.
            scale: In x and in y, from the boxes' image to the network's input.

        Returns:
            float32 [n, c, k, k].
        """
        fmap = fmap.float()
        if self.kind == "max" and fmap.device.type == "cpu":
            tops, lefts = self._bins(boxes, scale, (fmap.shape[2], fmap.shape[3]))
            pooled: Tensor = _LargestInBins.apply(fmap, tops, lefts)
            return pooled
        corners = [torch.from_numpy(self.corners(boxes, scale)).to(fmap.device)]
        if self.kind == "max":
            pooled = roi_pool(fmap, corners, self.grid, 1 / self.stride)
        else:
            pooled = roi_align(fmap, corners, self.grid, 1 / self.stride, SAMPLES, aligned=True)
        return pooled

    def corners(self, boxes: NDArray[Any], scale: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float32]:
        """Return what torchvision's ``roi_pool`` or ``roi_align`` is given: float32 [n, 4] px of the network's input.

        Computed in float64 and rounded once, as py-faster-rcnn does.
        """
        b = np.asarray(boxes, np.float64).reshape(-1, 4)
        inclusive = self.kind == "max"
        ends = b - [0, 0, 1, 1] if inclusive else b
        moved = [self._offset(axis) for axis in (self.geometry.x, self.geometry.y)] * 2
        return (ends * (scale * 2) - moved).astype(np.float32)

    def _offset(self, axis: Axis) -> float:
        """How much further the network's cells lie than the pooling takes them to, in px."""
        if self.cells == "authors":
            return 0.0
        if self.kind == "max":
            return axis.centre
        return axis.centre + 0.5 - axis.stride / 2  # the middle of pixel i is at i + .5 of edges' coordinates

    def distinct(
        self, boxes: NDArray[Any], scale: tuple[float, float] = (1.0, 1.0)
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find RoIs that give the same pooled values because they have the same cells.

        py-faster-rcnn does so for proposals that are not a network's (``DEDUP_BOXES``). Its rounding there, half to
        even, is not its layer's; here it is the same, so that no result changes. It also gives all such RoIs the box
        that is decoded from one of them; here each is decoded from its own.

        Returns:
            ``rows`` int64 [m], the first RoI of each kind, and ``which`` int64 [n], so that a value of the m is
            ``value[which]`` of all.
        """
        corners = self.corners(boxes, scale)
        windows = self._windows(corners) if self.kind == "max" else corners
        _, rows, which = np.unique(windows, axis=0, return_index=True, return_inverse=True)
        return rows.astype(np.int64), which.reshape(-1).astype(np.int64)

    def _windows(self, corners: NDArray[np.float32]) -> NDArray[np.int64]:
        """First and last cells, inclusive: int64 [n, 4] (x, y, x, y), wherever the map ends."""
        cells = (corners * np.float32(1 / self.stride)).astype(np.float64)
        return (np.sign(cells) * np.floor(np.abs(cells) + 0.5)).astype(np.int64)

    def _bins(
        self, boxes: NDArray[Any], scale: tuple[float, float], shape: tuple[int, int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows and columns of the bins in a map of ``shape`` (h, w): each int32 [n, 2, k], from and up to."""
        windows = self._windows(self.corners(boxes, scale))
        bins = []
        for axis, extent in ((1, shape[0]), (0, shape[1])):
            first, last = windows[:, axis, None], windows[:, axis + 2, None]
            side = np.maximum(last - first + 1, 1).astype(np.float32) / np.float32(self.grid)  # [n, 1]
            steps = np.arange(self.grid + 1, dtype=np.float32)
            begins = np.floor(steps[:-1] * side).astype(np.int64) + first
            ends = np.ceil(steps[1:] * side).astype(np.int64) + first
            bins.append(np.stack([begins, ends], axis=1).clip(0, extent).astype(np.int32))
        return bins[0], bins[1]


class _LargestInBins(torch.autograd.Function):
    """The largest value of each bin, per channel; its gradient goes to the cell that had it, the first of several."""

    @staticmethod
    def forward(ctx: Any, fmap: Tensor, tops: NDArray[np.int32], lefts: NDArray[np.int32]) -> Tensor:
        """float32 [1, c, h, w], bins [n, 2, k] in y and x -> float32 [n, c, k, k]."""
        _, c, h, w = fmap.shape
        n, _, k = tops.shape
        cells = fmap.detach()[0].permute(1, 2, 0).contiguous().numpy()
        out = torch.empty(n, c, k, k)
        winners = np.empty((n, k * k, c), np.int32)
        _pool(cells, tops, lefts, out.numpy().reshape(n, c, k * k), winners)
        ctx.winners, ctx.shape = winners, (h, w, c)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """float32 [n, c, k, k] -> float32 [1, c, h, w], channels last."""
        h, w, c = ctx.shape
        spread = torch.zeros(h, w, c)
        given = gradients[0].detach().contiguous().flatten(2).numpy()
        _spread(given, ctx.winners, spread.numpy().reshape(h * w, c))
        return spread.permute(2, 0, 1)[None], None, None


@njit(cache=True, nogil=True)
def _pool(cells: Any, tops: Any, lefts: Any, out: Any, winners: Any) -> None:
    """cells [h, w, c] -> out [n, c, k * k] and the cells' numbers y * w + x, winners [n, k * k, c]; -1: none."""
    k, w = tops.shape[2], cells.shape[1]
    values = np.empty((k * k, cells.shape[2]), np.float32)
    for r in range(len(tops)):
        for i in range(k):
            for j in range(k):
                value, winner = values[i * k + j], winners[r, i * k + j]
                top, bottom, left, right = tops[r, 0, i], tops[r, 1, i], lefts[r, 0, j], lefts[r, 1, j]
                winner[:] = -1
                value[:] = 0 if top >= bottom or left >= right else _LEAST
                for y in range(top, bottom):
                    for x in range(left, right):
                        _raise_to(value, winner, cells[y, x], np.int32(y * w + x))
        _turn(values, out[r])


@njit(cache=True, nogil=True, inline="always")
def _raise_to(value: Any, winner: Any, others: Any, number: Any) -> None:
    """value = max(value, others) and whose it is, channel by channel; without a branch, so that it is vectorised."""
    for c in range(value.size):
        a, b = value[c], others[c]
        above = b > a
        value[c] = b if above else a
        winner[c] = number if above else winner[c]


@njit(cache=True, nogil=True)
def _turn(values: Any, out: Any) -> None:
    """Turn [bins, c] into [c, bins]."""
    for c in range(out.shape[0]):
        for b in range(out.shape[1]):
            out[c, b] = values[b, c]


@njit(cache=True, nogil=True)
def _spread(given: Any, winners: Any, out: Any) -> None:
    """Add given [n, c, k * k] to the cells that won: out [h * w, c], RoI by RoI and bin by bin."""
    values = np.empty((given.shape[2], given.shape[1]), np.float32)
    for r in range(len(given)):
        _turn(given[r], values)
        for b in range(values.shape[0]):
            for c in range(values.shape[1]):
                cell = winners[r, b, c]
                if cell >= 0:
                    out[cell, c] += values[b, c]
