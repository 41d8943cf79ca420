"""Histograms of regions against plain numpy."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.proposals.selective_search.descriptors import GRADIENT_MAX, bin_image, gradients, histograms


def some_regions(seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    pixels = np.ascontiguousarray(rng.integers(0, 256, (24, 31, 3), np.uint8))
    pixels[:8] = 120  # flat: all of its texture in bin 0
    labels = np.repeat(np.arange(4, dtype=np.int32), 6)[:, None] * np.ones(31, np.int32)
    return pixels, np.ascontiguousarray(labels), np.bincount(labels.ravel()).astype(np.int32)


def test_color_histogram() -> None:
    pixels, labels, sizes = some_regions()
    color, _ = histograms(bin_image(pixels), labels, sizes)
    for i in range(4):
        for c in range(3):
            bins = np.floor(pixels[labels == i][:, c] / 255 * 24 + 0.5).astype(int)
            np.testing.assert_array_equal(color[i, 25 * c : 25 * c + 25], np.bincount(bins, minlength=25))


def test_texture_histogram_counts_eight_half_wave_orientations_per_channel() -> None:
    pixels, labels, sizes = some_regions()
    gx, gy = (g.astype(np.float64) for g in gradients(pixels))
    _, texture = histograms(bin_image(pixels), labels, sizes)
    directions = [gx, gy, (gx + gy) / np.sqrt(2), (gx - gy) / np.sqrt(2)]
    for c in range(3):
        for d, values in enumerate(directions):
            for s, sign in enumerate((1, -1)):
                half_wave = np.maximum(sign * values[c], 0)
                bins = np.minimum(np.floor(half_wave * 9 / GRADIENT_MAX + 0.5), 9).astype(int)
                first = ((c * 4 + d) * 2 + s) * 10
                for i in range(4):
                    expected = np.bincount(bins[labels == i], minlength=10)
                    np.testing.assert_allclose(
                        texture[i, first : first + 10], expected, atol=1
                    )  # a value on a bin's edge
                    assert texture[i, first : first + 10].sum() == sizes[i]


def test_gradients_are_gaussian_derivatives_of_the_image_in_unit_range() -> None:
    pixels, _, _ = some_regions(1)
    gx, gy = gradients(pixels)
    blurred = pixels.astype(float) / 255
    for ours, order in ((gx, (0, 1, 0)), (gy, (1, 0, 0))):
        expected = gaussian_filter(blurred, (0.8, 0.8, 0), order=order, mode="nearest", radius=(4, 4, 0))
        np.testing.assert_allclose(ours, expected.transpose(2, 0, 1), atol=0.02)
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(0, 200, 5).astype(np.uint8)[None, :, None], (30, 40, 3)))
    np.testing.assert_allclose(gradients(ramp)[0][:, :, 5:-5], 5 / 255, rtol=1e-5)
    np.testing.assert_allclose(gradients(ramp)[1], 0, atol=1e-6)


def test_counts_add_up() -> None:
    pixels, labels, sizes = some_regions(2)
    color, texture = histograms(bin_image(pixels), labels, sizes)
    np.testing.assert_array_equal(color.sum(axis=1), 3 * sizes)
    np.testing.assert_array_equal(texture.sum(axis=1), 24 * sizes)
