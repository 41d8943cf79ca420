"""GIST: what a picture looks like as a whole, as 960 numbers (Oliva and Torralba 2001; R-CNN paper, appendix F).

As the Lear program computes it, of which Douze et al. 2009 found that it tells near-duplicates among a million images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

Values = NDArray[np.float64]

SIDE_PX = 32  # the paper warps each picture to 32 x 32
_MIRRORED_PX = 5  # added at each edge before the low-pass
_CYCLES = 4  # of the picture's width, at which the low-pass lets half through
_FLOOR = 0.2  # of the contrast that a pixel is divided by
_FIRST_FREQUENCY, _SCALE_STEP = 0.3, 1.85  # cycles per pixel at the finest scale, and from scale to scale


@dataclass(frozen=True)
class GistForm:
    """What is computed: ``orientations`` of the filters at each scale, the finest first, and ``blocks`` per side."""

    blocks: int = 4
    orientations: tuple[int, ...] = (8, 8, 4)

    @property
    def length(self) -> int:
        """How many numbers describe a picture: of three channels each filter's mean in each block."""
        return 3 * sum(self.orientations) * self.blocks**2


def warped(pixels: NDArray[np.uint8], side: int = SIDE_PX) -> NDArray[np.uint8]:
    """Warp a picture to a square, whatever its shape: uint8 [H, W, 3] -> [side, side, 3].

    By the mean of the pixels that a new one covers (ours: the paper does not say how).
    """
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def gist(pixels: NDArray[np.uint8], form: GistForm = GistForm()) -> Values:
    """Describe a square picture: uint8 [n, n, 3] -> float64 [3 * filters * blocks * blocks].

    The numbers of a channel stand together, in it those of a filter (scale by scale, each orientation), and in it the
    blocks, column by column. A picture of one colour gives zeros.
    """
    n, filters = len(pixels), _filters(len(pixels), form.orientations)
    spectrum = scipy.fft.fft2(_evened(pixels))
    magnitudes = np.abs(scipy.fft.ifft2(spectrum[:, None] * filters, overwrite_x=True))
    edges = [n * i // form.blocks for i in range(form.blocks)]
    sums = np.add.reduceat(np.add.reduceat(magnitudes, edges, axis=2), edges, axis=3)
    heights = np.diff([*edges, n]).astype(np.float64)
    means: Values = sums / (heights[:, None] * heights)
    return means.transpose(0, 1, 3, 2).reshape(-1)


def _evened(pixels: NDArray[np.uint8]) -> Values:
    """Take out what light does to a picture: float64 [3, n, n], about zero and of like contrast everywhere.

    The logarithm less its own low-pass; over the root of the low-passed square of the channels' mean.
    """
    n = len(pixels)
    mirrored = np.pad(np.arange(n), _MIRRORED_PX, "symmetric")
    logs = np.log(np.arange(256) + 1.0)[pixels.transpose(2, 0, 1)][:, mirrored][:, :, mirrored]
    smooth = _low_pass(n + 2 * _MIRRORED_PX)
    detail = logs - smooth @ logs @ smooth
    contrast = np.sqrt(np.abs(smooth @ detail.mean(axis=0) ** 2 @ smooth))
    inside = slice(_MIRRORED_PX, _MIRRORED_PX + n)
    evened: Values = (detail / (_FLOOR + contrast))[:, inside, inside]
    return evened


@cache
def _low_pass(n: int) -> Values:
    """Return the low-pass exp(-f^2 / s^2) along one axis as a matrix: float64 [n, n], symmetric.

    f in cycles of the width, s = 4 / sqrt(ln 2). It is a product of one factor of each axis, so that two products with
    this matrix are what the Lear program does by Fourier transforms.
    """
    gains = np.exp(-(np.fft.fftfreq(n, 1 / n) ** 2) * math.log(2) / _CYCLES**2)
    response = np.fft.ifft(gains).real
    matrix: Values = response[np.subtract.outer(np.arange(n), np.arange(n)) % n]
    return matrix


@cache
def _filters(n: int, orientations: Sequence[int]) -> Values:
    """Return the Gabor filters' gains at each frequency: float64 [filters, n, n].

    exp(-3.5 (f / n / p - 1)^2 - 2 pi (k / 8)^2 a^2): f the frequency in cycles of the width, p the scale's in cycles
    per pixel, k its number of orientations, a the angle from the filter's own, within half a turn.
    """
    along = np.fft.fftfreq(n, 1 / n)
    frequency, angle = np.hypot(along[:, None], along), np.arctan2(along[:, None], along)
    filters = []
    for scale, count in enumerate(orientations):
        own = _FIRST_FREQUENCY / _SCALE_STEP**scale
        radial = -3.5 * (frequency / n / own - 1) ** 2
        for number in range(count):
            turned = angle + math.pi * number / count
            turned = np.where(turned > math.pi, turned - 2 * math.pi, turned)
            filters.append(np.exp(radial - 2 * math.pi * (count / 8) ** 2 * turned**2))
    gains: Values = np.array(filters)
    return gains
