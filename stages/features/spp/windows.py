"""Regions of an image to windows of feature-map cells: which scale, and which cells (SPP paper section 4.1)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import area
from stages.networks.receptive_field import Axis, Geometry

# How far a window reaches past the centres of its cells, in strides: the authors' 6.5 px at ZF-5's stride of 16.
REACH = 6.5 / 16


def choose_scales(
    boxes: NDArray[np.floating], image_side_px: int, scales_px: Sequence[int], target_side_px: int
) -> NDArray[np.int64]:
    """Index into ``scales_px`` for each region: int64 [n].

    ``image_side_px`` is the image's shorter side. The scale at which the region would have ``target_side_px`` squared
    pixels is rounded, and the nearest of ``scales_px`` taken, the first of two equally near (spm_expected_scale.m). The
    paper's target is 224; the authors' code has 13 * 16 = 208.
    """
    wanted = np.floor(target_side_px * image_side_px / np.sqrt(area(boxes)) + 0.5)
    nearest: NDArray[np.int64] = np.abs(np.asarray(scales_px, np.float64) - wanted[:, None]).argmin(axis=1)
    return nearest


def cell_windows(
    boxes: NDArray[np.floating],
    image_side_px: int,
    scale_px: int,
    geometry: Geometry,
    map_shape: tuple[int, int],
) -> NDArray[np.int32]:
    """The cells of each region: int32 [n, 4], ``y1, x1, y2, x2``, 0-based, last row and column exclusive, not empty.

    ``boxes`` [n, 4] are in the image's pixels, whose shorter side is ``image_side_px`` and becomes ``scale_px``;
    ``map_shape`` is the map's height and width. Pixel b goes to ``b * (scale - 1) / (side - 1)``, multiplied first, so
    that one which falls exactly between two cells does so here, too; and a window has the
    cells whose centres lie between its first and last pixel, stretched by half a stride less ``REACH`` on either side:
    for ZF-5 the authors' ``floor((x1 - 21 + 6.5) / 16 + .5) + 1`` to ``ceil((x2 - 21 - 6.5) / 16 - .5) + 1`` of 1-based
    pixels and cells (spm_pool_caffe_mex.cpp). A window between two centres gets the cell halfway; then both ends are
    brought into the map.
    """
    b = np.asarray(boxes, np.float64).reshape(-1, 4)
    grown, apart = scale_px - 1, max(image_side_px - 1, 1)
    out = np.empty((len(b), 4), np.int32)
    for column, axis, extent in ((0, geometry.y, map_shape[0]), (1, geometry.x, map_shape[1])):
        side = 1 - column  # boxes have x first
        first, last = b[:, side] * grown / apart, (b[:, side + 2] - 1) * grown / apart
        out[:, column], out[:, column + 2] = _cells(first, last, axis, extent)
    return out


def _cells(
    first: NDArray[np.float64], last: NDArray[np.float64], axis: Axis, extent: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells of pixels ``first`` to ``last`` inclusive, as a half-open range, brought into the map."""
    left, right = _reached(first, last, axis)
    crossed = left > right
    middle = (left + right) // 2
    left, right = np.where(crossed, middle, left), np.where(crossed, middle, right)
    return left.clip(0, extent - 1), right.clip(0, extent - 1) + 1


def _reached(
    first: NDArray[np.float64], last: NDArray[np.float64], axis: Axis
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last cell (inclusive) of pixels ``first`` to ``last``, wherever the map ends; they may be crossed."""
    reach = REACH * axis.stride
    left = np.floor((first - axis.centre + reach) / axis.stride + 0.5).astype(np.int64)
    right = np.ceil((last - axis.centre - reach) / axis.stride - 0.5).astype(np.int64)
    return left, right


def responses(
    boxes: NDArray[np.floating],
    image_side_px: int,
    scales_px: Sequence[int],
    target_side_px: int,
    geometry: Geometry,
) -> NDArray[np.int64]:
    """Return what the authors tell regions of an image apart by: int64 [n, 5], the scale's index, then y1, x1, y2, x2.

    These are the first and last cells as they come out of the formula of :func:`cell_windows`: neither uncrossed nor
    brought into the map (spm_response_boxes.m). So two regions may have one window of cells and different responses.
    """
    b = np.asarray(boxes, np.float64).reshape(-1, 4)
    chosen = choose_scales(b, image_side_px, scales_px, target_side_px)
    grown, apart = np.asarray(scales_px, np.float64)[chosen] - 1, max(image_side_px - 1, 1)
    y1, y2 = _reached(b[:, 1] * grown / apart, (b[:, 3] - 1) * grown / apart, geometry.y)
    x1, x2 = _reached(b[:, 0] * grown / apart, (b[:, 2] - 1) * grown / apart, geometry.x)
    return np.stack([chosen, y1, x1, y2, x2], axis=1)
