"""GIST against the Lear program's own output, and against a slow version by the formulas."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.duplicates.gist import GistForm, gist, warped

GOLDEN = Path(__file__).parents[3] / "../shared/golden/gist"
ROUNDING = 5e-5  # of the program's output, which has four digits


def slow(pixels: NDArray[np.uint8], blocks: int, orientations: tuple[int, ...]) -> NDArray[Any]:
    """The formulas one after another, by whole Fourier transforms, in loops."""
    n = len(pixels)
    logs = np.log(pixels.astype(np.float64) + 1)
    padded = np.pad(logs, ((5, 5), (5, 5), (0, 0)), "symmetric")
    m = n + 10

    def low(plane: NDArray[Any]) -> NDArray[Any]:
        f = np.fft.fftfreq(m, 1 / m)
        s = 4 / math.sqrt(math.log(2))
        return np.asarray(np.fft.ifft2(np.fft.fft2(plane) * np.exp(-(f[:, None] ** 2 + f**2) / s**2)).real)

    detail = np.stack([padded[:, :, c] - low(padded[:, :, c]) for c in range(3)], axis=2)
    even = (detail / (0.2 + np.sqrt(np.abs(low(detail.mean(axis=2) ** 2))))[:, :, None])[5:-5, 5:-5]
    found = []
    f = np.fft.fftfreq(n, 1 / n)
    for channel in range(3):
        for scale, count in enumerate(orientations):
            for number in range(count):
                gains = np.empty((n, n))
                for y in range(n):
                    for x in range(n):
                        turned = math.atan2(f[y], f[x]) + math.pi * number / count
                        turned -= 2 * math.pi * (turned > math.pi)
                        p = 0.3 / 1.85**scale
                        radial = -3.5 * (math.hypot(f[y], f[x]) / n / p - 1) ** 2
                        gains[y, x] = math.exp(radial - 2 * math.pi * (count / 8) ** 2 * turned**2)
                shown = np.abs(np.fft.ifft2(np.fft.fft2(even[:, :, channel]) * gains))
                edges = [n * i // blocks for i in range(blocks + 1)]
                for column in range(blocks):
                    for row in range(blocks):
                        block = shown[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
                        found.append(block.mean())
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("no_arg", GistForm()),
        ("nblocks2", GistForm(blocks=2)),
        ("ops_4_4_4", GistForm(orientations=(4, 4, 4))),
        ("ops_8_8_8", GistForm(orientations=(8, 8, 8))),
    ],
)
def test_it_is_what_the_lear_program_prints(name: str, form: GistForm) -> None:
    if not GOLDEN.exists():
        pytest.skip("the Lear program's output is not beside this checkout (shared/golden/gist)")
    expected = np.loadtxt(GOLDEN / f"scene.{name}.result").ravel()
    found = gist(np.load(GOLDEN / "scene.npy", allow_pickle=False), form)
    assert found.shape == expected.shape == (form.length,)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("side", "blocks", "orientations"), [(16, 4, (4, 2)), (13, 3, (8, 8, 4)), (9, 2, (1,))])
def test_it_is_the_formulas(side: int, blocks: int, orientations: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    np.testing.assert_allclose(gist(pixels, GistForm(blocks, orientations)), slow(pixels, blocks, orientations), 1e-9)


def test_a_picture_of_one_colour_gives_zeros_and_a_grey_one_equal_channels() -> None:
    assert not gist(warped(np.full((40, 60, 3), 200, np.uint8))).round(12).any()
    assert not gist(warped(np.full((1, 1, 3), 7, np.uint8))).round(12).any()
    plane = np.random.default_rng(0).integers(0, 256, (50, 30, 1), np.uint8)
    channels = gist(warped(np.repeat(plane, 3, axis=2))).reshape(3, -1)
    np.testing.assert_allclose(channels[1:], channels[:1].repeat(2, axis=0), rtol=1e-9)


def test_a_smaller_copy_is_nearer_than_another_picture() -> None:
    rng = np.random.default_rng(3)
    one, other = (np.kron(rng.integers(0, 256, (10, 15, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(2))
    own, copy, stranger = (gist(warped(picture)) for picture in (one, one[::2, ::2], other))
    assert np.linalg.norm(own - copy) < 0.1 * np.linalg.norm(own - stranger)
