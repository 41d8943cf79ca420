"""Greedy non-maximum suppression of all classes at once, and the one comparison of an IoU with a threshold."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True, error_model="numpy")
def exceeds(shared: Any, union: Any, threshold: float) -> Any:
    """Tell whether ``shared / union`` is strictly above the threshold; two boxes without area never are.

    The quotient itself is compared, as torchvision's suppression and the authors' nms.m do: of whole-pixel boxes an IoU
    of 7/10 is the very number 0.7, and not above it. Multiplied out (``shared > threshold * union``) a fifth of such
    pairs would be. All in float64: torchvision's float32 rounds 3/10 up and so above 0.3, its float64 is this function.

    Args:
        shared, union: areas in px squared, float64 numbers (in compiled loops) or arrays.
    """
    return shared / union > threshold  # 0 / 0 is NaN, which is above nothing


def class_nms(
    boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], threshold: float, most: int | None = None
) -> NDArray[np.int64]:
    """Per-class greedy suppression; kept indices, by class and then best score first.

    A box goes when its IoU with a kept better one of its class is strictly above ``threshold`` (paper section 2.2). Of
    equal scores the one that stands first is better: regions come in the order in which their method ranked them, and
    torchvision's stable sort says the same. (The authors' nms.m keeps the last, a side of its rising sort, not a rule
    that the paper gives.) So the result is the same on every machine.

    Args:
        boxes: [m, 4].
        scores: [m].
        labels: int [m].
        most: boxes that a class keeps, its best; None: all.
    """
    labels, scores = np.asarray(labels, np.int64), np.asarray(scores, np.float64)
    order = np.arange(len(labels)) if _is_sorted(labels, scores) else np.lexsort((-scores, labels))  # stable
    sides = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4)[order].T)
    kept: NDArray[np.int64] = order[_kept(sides, labels[order], threshold, len(labels) if most is None else most)]
    return kept


@njit(cache=True, nogil=True)
def _is_sorted(labels: Any, scores: Any) -> bool:
    """Whether the boxes come by class and best first, as the stage's do."""
    for i in range(1, len(labels)):
        if labels[i] < labels[i - 1] or (labels[i] == labels[i - 1] and not scores[i] <= scores[i - 1]):
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _kept(sides: Any, labels: Any, threshold: float, most: int) -> Any:
    """Which of the sorted boxes survive: sides float64 [4, m] (x1, y1, x2, y2), labels [m] -> bool [m]."""
    x1, y1, x2, y2 = sides[0], sides[1], sides[2], sides[3]
    m = len(labels)
    areas = np.empty(m)
    for i in range(m):
        areas[i] = max(x2[i] - x1[i], 0.0) * max(y2[i] - y1[i], 0.0)
    alive = np.ones(m, np.bool_)
    end, kept = 0, 0
    for i in range(m):
        if i == end:  # the first of its class
            kept = 0
            while end < m and labels[end] == labels[i]:
                end += 1
        alive[i] &= kept < most
        if alive[i]:
            kept += 1
            for k in range(i + 1, end):  # without a branch, so that it is vectorised
                w = max(min(x2[i], x2[k]) - max(x1[i], x1[k]), 0.0)
                h = max(min(y2[i], y2[k]) - max(y1[i], y1[k]), 0.0)
                shared = w * h
                alive[k] &= not exceeds(shared, areas[i] + areas[k] - shared, threshold)
    return alive
