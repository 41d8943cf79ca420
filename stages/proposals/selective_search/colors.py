"""Colour spaces in which selective search groups regions (Uijlings et al. 2013, section 3.2).

Every conversion ends in uint8 ``[H, W, 3]``, on which regions are segmented, as by the authors, and their histograms
counted. Deliberate difference: the authors count histograms on the conversion before it is rounded to 8 bits
(Image2HierarchicalGrouping.m), so that here a value which lies within 1/510 of a bin's edge may fall into the next bin.
"""

from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Color = Literal["hsv", "lab", "rgb", "rgi", "h", "intensity"]
Pixels = NDArray[np.uint8]


def convert(rgb: Pixels, color: Color) -> Pixels:
    """uint8 [H, W, 3] RGB -> contiguous uint8 [H, W, 3] in ``color``.

    ``hsv``: H, S and V each scaled from [0, 1] to 0..255. ``lab``: L * 255/100, a + 128, b + 128. ``rgi``: R/(R+G+B),
    G/(R+G+B) and the mean, scaled to 0..255. ``h`` and ``intensity``: one channel three times, as the authors repeat it
    (a distance between two pixels is therefore sqrt(3) times the channel's).

    Differs from the authors: ``lab`` takes OpenCV's D65 white point where MATLAB's ``srgb2lab`` takes D50.
    """
    # The kernels are compiled for writable arrays; pixels of a dataset's image are read-only.
    return np.ascontiguousarray(_CONVERSIONS[color](np.require(rgb, np.uint8, ["C", "W"])))


def _to_uint8(values: NDArray[np.float32]) -> Pixels:
    """Round [0, 255] floats half up, as MATLAB's im2uint8 does for non-negative values."""
    return (values + np.float32(0.5)).astype(np.uint8)


@njit("uint8[:,:,::1](uint8[:,:,::1])", cache=True, nogil=True)
def _hsv(rgb):  # type: ignore[no-untyped-def]
    """OpenCV's 8-bit HSV is not used: its hue has 256 steps to the turn where MATLAB's im2uint8 gives 255."""
    height, width, _ = rgb.shape
    out = np.empty((height, width, 3), np.uint8)
    half = np.float32(0.5)
    for y in range(height):
        for x in range(width):
            r, g, b = np.int32(rgb[y, x, 0]), np.int32(rgb[y, x, 1]), np.int32(rgb[y, x, 2])
            value = max(r, g, b)
            chroma = value - min(r, g, b)
            hue = np.float32(0)  # in sixths of a turn
            saturation = np.float32(0)
            if chroma > 0:
                if value == r:
                    hue = np.float32(g - b) / np.float32(chroma)
                    hue += np.float32(6 if g < b else 0)
                elif value == g:
                    hue = np.float32(2) + np.float32(b - r) / np.float32(chroma)
                else:
                    hue = np.float32(4) + np.float32(r - g) / np.float32(chroma)
                saturation = np.float32(255 * chroma) / np.float32(value)
            out[y, x, 0] = np.uint8(np.int32(hue * np.float32(42.5) + half))
            out[y, x, 1] = np.uint8(np.int32(saturation + half))
            out[y, x, 2] = value
    return out


def _lab(rgb: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB))


def _rgi(rgb: Pixels) -> Pixels:
    total = rgb.sum(axis=2, dtype=np.float32)
    black = total == 0
    total[black] = 1
    out = np.empty(rgb.shape, np.float32)
    out[..., :2] = rgb[..., :2] * (np.float32(255) / total)[..., None]
    out[..., :2][black] = 255 / 3  # a black pixel has no chromaticity: grey's is the least surprising
    out[..., 2] = rgb.sum(axis=2, dtype=np.float32) / 3
    return _to_uint8(out)


def _three_times(channel: NDArray[Any]) -> Pixels:
    return np.repeat(channel[..., None], 3, axis=2)


_CONVERSIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "hsv": _hsv,
    "lab": _lab,
    "rgb": lambda rgb: rgb,
    "rgi": _rgi,
    "h": lambda rgb: _three_times(_hsv(rgb)[..., 0]),
    "intensity": lambda rgb: _three_times(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)),
}
