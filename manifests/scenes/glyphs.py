"""Handwritten digits as smooth shapes of any size.

The glyphs are scikit-learn's ``load_digits`` (1,797 of 8 x 8 pixels, 17 grey levels; the UCI test set, digits of 13
people, grouped by writer). Blown up as pixels they would be blots; here each becomes a *signed distance field*: the
grey values are interpolated by cubic splines, smoothed a little and cut at one level, and every point then knows its
distance to the edge of that shape. From the field a crisp edge, a bolder stroke or an outline can be drawn at any size.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SAMPLES = 10  # field samples per glyph pixel: an edge is placed to 1/10 of it before interpolation
PAD = 2  # empty glyph pixels around the 8 x 8, room for bold strokes and outlines
SMOOTHING = 0.28  # glyph pixels; rounds off the staircase the 8 x 8 grid leaves
LEVELS = (0.42, 0.47, 0.52, 0.57, 0.62, 0.67)  # grey level (of 1) at which ink begins, see _level
MARGIN = 0.08  # a loop must be this much below the level, so that a bold stroke does not fill it
LOOPS = {0: 1, 6: 1, 8: 2, 9: 1}  # a four is written open or closed, but open is commoner here

# Contiguous blocks, so that the test split's digits are, by and large, other people's handwriting. They do not depend
# on the seed: no choice of seed lets a test glyph into training.
BLOCKS: dict[str, range] = {"train": range(0, 1260), "test": range(1260, 1797)}
# The classification set is made of the train block alone; its validation crops use glyphs its train crops do not.
CLASSIFICATION_BLOCKS: dict[str, range] = {"train": range(0, 1080), "val": range(1080, 1260)}


@dataclass(frozen=True)
class Glyph:
    """One digit. ``field``: float32 [s, s], distance to the edge in glyph pixels, positive inside the stroke.

    Coordinates on the field are glyph pixels, origin at the centre of the ink, x right, y down; ``half`` is half the
    ink's width and height, ``origin`` the field coordinates of that centre measured from the field's top left corner.
    """

    index: int
    label: int
    field: NDArray[np.float32]
    origin: tuple[float, float]
    half: tuple[float, float]

    def distances(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float32]:
        """Signed distance in glyph pixels at points (u, v), any shape; bilinear, the border's value outside."""
        rows = (v + self.origin[1]) * SAMPLES - 0.5
        cols = (u + self.origin[0]) * SAMPLES - 0.5
        out: NDArray[np.float32] = ndimage.map_coordinates(
            self.field, [rows, cols], order=1, mode="nearest", output=np.float32
        )
        return out


@lru_cache(maxsize=1)
def _smooth_enlargement() -> NDArray[np.float64]:
    """[(8 + 2 PAD) SAMPLES, 8]: cubic spline interpolation and smoothing along one axis, both linear, as a matrix."""
    padded = np.pad(np.eye(8), ((PAD, PAD), (0, 0)))
    fine = ndimage.zoom(padded, (SAMPLES, 1), order=3, mode="grid-constant", grid_mode=True)
    smooth: NDArray[np.float64] = ndimage.gaussian_filter1d(fine, SMOOTHING * SAMPLES, axis=0)
    return smooth


def distance_field(image: NDArray[np.float64], label: int) -> NDArray[np.float32]:
    """Grey values in [0, 1], [8, 8] -> signed distance, float32 [s, s] with s = (8 + 2 PAD) SAMPLES."""
    enlarge = _smooth_enlargement()
    grey = enlarge @ image @ enlarge.T
    ink = grey > _level(grey, label)
    # Half a sample less: the edge lies between the last sample inside and the first one outside.
    inside = ndimage.distance_transform_edt(ink) - 0.5
    outside = ndimage.distance_transform_edt(~ink) - 0.5
    field: NDArray[np.float32] = (np.where(ink, inside, -outside) / SAMPLES).astype(np.float32)
    return field


def _level(grey: NDArray[np.float64], label: int) -> float:
    """The lowest ink level at which the digit is one piece with its usual number of loops; the lowest if none is.

    On so coarse a grid the loops of an 8 often survive only at a higher level than the faint ends of a 7 do.
    """
    coarse = grey[::2, ::2]
    for level in LEVELS:
        # Pieces of background: the loops and the outside. Looked at for the stroke as it is and for a bolder one.
        pieces = [ndimage.label(coarse <= cut)[1] for cut in (level, level - MARGIN)]
        if pieces == [LOOPS.get(label, 0) + 1] * 2 and ndimage.label(coarse > level)[1] == 1:
            return level
    return LEVELS[0]


class GlyphBank:
    """All glyphs, turned into shapes when first asked for."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.images: NDArray[np.float64] = digits.images / 16.0
        self.labels: NDArray[np.int64] = digits.target.astype(np.int64)
        self._shapes: dict[int, Glyph] = {}

    def __getitem__(self, index: int) -> Glyph:
        if index not in self._shapes:
            field = distance_field(self.images[index], int(self.labels[index]))
            rows, cols = (np.flatnonzero((field > 0).any(axis=a)) for a in (1, 0))
            top, bottom, left, right = (float(e) / SAMPLES for e in (rows[0], rows[-1] + 1, cols[0], cols[-1] + 1))
            self._shapes[index] = Glyph(
                index=index,
                label=int(self.labels[index]),
                field=field,
                origin=((left + right) / 2, (top + bottom) / 2),
                half=((right - left) / 2, (bottom - top) / 2),
            )
        return self._shapes[index]

    @cached_property
    def _by_label(self) -> dict[tuple[range, int], NDArray[np.int64]]:
        blocks = [*BLOCKS.values(), *CLASSIFICATION_BLOCKS.values()]
        return {(b, k): b.start + np.flatnonzero(self.labels[b.start : b.stop] == k) for b in blocks for k in range(10)}

    def draw(self, rng: np.random.Generator, block: range, label: int) -> Glyph:
        """A random glyph of one class from one block."""
        return self[int(rng.choice(self._by_label[block, label]))]


@lru_cache(maxsize=1)
def glyph_bank() -> GlyphBank:
    """The one bank of this process; its content is constant."""
    return GlyphBank()
