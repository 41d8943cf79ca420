"""Colours, contrasts and textures. A colour is float32 [3] RGB in [0, 1]."""

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .layers import Frame

Colour = NDArray[np.float32]
CLEAR = 0.3  # contrast (root mean square over R, G, B) at which a shape stands out
FAINT = (0.07, 0.13)  # contrast of an object that is low in contrast on purpose
_TRIES = 60


def contrast(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Root mean square difference of two colours, 0 to 1."""
    # Three numbers: plain arithmetic is several times faster than numpy's.
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)) / 3)


def random_colour(rng: np.random.Generator) -> Colour:
    """Any hue, from black and pastel to full; even in hue rather than in RGB, so that colours look chosen."""
    hue, saturation = rng.random(), rng.beta(1.5, 1.4)
    value = rng.uniform(0.08, 1) ** 0.7
    return np.asarray(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)


def contrasting(rng: np.random.Generator, *others: Colour, least: float = CLEAR) -> Colour:
    """A random colour at least ``least`` away from each of ``others``; failing that, the farthest one met."""
    best, best_distance = random_colour(rng), -1.0
    for _ in range(_TRIES):
        colour = random_colour(rng)
        distance = min(contrast(colour, other) for other in others)
        if distance >= least:
            return colour
        if distance > best_distance:
            best, best_distance = colour, distance
    return best


def faint(rng: np.random.Generator, background: Colour) -> Colour:
    """A colour barely away from the background."""
    step = rng.normal(size=3)
    step *= rng.uniform(*FAINT) * np.sqrt(3) / np.linalg.norm(step)
    # Near black or white half of the step would be cut off: turn such components round.
    step = np.where((background + step < 0) | (background + step > 1), -step, step)
    return np.clip(background + step, 0, 1).astype(np.float32)


def pattern(
    rng: np.random.Generator, frame: Frame, colour: Colour, other: Colour, period: float
) -> NDArray[np.float32]:
    """Stripes, halves, a gradient or blotches of two colours: float32 [h, w, 3].

    ``period`` is the length of stripes and blotches in the frame's units.
    """
    kind = rng.choice(["stripes", "halves", "gradient", "blotches"])
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * frame.u + np.sin(angle) * frame.v
    if kind == "stripes":
        mix = np.clip(0.5 + 1.5 * np.sin(2 * np.pi * along / period), 0, 1)
    elif kind == "halves":
        mix = np.clip(0.5 + along * frame.scale, 0, 1)
    elif kind == "gradient":
        mix = (along - along.min()) / max(float(np.ptp(along)), 1e-6)
    else:
        noise = ndimage.gaussian_filter(rng.normal(size=along.shape), period * frame.scale / 4)
        mix = np.clip(0.5 + noise / max(float(noise.std()), 1e-6), 0, 1)
    mixed: NDArray[np.float32] = (colour + mix[..., None] * (other - colour)).astype(np.float32)
    return mixed
