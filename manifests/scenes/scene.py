"""Composing one scene: background, distractors, digits, things laid over digits, a little blur and noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .digits import Box, digit_layers, digit_shape
from .distractors import random_distractor
from .glyphs import BLOCKS, GlyphBank
from .layers import Canvas, hide, paint
from .options import SceneOptions
from .photographs import photo_crop
from .placing import Placed, find_place, occlude, on_canvas

VISIBLE = 0.7  # less of a digit's ink to be seen makes it difficult
SMALL_PX = 13  # a shorter side below this makes a digit difficult
INSIDE = 0.98  # less of the ink inside the image makes a digit truncated
_SHRINK = 0.8  # a digit that finds no room is made smaller by this


@dataclass(frozen=True)
class SceneObject:
    """A digit in a scene. ``box``: the visible extent of its ink before occlusion, x1 y1 x2 y2 px, inside the image."""

    label: int
    glyph: int  # index into load_digits
    box: Box
    difficult: bool
    truncated: bool
    visible: float  # share of the ink inside the image that nothing hides

    @property
    def occluded(self) -> bool:
        """VOC's flag; a hair's breadth at the rim does not count."""
        return self.visible < 0.95


@dataclass(frozen=True)
class Scene:
    """``pixels`` uint8 [H, W, 3] RGB; ``masks`` bool [n, H, W]: of each object the ink that nothing hides."""

    pixels: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    masks: NDArray[np.bool_]


def compose(rng: np.random.Generator, bank: GlyphBank, split: str, options: SceneOptions) -> Scene:
    """One scene of ``split``, from that split's glyphs and photograph parts only; all chance comes from ``rng``."""
    canvas = photo_crop(rng, split, options.width_px, options.height_px)
    for _ in range(int(rng.integers(options.distractors_min, options.distractors_max + 1))):
        paint(canvas, random_distractor(rng, bank, split, extent_px(rng, options), canvas))
    placed: list[Placed] = []
    for _ in range(int(rng.integers(options.objects_min, options.objects_max + 1))):
        _add_digit(rng, bank, split, options, canvas, placed)
    for digit in list(placed):
        if rng.random() < options.occlusion_probability:
            occlude(rng, split, canvas, digit, placed)
    masks = np.array([p.visible for p in placed], bool).reshape(-1, *canvas.shape[:2])
    return Scene(develop(rng, canvas), tuple(_finish(p) for p in placed), masks)


def extent_px(rng: np.random.Generator, options: SceneOptions) -> float:
    """A random size in px between the smallest and the largest digit's, log-uniform."""
    return float(np.exp(rng.uniform(np.log(options.object_min_px), np.log(options.object_max_px))))


def _add_digit(
    rng: np.random.Generator,
    bank: GlyphBank,
    split: str,
    options: SceneOptions,
    canvas: Canvas,
    placed: list[Placed],
) -> None:
    """Paint one more digit where there is room; in a full scene it is made smaller, and at last left out."""
    glyph = bank.draw(rng, BLOCKS[split], int(rng.integers(10)))
    height_px = extent_px(rng, options)
    truncate = rng.random() < options.truncation_probability
    while True:
        shape = digit_shape(rng, glyph, height_px, options)
        place = find_place(rng, shape, canvas.shape, truncate, placed)
        if place is not None:
            break
        if height_px == options.object_min_px:
            return
        height_px = max(height_px * _SHRINK, options.object_min_px)
    layers, is_faint = digit_layers(rng, shape, split, canvas, *place, options)
    for layer in layers:
        paint(canvas, layer)
        for other in placed:
            hide(other.visible, layer)
    placed.append(on_canvas(shape, glyph.index, place, canvas.shape, is_faint))


def develop(rng: np.random.Generator, canvas: Canvas) -> NDArray[np.uint8]:
    """The camera: slight blur and noise over everything, then eight bits."""
    sigma, noise = rng.uniform(0, 1.0), rng.uniform(0, 0.02)
    image = ndimage.gaussian_filter(canvas, (sigma, sigma, 0))
    image += np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return pixels


def _finish(p: Placed) -> SceneObject:
    x1, y1, x2, y2 = p.box
    small = min(x2 - x1, y2 - y1) < SMALL_PX
    hard = p.faint or small or p.share < VISIBLE or p.inside < VISIBLE
    return SceneObject(p.shape.label, p.glyph, p.box, hard, p.inside < INSIDE, p.share)
