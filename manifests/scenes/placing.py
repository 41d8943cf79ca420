"""Where digits go in a scene, what lies over them, and how much of each is left to be seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .digits import Box, DigitShape
from .distractors import at_rim, occluder
from .layers import Canvas, extent, hide, overlap, paint

CROWDING = 0.1  # two bodies' boxes may share this much of the smaller one
HIDDEN_MOST = 0.55  # nothing laid over a digit may hide more of its ink than this in all
_PLACES = 40  # places tried before a digit is given up as too large for the room there is


@dataclass
class Placed:
    """A digit on the canvas while the scene grows; ``visible`` bool [H, W] is what is left of its ink."""

    shape: DigitShape
    glyph: int
    box: Box
    body_box: Box
    inside: float
    visible: NDArray[np.bool_]
    ink_px: int
    faint: bool = False

    @property
    def share(self) -> float:
        """Part of the ink inside the image that nothing hides, 0 to 1."""
        return float(self.visible.sum()) / self.ink_px


def find_place(
    rng: np.random.Generator, shape: DigitShape, canvas: tuple[int, ...], truncate: bool, placed: list[Placed]
) -> tuple[int, int] | None:
    """Where the window's top left pixel goes; None if no place was found that is not too crowded."""
    x1, y1, x2, y2 = shape.ink_box
    body = extent(shape.body)
    assert body is not None
    if max(x2 - x1, 0) > canvas[1] - 4 or max(y2 - y1, 0) > canvas[0] - 4:
        return None
    for _ in range(_PLACES):
        x = int(rng.integers(2 - x1, canvas[1] - 2 - x2 + 1))
        y = int(rng.integers(2 - y1, canvas[0] - 2 - y2 + 1))
        if truncate:
            x, y = _across_border(rng, shape.ink_box, canvas, x, y)
        here = (body[0] + x, body[1] + y, body[2] + x, body[3] + y)
        if all(_shared(here, other.body_box) <= CROWDING for other in placed):
            return x, y
    return None


def _across_border(rng: np.random.Generator, box: Box, canvas: tuple[int, ...], x: int, y: int) -> tuple[int, int]:
    """The place (x, y) moved so that 15 to 40 % of the box's width or height lies outside the image."""
    x1, y1, x2, y2 = box
    cut = rng.uniform(0.15, 0.4)
    side = int(rng.integers(4))
    if side < 2:
        out = round(cut * (x2 - x1))
        return (-out - x1 if side == 0 else canvas[1] + out - x2), y
    out = round(cut * (y2 - y1))
    return x, (-out - y1 if side == 2 else canvas[0] + out - y2)


def _shared(a: Box, b: Box) -> float:
    """Intersection of two boxes over the area of the smaller."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(w, 0) * max(h, 0) / smaller


def on_canvas(shape: DigitShape, glyph: int, place: tuple[int, int], canvas: tuple[int, ...], is_faint: bool) -> Placed:
    """A digit whose window's top left pixel is at ``place`` (x, y) of a canvas of this shape, nothing over it yet."""
    x, y = place
    ink = shape.ink
    visible = np.zeros(canvas[:2], bool)
    there, here = overlap(ink.shape, x, y, canvas)
    visible[there] = ink[here]
    box, body = extent(visible), extent(shape.body)
    assert box is not None and body is not None  # at least 60 % of the box lies inside the image
    ink_px = int(visible.sum())
    body_box = (body[0] + x, body[1] + y, body[2] + x, body[3] + y)
    return Placed(shape, glyph, box, body_box, ink_px / int(ink.sum()), visible, ink_px, is_faint)


def occlude(rng: np.random.Generator, split: str, canvas: Canvas, digit: Placed, placed: list[Placed]) -> None:
    """Lay something over the rim of a digit, unless it would hide too much of it or of a neighbour."""
    x1, y1, x2, y2 = digit.box
    layer = occluder(rng, split, extent_px=rng.uniform(0.4, 0.8) * max(x2 - x1, y2 - y1))
    layer = at_rim(rng, layer, digit.box)
    after = [p.visible.copy() for p in placed]
    for mask in after:
        hide(mask, layer)
    if any(mask.sum() < (1 - HIDDEN_MOST) * p.ink_px for mask, p in zip(after, placed, strict=True)):
        return
    paint(canvas, layer)
    for p, mask in zip(placed, after, strict=True):
        p.visible = mask
