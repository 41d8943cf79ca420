"""Photographs with boxes: a JPEG inside an SVG, so that the boxes stay sharp at any size."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .labels import place
from .markup import Markup, tag

# A crop around a box shows this much of the box's own size on each side, and at least this many px of photograph.
_CONTEXT, _LEAST_PX = 0.6, 96
# Labels (page.css: 600 11px): a line, its baseline, a letter (one of the wider), and space on both sides.
_LABEL_PX, _BASELINE_PX, _LETTER_PX, _LABEL_PAD = 14, 11, 7, 3


@dataclass(frozen=True)
class Mark:
    """A box ``x1, y1, x2, y2`` in px of the photograph; ``style``, a class of the style sheet, is its colour."""

    box: Sequence[float]
    style: str
    text: str = ""


def window(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Choose the part of a photograph around ``box`` that is worth showing: integer ``x1, y1, x2, y2`` inside it."""
    edges = []
    for low, high, limit in ((box[0], box[2], width), (box[1], box[3], height)):
        half = max((high - low) * (0.5 + _CONTEXT), _LEAST_PX / 2)
        centre = (low + high) / 2
        first = min(max(0, int(np.floor(centre - half))), max(0, limit - 1))
        edges.append((first, max(first + 1, min(limit, int(np.ceil(centre + half))))))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def jpeg_uri(pixels: NDArray[Any], quality: int) -> str:
    """Encode uint8 [H, W, 3] RGB as a ``data:`` URI."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"cannot encode a picture of {pixels.shape}")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def picture(
    pixels: NDArray[np.uint8],
    marks: Sequence[Mark],
    caption: str,
    *,
    part: tuple[int, int, int, int] | None = None,
    longest_px: int,
    quality: int,
) -> Markup:
    """Make a figure of the photograph or of its ``part``, its longest side at most ``longest_px``."""
    photograph = _scaled(pixels, part, longest_px, quality)
    return _figure(photograph, photograph.image(), marks, caption)


def side_by_side(
    pixels: NDArray[np.uint8],
    columns: Sequence[tuple[Sequence[Mark], str]],
    *,
    name: str,
    longest_px: int,
    quality: int,
) -> list[Markup]:
    """Make a figure of the same photograph for each column (marks, caption).

    The page holds the photograph once, in the first figure, under the id ``name``, which must be the page's only one.
    """
    photograph = _scaled(pixels, None, longest_px, quality)
    images = [photograph.image(id=name), tag("use", href=f"#{name}")]
    return [_figure(photograph, images[min(i, 1)], *column) for i, column in enumerate(columns)]


@dataclass(frozen=True)
class _Photograph:
    """A part of a photograph that begins at ``x``, ``y`` px, shown in ``width`` x ``height`` px: ``scale`` times."""

    uri: str
    x: int
    y: int
    width: int
    height: int
    scale: float

    def image(self, **more: str) -> Markup:
        return tag("image", href=self.uri, width=self.width, height=self.height, preserveAspectRatio="none", **more)


def _scaled(
    pixels: NDArray[np.uint8], part: tuple[int, int, int, int] | None, longest_px: int, quality: int
) -> _Photograph:
    x1, y1, x2, y2 = part or (0, 0, pixels.shape[1], pixels.shape[0])
    shown: NDArray[Any] = np.ascontiguousarray(pixels[y1:y2, x1:x2])
    scale = longest_px / max(shown.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (x2 - x1, y2 - y1))
    if scale < 1:
        shown = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)
    return _Photograph(jpeg_uri(shown, quality), x1, y1, width, height, scale)


def _figure(photograph: _Photograph, image: Markup, marks: Sequence[Mark], caption: str) -> Markup:
    width, height, corner = photograph.width, photograph.height, [photograph.x, photograph.y] * 2
    boxes = [((np.asarray(mark.box, np.float64) - corner) * photograph.scale).round(1).tolist() for mark in marks]
    parts = [image]
    for box, mark in zip(boxes, marks, strict=True):
        parts += _outline(box, mark)
    parts += _labels([(box, mark) for box, mark in zip(boxes, marks, strict=True) if mark.text], width, height)
    size: Any = {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    return tag("figure", tag("svg", *parts, class_="picture", role="img", **size), tag("figcaption", caption))


def _outline(box: Sequence[float], mark: Mark) -> list[Markup]:
    left, top, right, bottom = box
    sides: Any = {"x": left, "y": top, "width": max(0.0, right - left), "height": max(0.0, bottom - top)}
    return [tag("rect", class_="halo", **sides), tag("rect", class_=f"box {mark.style}", **sides)]


def _labels(named: Sequence[tuple[Sequence[float], Mark]], width: int, height: int) -> list[Markup]:
    """Write the texts, above all outlines. How wide one is shown, only the browser knows: here it is estimated."""
    extents = [(min(width, 2 * _LABEL_PAD + _LETTER_PX * len(mark.text)), _LABEL_PX) for _, mark in named]
    corners = place([box for box, _ in named], extents, width, height)
    parts = []
    for (box, mark), (left, top), (extent, _) in zip(named, corners, extents, strict=True):
        at: Any = {"x": round(left + _LABEL_PAD, 1)}
        if left < box[0]:  # moved to the left: its end is what must not be cut
            at = {"x": width - _LABEL_PAD, "text_anchor": "end"}
        if extent == width:
            at |= {"textLength": width - 2 * _LABEL_PAD, "lengthAdjust": "spacingAndGlyphs"}
        parts.append(tag("text", mark.text, y=round(top + _BASELINE_PX, 1), class_=f"label {mark.style}", **at))
    return parts
