"""Colour conversions against scikit-image within rounding."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2hsv, rgb2lab

from stages.proposals.selective_search.colors import convert


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    pixels[0, :8] = [
        [0, 0, 0],
        [255, 255, 255],
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [9, 9, 9],
        [255, 0, 1],
        [7, 0, 0],
    ]
    return pixels


def test_hsv(rgb: NDArray[np.uint8]) -> None:
    difference = np.abs(convert(rgb, "hsv") - rgb2hsv(rgb) * 255)
    assert difference.max() <= 0.5 + 1e-3


def test_lab(rgb: NDArray[np.uint8]) -> None:
    expected = rgb2lab(rgb) * [255 / 100, 1, 1] + [0, 128, 128]
    assert np.abs(convert(rgb, "lab") - expected).max() <= 2
    assert np.abs(convert(rgb, "lab") - expected).mean() < 0.5


def test_rgi(rgb: NDArray[np.uint8]) -> None:
    values = rgb.astype(float)
    total = values.sum(axis=2)
    chromaticity = [
        np.divide(values[..., i] * 255, total, out=np.full_like(total, 85), where=total > 0) for i in (0, 1)
    ]
    expected = np.stack([*chromaticity, total / 3], axis=2)
    assert np.abs(convert(rgb, "rgi") - expected).max() <= 0.5 + 1e-3


def test_single_channels_come_three_times(rgb: NDArray[np.uint8]) -> None:
    assert (convert(rgb, "h") == convert(rgb, "hsv")[..., :1]).all()
    grey = rgb @ [0.299, 0.587, 0.114]
    assert np.abs(convert(rgb, "intensity") - grey[..., None]).max() <= 0.51


def test_rgb_is_itself_and_every_result_is_contiguous_uint8(rgb: NDArray[np.uint8]) -> None:
    assert (convert(rgb, "rgb") == rgb).all()
    for color in ("hsv", "lab", "rgb", "rgi", "h", "intensity"):
        out = convert(rgb, color)
        assert out.dtype == np.uint8
        assert out.shape == rgb.shape
        assert out.flags.c_contiguous
