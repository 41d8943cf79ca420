"""Anchors: the reference boxes that stand at every cell of a feature map (Faster R-CNN paper section 3).

Boxes are the house's: px of the resized image, right and bottom edge exclusive. py-faster-rcnn's inclusive
``[-84, -40, 99, 55]`` is ``[-84, -40, 100, 56]`` here, 184 x 96 px around (8, 8).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from stages.networks.receptive_field import Geometry

Rule = Literal["authors", "exact"]
Floats = NDArray[np.float64]

_BASE_PX = 16  # the side of py-faster-rcnn's base anchor, whose shapes are rounded before they are scaled


@dataclass(frozen=True)
class Anchors:
    """The shapes of the anchors at one cell: every scale in every ratio.

    ``scales_px`` are square roots of areas in px of the resized image, ``ratios`` height / width. By ``authors`` rule a
    shape is rounded to whole pixels at 16 x 16 px and then scaled (184 x 96 for 128 px and ratio 1/2, half to even as
    numpy rounds); ``exact`` ones have the scale's area. torchvision's are the exact ones with half sides rounded.
    """

    scales_px: tuple[float, ...]
    ratios: tuple[float, ...]
    rule: Rule = "authors"

    def __len__(self) -> int:
        return len(self.scales_px) * len(self.ratios)

    def shapes(self) -> Floats:
        """Return the anchors around the point (0, 0): float64 [A, 4], ratio after ratio, each at every scale.

        Raises StageError where rounding leaves a shape without width or height, or makes two ratios the same.
        """
        ratios, scales = np.asarray(self.ratios, np.float64), np.asarray(self.scales_px, np.float64)
        if self.rule == "authors":
            widths = np.round(np.sqrt(_BASE_PX**2 / ratios))
            sides = np.stack([widths, np.round(widths * ratios)], axis=1)  # [ratios, 2]
            _check_rounded(sides, self.ratios)
            factors = scales / _BASE_PX
        else:
            sides, factors = np.stack([1 / np.sqrt(ratios), np.sqrt(ratios)], axis=1), scales
        half = (0.5 * sides[:, None] * factors[None, :, None]).reshape(-1, 2)
        return np.concatenate([-half, half], axis=1)

    def grid(self, map_shape: tuple[int, int], places: "Places") -> Floats:
        """Put the shapes on every cell of a map of (h, w) cells: float64 [h * w * A, 4] in the order (h, w, a)."""
        h, w = map_shape
        x = places.x0 + places.stride_x * np.arange(w, dtype=np.float64)
        y = places.y0 + places.stride_y * np.arange(h, dtype=np.float64)
        centres = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)  # [h, w, 2]
        return (np.tile(centres, 2)[:, :, None] + self.shapes()).reshape(-1, 4)


def _check_rounded(sides: Floats, ratios: tuple[float, ...]) -> None:
    """Raise StageError where the authors' rounding leaves nothing of a shape, or two ratios have one shape."""
    first: dict[tuple[float, ...], float] = {}
    for side, ratio in zip(sides.tolist(), ratios, strict=True):
        width, height = side
        if not (width and height):
            raise StageError(
                f"rpn.ratios: {ratio:g} rounded as the authors do is {width:g} x {height:g} px at {_BASE_PX} px, a box "
                "without area; set rpn.anchors to exact, or choose a ratio nearer 1"
            )
        if tuple(side) in first:
            raise StageError(
                f"rpn.ratios: {first[tuple(side)]:g} and {ratio:g} rounded as the authors do are both {width:g} x "
                f"{height:g} px at {_BASE_PX} px, the same anchors twice; leave one out, or set rpn.anchors to exact"
            )
        first[tuple(side)] = ratio


@dataclass(frozen=True)
class Places:
    """Where the cells of a map lie in the image: the centre of cell (0, 0) and the steps, px, from the image's edges.

    Pixel 0 covers 0 to 1 of these coordinates, so that its centre is at 0.5.
    """

    x0: float
    y0: float
    stride_x: float
    stride_y: float


def own_places(geometry: Geometry) -> Places:
    """Return the centres of the cells' receptive fields: where the network itself looks (ours, and the default).

    For VGG16 the same as :func:`authors_places`; for ZF half a stride to the upper left of them.
    """
    x, y = geometry.x, geometry.y
    return Places(x.centre + 0.5, y.centre + 0.5, x.stride, y.stride)


def authors_places(geometry: Geometry) -> Places:
    """Return py-faster-rcnn's centres: half a stride from the edge whatever the network (7.5 + 16 i in its pixels)."""
    x, y = geometry.x.stride, geometry.y.stride
    return Places(x / 2, y / 2, x, y)


def inside(boxes: NDArray[Any], width: int, height: int, border_px: float | None) -> NDArray[np.bool_]:
    """Tell which boxes reach at most ``border_px`` beyond the image's edges: [n, 4] -> bool [n]; None: all of them."""
    if border_px is None:
        return np.ones(len(boxes), np.bool_)
    within: NDArray[np.bool_] = (
        (np.minimum(boxes[:, 0], boxes[:, 1]) >= -border_px)
        & (boxes[:, 2] <= width + border_px)
        & (boxes[:, 3] <= height + border_px)
    )
    return within
