"""Things that are no digits: letter-like strokes, pieces of glyphs, turned glyphs, plain shapes, pieces of photographs.

A distractor is a function of (generator, bank, split, extent in px) that returns a coverage mask, float32 [h, w], and
for a piece of a photograph its pixels. None of them may look like a digit to a person: no rings, no straight bars, no
glyph cut so little that it can still be read, and of turned glyphs only those that are no digit when lying down.
"""

import numpy as np
from numpy.typing import NDArray

from .colours import Colour, contrasting, faint, pattern, random_colour
from .glyphs import BLOCKS, GlyphBank
from .layers import Canvas, Frame, Layer, affine, edge, frame, overlap
from .photographs import photo_crop

KINDS = ("strokes", "piece", "turned", "polygon", "ellipse", "photograph")
_WEIGHTS = (0.22, 0.16, 0.1, 0.2, 0.12, 0.2)
PATTERNED = 0.3  # of the plain shapes, strokes and pieces of glyphs
_TURNED_LABELS = (2, 3, 4, 5, 7)


def random_distractor(rng: np.random.Generator, bank: GlyphBank, split: str, extent_px: float, canvas: Canvas) -> Layer:
    """One distractor about ``extent_px`` across, at a random place, the colour chosen against what lies there."""
    kind = str(rng.choice(KINDS, p=_WEIGHTS))
    window, coverage = _shape(rng, bank, split, extent_px, kind)
    h, w = coverage.shape
    # Its centre is inside the image, so there is something to see of it.
    x, y = int(rng.integers(canvas.shape[1])) - w // 2, int(rng.integers(canvas.shape[0])) - h // 2
    if kind == "photograph":
        return Layer(coverage, photo_crop(rng, split, w, h), x, y)
    there, _ = overlap(coverage.shape, x, y, canvas.shape)
    colour = contrasting(rng, canvas[there].mean(axis=(0, 1)), least=0.2)
    return Layer(coverage, _fill(rng, window, colour), x, y)


def occluder(rng: np.random.Generator, split: str, extent_px: float) -> Layer:
    """A plain shape or a piece of a photograph, to be laid over part of a digit (placed at 0, 0)."""
    kind = str(rng.choice(["polygon", "ellipse", "photograph"]))
    window, coverage = _plain_shape(rng, extent_px, kind)
    if kind == "photograph":
        return Layer(coverage, photo_crop(rng, split, coverage.shape[1], coverage.shape[0]))
    return Layer(coverage, _fill(rng, window, random_colour(rng)))


def _fill(rng: np.random.Generator, window: Frame, colour: Colour) -> NDArray[np.float32]:
    """The colour, or now and then a pattern of it and another."""
    if rng.random() >= PATTERNED:
        return colour
    return pattern(rng, window, colour, random_colour(rng), period=rng.uniform(0.2, 0.6))


def smear(rng: np.random.Generator, extent_px: float, colour: Colour) -> Layer:
    """A plain shape in nearly a digit's colour, to be put behind it: they are hard to tell apart (placed at 0, 0)."""
    _, coverage = _plain_shape(rng, extent_px, str(rng.choice(["polygon", "ellipse"])))
    return Layer(coverage, faint(rng, colour))


def at_rim(rng: np.random.Generator, layer: Layer, box: tuple[int, int, int, int]) -> Layer:
    """The layer with its centre somewhere on the ellipse inside ``box``."""
    x1, y1, x2, y2 = box
    angle, (h, w) = rng.uniform(0, 2 * np.pi), layer.coverage.shape
    cx = (x1 + x2) / 2 + np.cos(angle) * (x2 - x1) / 2
    cy = (y1 + y2) / 2 + np.sin(angle) * (y2 - y1) / 2
    return layer.moved(round(cx - w / 2), round(cy - h / 2))


