"""Which candidate boxes are kept, in which order (Uijlings et al. 2013, section 4.2; selective_search_boxes.m)."""

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes

Rng = np.random.Generator


def image_rng(seed: int, image_sha256: str) -> Rng:
    """A generator for one image: from the pipeline's seed and the image's bytes, so images cannot affect each other."""
    return np.random.default_rng(np.random.SeedSequence([seed, int(image_sha256, 16)]))


def order_candidates(
    boxes: NDArray[np.int32], priorities: NDArray[np.float64], rng: Rng, min_side: int, limit: int | None
) -> NDArray[np.int64]:
    """Indices of at most ``limit`` (None: all) kept candidates, best first.

    As the authors do: multiply each priority (small is good) by a uniform random number, sort ascending, drop boxes
    with a side below ``min_side``, drop exact repetitions keeping the first. Boxes [n, 4], right and bottom exclusive.
    """
    order = np.argsort(priorities * rng.random(len(priorities)), kind="stable")
    sides = boxes[order, 2:] - boxes[order, :2]
    order = order[(sides >= min_side).all(axis=1)]
    return order[first_of_each(boxes[order])][:limit]


def first_of_each(boxes: NDArray[np.generic]) -> NDArray[np.int64]:
    """Ascending indices of the first occurrence of every distinct row."""
    return np.sort(np.unique(boxes, axis=0, return_index=True)[1])


def working_size(width: int, height: int, resize_width_px: int | None) -> tuple[int, int]:
    """(width, height) proposals are computed at; the height is rounded up, as MATLAB's imresize does."""
    if resize_width_px is None:
        return width, height
    return resize_width_px, -(-height * resize_width_px // width)


def to_image(boxes: NDArray[np.int32], width: int, height: int, working_width: int) -> Boxes:
    """Boxes found at ``working_width`` in the pixels of the image: [n, 4] -> float32 [n, 4], not rounded.

    R-CNN's ``(b - 1) * W / 500 + 1`` on 1-based inclusive corners, hence the shift by one on the right and bottom edge
    here. Deliberate difference: the result is cut to the image, which it can leave by under one pixel.
    """
    scale = width / working_width
    out = boxes.astype(np.float64)
    out[:, :2] *= scale
    out[:, 2:] = (out[:, 2:] - 1) * scale + 1
    return np.clip(out, 0, [width, height, width, height]).astype(np.float32)
