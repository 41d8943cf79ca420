"""Placement of the labels of boxes, so that each can be read."""

from collections.abc import Sequence

Corner = tuple[float, float]


def place(
    boxes: Sequence[Sequence[float]], extents: Sequence[tuple[float, float]], width: float, height: float
) -> list[Corner]:
    """Find the left top corner of each box's label, in a picture of ``width`` x ``height`` px.

    ``boxes``: ``x1, y1, x2, y2``; ``extents``: width and height of their labels. A label lies above its box, inside at
    the top, below, or inside at the bottom: the first of these that is in the picture and covers no earlier label; if
    each covers one, the first in the picture.
    """
    taken: list[tuple[float, float, float, float]] = []
    for (x1, y1, _x2, y2), (w, h) in zip(boxes, extents, strict=True):
        left = max(0.0, min(x1, width - w))
        inside = [y for y in (y1 - h, y1, y2, y2 - h) if 0 <= y <= height - h] or [max(0.0, min(y1, height - h))]
        free = (y for y in inside if not any(_overlap((left, y, left + w, y + h), other) for other in taken))
        top = next(free, inside[0])
        taken.append((left, top, left + w, top + h))
    return [(left, top) for left, top, _right, _bottom in taken]


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
