"""Whole images as the network's input, at a scale (SPP paper section 4.1; caffe_anysize_test.m)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .spec import InputSpec


def scaled_image(image: NDArray[np.uint8], spec: InputSpec, scale_px: int | tuple[int, int]) -> NDArray[np.float32]:
    """Scale an image so that its shorter side is ``scale_px`` long, as the network's input.

    Aspect ratio kept, the longer side rounded and without a limit; bilinear without antialiasing, as the crops are;
    mean subtracted, in the network's colour order and range (``spec.side_px`` does not matter).

    Args:
        image: uint8 [H, W, 3] RGB.
        scale_px: The shorter side, or both sides (width, height).

    Returns:
        float32 [1, 3, h, w] in channels-last memory.
    """
    height, width = image.shape[:2]
    pixels = Pixels(image, np.array([[0, 0, width, height]]), spec)(0, 0, width, height)
    if isinstance(scale_px, tuple):
        shape = scale_px
    else:
        factor = scale_px / min(height, width)
        shape = (int(width * factor + 0.5), int(height * factor + 0.5))
    resized = cv2.resize(pixels, shape, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized, np.float32)[None].transpose(0, 3, 1, 2)


class Pixels:
    """The image in the network's colour order and range, mean subtracted, as float32.

    Converted once where the regions overlap much, else region by region; a table look-up per value either way, so
    the same bits. Called with a part of the image, x1, y1, x2, y2 in whole pixels.

    Args:
        image: uint8 [H, W, 3] RGB.
        source: int64 [n, 4], the parts that will be asked for.
    """

    def __init__(self, image: NDArray[np.uint8], source: NDArray[np.int64], spec: InputSpec) -> None:
        self._image = image
        self._bgr = spec.color_order == "bgr"
        white = np.arange(256, dtype=np.float64)[:, None] * (spec.value_range / 255.0)
        table = (white - np.asarray(spec.mean, np.float64)) / np.asarray(spec.std, np.float64)
        self._table = np.ascontiguousarray(table[None].astype(np.float32))  # [1, 256, 3]
        used = source[(source[:, 2] > source[:, 0]) & (source[:, 3] > source[:, 1])]
        self._x1, self._y1 = used[:, :2].min(axis=0, initial=2**31)
        x2, y2 = used[:, 2:].max(axis=0, initial=0)
        area = ((used[:, 2] - used[:, 0]) * (used[:, 3] - used[:, 1])).sum()
        self._all: NDArray[np.float32] | None = None
        if len(used) and area > (x2 - self._x1) * (y2 - self._y1):
            self._all = self._convert(image[self._y1 : y2, self._x1 : x2])

    def __call__(self, x1: int, y1: int, x2: int, y2: int) -> NDArray[np.float32]:
        """Return a part of the image: float32 [y2 - y1, x2 - x1, 3]."""
        if self._all is None:
            return self._convert(self._image[y1:y2, x1:x2])
        return self._all[y1 - self._y1 : y2 - self._y1, x1 - self._x1 : x2 - self._x1]

    def _convert(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Look every value up in the table of its channel."""
        ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if self._bgr else pixels
        return np.asarray(cv2.LUT(np.ascontiguousarray(ordered), self._table), np.float32)
