"""Colours altered along the training pictures' principal components (Krizhevsky et al. 2012; SPP paper section 3.1)."""

import numpy as np
from numpy.typing import NDArray

from ..common.networks import InputSpec
from .classification import ClassificationSet

_MOST_PICTURES, _MOST_PIXELS = 1000, 100_000  # that the components are found from; pixels of each


def colour_axes(data: ClassificationSet, rng: np.random.Generator) -> NDArray[np.float64]:
    """Principal components of the training pictures' RGB pixels, white = 1: [3, 3], one a row, as long as the standard
    deviation along it.

    Of at most 1,000 pictures, drawn by ``rng``, and some 100,000 pixels of each, evenly spaced. Sums are of whole
    numbers and exact, and the signs are fixed.
    """
    rows = rng.permutation(np.flatnonzero(data.train))[:_MOST_PICTURES]
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for row in rows:
        pixels = data.images[int(row)].reshape(-1, 3)
        pixels = pixels[:: 1 + len(pixels) // _MOST_PIXELS].astype(np.float64)
        count, total, products = count + len(pixels), total + pixels.sum(axis=0), products + pixels.T @ pixels
    mean = total / count
    variances, components = np.linalg.eigh(products / count - np.outer(mean, mean))
    axes: NDArray[np.float64] = (components * np.sqrt(variances.clip(0))).T / 255
    return np.where(axes.sum(axis=1, keepdims=True) < 0, -axes, axes)


def moved(
    crops: NDArray[np.float32], axes: NDArray[np.float64], std: float, spec: InputSpec, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Crops [n, 3, y, x] as the network takes them, all pixels of each moved by the axes times N(0, ``std``) each."""
    shifts = rng.normal(0, std, (len(crops), len(axes))) @ axes  # RGB
    if spec.color_order == "bgr":
        shifts = shifts[:, ::-1]
    by = (shifts * spec.value_range / np.array(spec.std)).astype(np.float32)
    changed: NDArray[np.float32] = crops + by[:, :, None, None]
    return changed
