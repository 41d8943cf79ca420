"""OpenCV's implementation of selective search, as another source of proposals.

Not the authors' fast mode: k is 150, 300, 450 by default, the least region has 100 pixels, and texture and ranking
differ.
"""

import ctypes
import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from stages.boxes.geometry import Boxes

from .ranking import Rng, first_of_each, to_image, working_size
from .selective_search.search import resize

# OpenCV ranks with the C library's process-wide rand(): seeding it and drawing from it must not interleave.
_RAND = threading.Lock()


def require_opencv_contrib() -> Any:
    """The ``cv2.ximgproc.segmentation`` module, or StageError saying how to get it."""
    try:
        return cv2.ximgproc.segmentation
    except AttributeError:
        raise StageError(
            "proposals.method opencv: this OpenCV has no ximgproc module; "
            "run 'pip uninstall -y opencv-python-headless' and 'pip install opencv-contrib-python-headless', "
            "or set proposals.method: selective_search"
        ) from None


def opencv_proposals(
    rgb: NDArray[np.uint8],
    rng: Rng,
    *,
    base_k: int,
    inc_k: int,
    sigma: float,
    min_side_px: int,
    resize_width_px: int | None,
    max_proposals: int | None,
) -> Boxes:
    """float32 [n, 4] boxes of a uint8 [H, W, 3] RGB image, in OpenCV's order, which ``rng`` seeds.

    Same resizing, least side and mapping to the image as :func:`selective_search.selective_search`. One image at a
    time, whatever the number of threads.
    """
    module = require_opencv_contrib()
    height, width = rgb.shape[:2]
    pixels = resize(rgb, *working_size(width, height, resize_width_px))
    search = module.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(pixels[..., ::-1]))
    search.switchToSelectiveSearchFast(base_k, inc_k, sigma)
    with _RAND:
        ctypes.CDLL(None).srand(int(rng.integers(1, 2**31)))
        found = np.asarray(search.process(), np.int32).reshape(-1, 4)
    found = found[(found[:, 2:] >= min_side_px).all(axis=1)]
    found[:, 2:] += found[:, :2]  # x, y, w, h -> exclusive corners
    mapped = to_image(found, width, height, pixels.shape[1])
    return mapped[first_of_each(mapped)[:max_proposals]]
