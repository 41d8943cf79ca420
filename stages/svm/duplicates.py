"""Negatives that show nearly the same as another are dropped (SPP paper section 4.2; ``svm.duplicate_iou``), or those
that have the same features (the authors' code, spp_train.m: the same cells; ``svm.drop_equal``)."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes, area

_BITS = 64


def distinct_negatives(
    boxes: Boxes, is_gt: NDArray[np.bool_], negative: NDArray[np.bool_], most_iou: float
) -> NDArray[np.bool_]:
    """Which negatives of an image each class keeps: bool [n, N], of ``negative`` bool [n, N].

    ``boxes`` [n, 4] come ground truth first, then proposals, best first. In this order a class keeps a negative unless
    its IoU with one that the class has kept already is above ``most_iou``. Ground truth (of other classes) is never
    dropped. Classes do not see each other: what is no negative of a class drops none of its negatives. Each pair of
    boxes is compared once, for all classes.
    """
    sides = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4).T)
    words = _packed(negative)
    _drop(sides, area(boxes), np.asarray(is_gt, np.bool_), most_iou, words)
    bits = np.unpackbits(words.view(np.uint8), axis=1, count=negative.shape[1], bitorder="little")
    return bits.astype(np.bool_)


def first_of_equal(features: NDArray[Any], is_gt: NDArray[np.bool_], negative: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which negatives of an image each class keeps: bool [n, N], of ``negative`` bool [n, N].

    Of a class's negatives that have the same row of ``features`` [n, d], to the bit, the first. Ground truth (of other
    classes) is never dropped.
    """
    numbers: dict[bytes, int] = {}
    which = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in features], np.int64)
    kept = np.zeros((len(numbers), negative.shape[1]), np.bool_)  # classes that have a negative of these features
    out = negative.copy()
    for row, number in enumerate(which):
        if not is_gt[row]:
            out[row] &= ~kept[number]
        kept[number] |= out[row]
    return out


def _packed(negative: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """bool [n, N] as bits, 64 classes a word: [n, words]."""
    rows, classes = negative.shape
    padded = np.zeros((rows, -(-classes // _BITS) * _BITS), np.bool_)
    padded[:, :classes] = negative
    return np.packbits(padded, axis=1, bitorder="little").view("<u8")


@njit(cache=True, nogil=True)
def _drop(sides: Any, areas: Any, is_gt: Any, most_iou: float, words: Any) -> None:
    """Clear the bits of dropped negatives: sides float64 [4, n] (x1, y1, x2, y2), words uint64 [n, words]."""
    x1, y1, x2, y2 = sides[0], sides[1], sides[2], sides[3]
    n, count = words.shape
    near = np.empty(n, np.bool_)
    for i in range(n):
        keepers = np.uint64(0)
        for w in range(count):
            keepers |= words[i, w]
        if keepers == 0:
            continue
        for k in range(i + 1, n):  # without a branch, so that it is vectorised
            width = max(min(x2[i], x2[k]) - max(x1[i], x1[k]), 0.0)
            height = max(min(y2[i], y2[k]) - max(y1[i], y1[k]), 0.0)
            shared = width * height
            # shared / union > most_iou without a division by zero
            near[k] = shared > most_iou * (areas[i] + areas[k] - shared)
        for k in range(i + 1, n):
            if near[k] and not is_gt[k]:
                for w in range(count):
                    words[k, w] &= ~words[i, w]
