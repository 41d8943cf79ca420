"""Boxes, labels and flags of an image, written as plain lists."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def as_boxes(boxes: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """float32 [n, 4]."""
    return np.array(boxes, np.float32).reshape(-1, 4)


def as_labels(labels: Sequence[int]) -> NDArray[np.int64]:
    return np.array(labels, np.int64)


def as_flags(flags: Sequence[object]) -> NDArray[np.bool_]:
    return np.array(flags, bool)
