"""One digit as it stands in a scene: its shape, then, once its place is known, its colours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .colours import CLEAR, Colour, contrasting, faint, pattern
from .distractors import at_rim, smear
from .glyphs import Glyph
from .layers import SOLID, Canvas, Frame, Layer, affine, edge, extent, frame, overlap
from .options import SceneOptions
from .photographs import photo_crop

Box = tuple[int, int, int, int]
TRANSLUCENT = (0.55, 0.9)  # opacity of a stroke through which the background shows
PHOTOGRAPH = 0.3  # of the textured digits are filled with a photograph, the others with a pattern


@dataclass(frozen=True)
class DigitShape:
    """Masks of one digit in one window of pixels, all [h, w]; no place and no colours yet.

    ``ink`` is what the box encloses: the stroke and its outline. ``body`` is ``ink`` and the plate below it.
    """

    label: int
    frame: Frame
    stroke: NDArray[np.float32]
    outline: NDArray[np.float32] | None
    plate: NDArray[np.float32] | None
    blur_px: float

    @property
    def ink(self) -> NDArray[np.bool_]:
        """bool [h, w]: the stroke and its outline."""
        return (self.stroke if self.outline is None else self.outline) >= SOLID

    @property
    def body(self) -> NDArray[np.bool_]:
        """bool [h, w]: the ink and the plate below it."""
        return self.ink if self.plate is None else (self.plate >= SOLID) | self.ink

    @property
    def ink_box(self) -> Box:
        """x1, y1, x2, y2 in the window's pixels."""
        box = extent(self.ink)
        assert box is not None  # a glyph is never empty: digit_shape draws it several pixels high
        return box


def random_affine(rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    """Slant, rotation and anisotropic scale of a digit; small enough that a 6 is never a 9."""
    degrees = float(np.clip(rng.normal(0, 7), -20, 20))
    return affine(scale, degrees, shear=rng.uniform(-0.2, 0.2), stretch=float(np.exp(rng.uniform(-0.25, 0.25))))


def digit_shape(rng: np.random.Generator, glyph: Glyph, height_px: float, options: SceneOptions) -> DigitShape:
    """A glyph under a random affine map, about ``height_px`` high, maybe bold, outlined, on a plate or blurred."""
    rim = rng.uniform(0.3, 0.5) if rng.random() < options.outline_probability else 0.0
    # Glyph pixels added on either side of the stroke; less under an outline, which would fill the loops.
    bold = rng.uniform(-0.08, 0.0 if rim else 0.16)
    scale = height_px / (2 * (glyph.half[1] + bold))
    grow = rng.uniform(1.2, 1.5, size=2) if rng.random() < options.plate_probability else None
    blur = rng.uniform(0.4, 0.8 + height_px / 80) if rng.random() < options.blur_probability else 0.0
    half = np.asarray(glyph.half) + bold + rim
    plate_half = half * grow if grow is not None else half
    # A one is too narrow for a plate of its own proportions.
    plate_half = np.maximum(plate_half, 0.6 * plate_half.max()) if grow is not None else plate_half
    window = frame(rng, random_affine(rng, scale), tuple(plate_half + 0.5 + 3 * blur / scale))
    distance = glyph.distances(window.u, window.v) + np.float32(bold)
    return DigitShape(
        label=glyph.label,
        frame=window,
        stroke=edge(distance, window.scale),
        outline=edge(distance + np.float32(rim), window.scale) if rim else None,
        plate=_plate(rng, window, plate_half) if grow is not None else None,
        blur_px=blur,
    )


def _plate(rng: np.random.Generator, window: Frame, half: NDArray[np.float64]) -> NDArray[np.float32]:
    """A rectangle with round corners (or an ellipse, the roundest of them) as coverage [h, w]."""
    radius = min(half) * rng.choice([0.05, 0.3, 1.0])
    dx, dy = np.abs(window.u) - half[0] + radius, np.abs(window.v) - half[1] + radius
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    inside = np.minimum(np.maximum(dx, dy), 0)
    return edge((radius - outside - inside).astype(np.float32), window.scale)


def digit_layers(
    rng: np.random.Generator,
    shape: DigitShape,
    split: str,
    canvas: Canvas,
    x: int,
    y: int,
    options: SceneOptions,
) -> tuple[list[Layer], bool]:
    """Colours for a digit whose window's top left pixel is at (x, y): its layers, lowest first, and if it is faint.

    Colours are chosen against the plate, or else against what the canvas shows around the digit at the moment.
    """
    layers: list[Layer] = []
    there, here = overlap(shape.ink.shape, x, y, canvas.shape)
    around = canvas[there][~shape.ink[here]]
    ground, unrest = around.mean(axis=0), float(around.std(axis=0).mean())
    if shape.plate is not None:
        plate_colour = contrasting(rng, ground, least=0.15)
        layers.append(Layer(shape.plate, plate_colour, x, y))
        ground, unrest = plate_colour, 0.0
    is_faint = rng.random() < options.low_contrast_probability
    if is_faint:
        # An outline would make the digit plain to see, so a faint one is filled to its rim.
        mask, colour = shape.stroke if shape.outline is None else shape.outline, faint(rng, ground)
        return [*layers, Layer(_blurred(mask, shape.blur_px), colour, x, y)], True
    colour = contrasting(rng, ground, least=CLEAR + 0.6 * unrest)
    if rng.random() < options.smear_probability:
        layers.append(_smear(rng, shape, colour, x, y))
    opacity = rng.uniform(*TRANSLUCENT) if rng.random() < options.translucent_probability else 1.0
    if shape.outline is not None:
        rim = contrasting(rng, colour, least=0.4)
        layers.append(Layer(_blurred(shape.outline, shape.blur_px), rim, x, y))
    fill = _fill(rng, shape, split, colour, ground, options)
    return [*layers, Layer(_blurred(shape.stroke, shape.blur_px) * np.float32(opacity), fill, x, y)], False


def _fill(
    rng: np.random.Generator,
    shape: DigitShape,
    split: str,
    colour: Colour,
    ground: Colour,
    options: SceneOptions,
) -> NDArray[np.float32]:
    """One colour, or a pattern of two that both stand out, or a photograph tinted with the colour."""
    if rng.random() >= options.texture_probability:
        return colour
    if rng.random() < PHOTOGRAPH:
        height, width = shape.stroke.shape
        photograph = photo_crop(rng, split, width, height, share=min(height / options.height_px, 1))
        tinted: NDArray[np.float32] = colour + np.float32(0.6) * (photograph - photograph.mean(axis=(0, 1)))
        return tinted
    return pattern(rng, shape.frame, colour, contrasting(rng, ground), period=rng.uniform(1.0, 4.0))


def _smear(rng: np.random.Generator, shape: DigitShape, colour: Colour, x: int, y: int) -> Layer:
    x1, y1, x2, y2 = shape.ink_box
    layer = smear(rng, rng.uniform(0.35, 0.8) * max(x2 - x1, y2 - y1), colour)
    return at_rim(rng, layer, (x1 + x, y1 + y, x2 + x, y2 + y))


def _blurred(mask: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(mask, sigma_px) if sigma_px else mask
