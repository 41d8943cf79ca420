"""Colour and texture histograms of regions (Uijlings et al. 2013, section 3.2).

Follows the authors' BlobStructColourHist and BlobStructTextureHist: 25 colour bins per channel at ``round(24 v)``; 8
orientations x 10 bins per channel of the Gaussian derivative (sigma 0.8) at ``round(9 g / 0.43)``, v and g of the image
scaled to [0, 1]. Deliberate differences from their public copy: texture comes from all three channels (it takes the
first one three times); region sizes are pixel counts (it divides by 3 twice); a gradient above 0.43 falls in the
last bin (it spills into the next orientation's first); derivatives are a sampled Gaussian's, not a recursive filter's;
both histograms are of the 8-bit image (see :mod:`.colors`).

Histograms are kept as counts in float32, exact up to 2**24 pixels, so that merging two regions is an exact sum.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

COLOR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8
N_COLOR = 3 * COLOR_BINS
N_TEXTURE = 3 * ORIENTATIONS * TEXTURE_BINS
GRADIENT_MAX = 0.43
GRADIENT_SIGMA = 0.8


@dataclass(frozen=True)
class BinImage:
    """Per-pixel bins of one colour space; shared by all segmentations in it.

    Attributes:
        color: uint8 [H * W, 3], 0..24.
        texture: uint8 [H * W, 12], channel-major then direction (x, y, x+y, x-y): 1..9 for a derivative of that bin
            along the direction, 11..19 for one against it, 0 where both orientations fall in bin 0.
    """

    color: NDArray[np.uint8]
    texture: NDArray[np.uint8]


def bin_image(pixels: NDArray[np.uint8]) -> BinImage:
    """uint8 [H, W, 3] in the colour space of the segmentation -> the bins of each pixel."""
    table = np.floor(np.arange(256) / 255 * (COLOR_BINS - 1) + 0.5).astype(np.uint8)
    color = np.asarray(cv2.LUT(pixels, table), np.uint8).reshape(-1, 3)
    return BinImage(color, _texture_bins(*gradients(pixels)))


def gradients(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """uint8 [H, W, 3] -> Gaussian derivatives along x and y of the image in [0, 1], each float32 [3, H, W].

    A ramp of one per pixel has derivative one; borders are replicated.
    """
    radius = math.ceil(4 * GRADIENT_SIGMA)
    x = np.arange(-radius, radius + 1)
    gauss = np.exp(-0.5 * (x / GRADIENT_SIGMA) ** 2)
    gauss /= gauss.sum()
    slope = (x * gauss / (x**2 * gauss).sum() / 255).astype(np.float32)
    gauss = gauss.astype(np.float32)
    gx = np.empty((3, *pixels.shape[:2]), np.float32)
    gy = np.empty_like(gx)
    for i, channel in enumerate(cv2.split(pixels)):
        cv2.sepFilter2D(channel, cv2.CV_32F, slope, gauss, dst=gx[i], borderType=cv2.BORDER_REPLICATE)
        cv2.sepFilter2D(channel, cv2.CV_32F, gauss, slope, dst=gy[i], borderType=cv2.BORDER_REPLICATE)
    return gx, gy


def histograms(
    bins: BinImage, labels: NDArray[np.int32], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Counts per region: colour float32 [n, 75] (rows sum to 3 size) and texture [n, 240] (rows sum to 24 size)."""
    colour: NDArray[np.float32]
    texture: NDArray[np.float32]
    colour, texture = _histograms(bins.color, bins.texture, labels.ravel(), sizes)
    return colour, texture


@njit("uint8[:,::1](float32[:,:,::1], float32[:,:,::1])", cache=True, nogil=True)
def _texture_bins(gx, gy):  # type: ignore[no-untyped-def]
    _, height, width = gx.shape
    scale = np.float32((TEXTURE_BINS - 1) / GRADIENT_MAX)
    diagonal = np.float32(scale / math.sqrt(2.0))
    top = np.float32(TEXTURE_BINS - 1)
    half = np.float32(0.5)
    out = np.empty((height * width, 12), np.uint8)
    for c in range(3):
        for y in range(height):
            for x in range(width):
                u = gx[c, y, x]
                v = gy[c, y, x]
                values = (u * scale, v * scale, (u + v) * diagonal, (u - v) * diagonal)
                for d in range(4):
                    g = values[d]
                    b = np.uint8(np.int32(min(abs(g) + half, top)))
                    out[y * width + x, 4 * c + d] = b + np.uint8(TEXTURE_BINS) if (g < 0 and b > 0) else b
    return out


@njit(
    "Tuple((float32[:,::1], float32[:,::1]))(uint8[:,::1], uint8[:,::1], int32[::1], int32[::1])",
    cache=True,
    nogil=True,
)
def _histograms(color_bins, texture_bins, labels, sizes):  # type: ignore[no-untyped-def]
    n = len(sizes)
    color = np.zeros((n, N_COLOR), np.int32)
    texture = np.zeros((n, N_TEXTURE), np.int32)
    for p in range(len(labels)):
        label = labels[p]
        for c in range(3):
            color[label, c * COLOR_BINS + color_bins[p, c]] += 1
        for d in range(12):
            texture[label, d * 2 * TEXTURE_BINS + texture_bins[p, d]] += 1
    # A pixel whose derivative points along a direction has none against it, and the other way round: bin 0 there.
    for i in range(n):
        for d in range(24):
            first = d * TEXTURE_BINS
            rest = 0
            for b in range(1, TEXTURE_BINS):
                rest += texture[i, first + b]
            texture[i, first] = sizes[i] - rest
    return color.astype(np.float32), texture.astype(np.float32)
