"""Whole images as the network's input, at a scale (SPP paper section 4.1; caffe_anysize_test.m)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ..networks.spec import InputSpec
from ..warp import Pixels


def scaled_image(image: NDArray[np.uint8], spec: InputSpec, scale_px: int) -> NDArray[np.float32]:
    """uint8 [H, W, 3] RGB -> float32 [1, 3, h, w] in channels-last memory, the shorter side ``scale_px`` long.

    Aspect ratio kept, the longer side rounded and without a limit; bilinear without antialiasing, as the crops are;
    mean subtracted, in the network's colour order and range (``spec.side_px`` does not matter).
    """
    height, width = image.shape[:2]
    pixels = Pixels(image, np.array([[0, 0, width, height]]), spec)(0, 0, width, height)
    factor = scale_px / min(height, width)
    shape = (int(width * factor + 0.5), int(height * factor + 0.5))
    resized = cv2.resize(pixels, shape, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized, np.float32)[None].transpose(0, 3, 1, 2)
