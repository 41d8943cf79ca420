"""Backgrounds: random parts of the two photographs that come with scikit-learn, china.jpg and flower.jpg (640 x 427).

Each photograph is cut into two parts by a vertical line, one for training and one for testing, with eight pixels
between them that nobody uses (a JPEG block, so that not even compression carries pixels over).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Columns (from, to) of every photograph that a split may use.
PARTS: dict[str, tuple[int, int]] = {"train": (0, 344), "test": (352, 640)}
SMALLEST_CROP = 0.4  # of the largest crop of the wanted shape that fits the part

# RGB <-> YIQ (NTSC 1953), in which a hue change is a rotation of the last two axes.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)


@lru_cache(maxsize=1)
def photographs() -> tuple[NDArray[np.uint8], ...]:
    """The photographs, uint8 [427, 640, 3] RGB, in a fixed order."""
    from sklearn.datasets import load_sample_image

    return tuple(np.asarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))


def part(index: int, split: str) -> NDArray[np.uint8]:
    """The columns of photograph ``index`` that belong to ``split``: uint8 [427, w, 3]."""
    left, right = PARTS[split]
    return photographs()[index][:, left:right]


@lru_cache(maxsize=4)
def _part_image(index: int, split: str) -> Image.Image:
    return Image.fromarray(part(index, split))


def photo_crop(
    rng: np.random.Generator, split: str, width: int, height: int, share: float = 1.0
) -> NDArray[np.float32]:
    """A random crop of a split's photograph parts at the wanted size, flipped and colour-jittered.

    ``share`` scales the part of the photograph that is seen: 0.25 for a window a quarter as wide as a scene.
    Returns float32 [height, width, 3] in [0, 1].
    """
    source = _part_image(int(rng.integers(len(photographs()))), split)
    cols, rows = source.size
    largest = min(cols / width, rows / height)
    scale = share * largest * rng.uniform(SMALLEST_CROP, 1.0)
    w, h = scale * width, scale * height
    x, y = rng.uniform(0, cols - w), rng.uniform(0, rows - h)
    image = source.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
    pixels: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return _jitter(rng, pixels)


def _jitter(rng: np.random.Generator, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Random hue, saturation, contrast and brightness: one affine map of colour space."""
    angle, saturation = rng.uniform(-0.6, 0.6), rng.uniform(0.5, 1.2)
    c, s = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    contrast, brightness = rng.uniform(0.6, 1.1), rng.uniform(-0.1, 0.15)
    matrix = (contrast * (_TO_RGB @ turn @ _TO_YIQ)).astype(np.float32)
    offset = np.float32((1 - contrast) * 0.5 + brightness)
    jittered: NDArray[np.float32] = np.clip(pixels @ matrix.T + offset, 0, 1).astype(np.float32, copy=False)
    return jittered