def _shape(
    rng: np.random.Generator, bank: GlyphBank, split: str, extent_px: float, kind: str
) -> tuple[Frame, NDArray[np.float32]]:
    if kind == "strokes":
        return _strokes(rng, extent_px)
    if kind in ("piece", "turned"):
        return _glyph_part(rng, bank, split, extent_px, turned=kind == "turned")
    return _plain_shape(rng, extent_px, kind)


def _strokes(rng: np.random.Generator, extent_px: float) -> tuple[Frame, NDArray[np.float32]]:
    """Two or three curved strokes that meet, as in a letter of an unknown alphabet. Local units: half the extent."""
    window = frame(rng, affine(extent_px / 2, rng.uniform(0, 360), 0, 1), (1.25, 1.25))
    squared = np.full(window.u.shape, np.inf)  # distance of each pixel to the nearest point of a stroke
    knot = rng.uniform(-0.3, 0.3, size=2)
    directions = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(1.6, 2.6, size=int(rng.integers(2, 4))))
    t = np.linspace(0, 1, 16)[:, None]
    for direction in directions:
        end = np.array([np.cos(direction), np.sin(direction)]) * rng.uniform(0.7, 1.0)
        bend = (knot + end) / 2 + rng.normal(0, 0.35, size=2)
        curve = (1 - t) ** 2 * knot + 2 * t * (1 - t) * bend + t**2 * end
        for x, y in curve:
            np.minimum(squared, (window.u - x) ** 2 + (window.v - y) ** 2, out=squared)
    distance = rng.uniform(0.14, 0.22) - np.sqrt(squared)
    return window, edge(distance.astype(np.float32), window.scale)


def _glyph_part(
    rng: np.random.Generator, bank: GlyphBank, split: str, extent_px: float, turned: bool
) -> tuple[Frame, NDArray[np.float32]]:
    """A whole glyph turned by a quarter, or less than half of an upright one. Local units: glyph pixels."""
    label = int(rng.choice(_TURNED_LABELS)) if turned else int(rng.integers(10))
    glyph = bank.draw(rng, BLOCKS[split], label)
    degrees = rng.choice([-90, 90]) + rng.uniform(-15, 15) if turned else rng.uniform(0, 360)
    matrix = affine(extent_px / (2 * max(glyph.half)), degrees, rng.uniform(-0.3, 0.3), 1)
    window = frame(rng, matrix, (glyph.half[0] + 1, glyph.half[1] + 1))
    distance = glyph.distances(window.u, window.v) + np.float32(0.1)
    if not turned:
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * window.u + np.sin(angle) * window.v
        level = np.quantile(along[distance > 0], rng.uniform(0.55, 0.7))
        distance = np.minimum(distance, (along - level).astype(np.float32))
    return window, edge(distance, window.scale)


def _plain_shape(rng: np.random.Generator, extent_px: float, kind: str) -> tuple[Frame, NDArray[np.float32]]:
    """A convex polygon of 3 to 6 sides, an ellipse, or the rectangle of a photograph. Local units: half the extent."""
    stretch = float(np.exp(rng.uniform(-0.5, 0.5)))
    matrix = affine(extent_px / 2, rng.uniform(-30, 30), 0, stretch)
    if kind == "ellipse":
        window = frame(rng, matrix, (1.1, 1.1))
        distance = 1 - np.hypot(window.u, window.v)
    elif kind == "photograph":
        window = frame(rng, matrix, (1.0, 1.0))
        distance = 0.9 - np.maximum(np.abs(window.u), np.abs(window.v))
    else:
        window = frame(rng, matrix, (1.1, 1.1))
        sides = int(rng.integers(3, 7))
        angles = rng.uniform(0, 2 * np.pi) + (np.arange(sides) + rng.uniform(-0.2, 0.2, sides)) * 2 * np.pi / sides
        # The polygon is what lies within 0.6 of the centre along every side's normal.
        reach = np.stack([np.cos(a) * window.u + np.sin(a) * window.v for a in angles])
        distance = 0.6 - reach.max(axis=0)
    return window, edge(distance.astype(np.float32), window.scale)
