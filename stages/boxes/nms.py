"""Greedy non-maximum suppression of all classes at once."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def class_nms(boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """Per-class greedy suppression; kept indices, by class and then best score first.

    boxes [m, 4], scores [m], labels int [m]. Within a class the same as ``boxes.nms``, ties included: a box goes
    when its IoU with a kept better one is strictly above ``threshold``; equal scores keep their input order.
    """
    labels, scores = np.asarray(labels, np.int64), np.asarray(scores, np.float64)
    order = np.arange(len(labels)) if _is_sorted(labels, scores) else np.lexsort((-scores, labels))  # stable
    sides = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4)[order].T)
    return order[_kept(sides, labels[order], threshold)]


@njit(cache=True, nogil=True)
def _is_sorted(labels: Any, scores: Any) -> bool:
    """Whether the boxes come by class and best first, as the stage's do."""
    for i in range(1, len(labels)):
        if labels[i] < labels[i - 1] or (labels[i] == labels[i - 1] and not scores[i] <= scores[i - 1]):
            return False
    return True


@njit(cache=True, nogil=True)
def _kept(sides: Any, labels: Any, threshold: float) -> Any:
    """Which of the sorted boxes survive: sides float64 [4, m] (x1, y1, x2, y2), labels [m] -> bool [m]."""
    x1, y1, x2, y2 = sides[0], sides[1], sides[2], sides[3]
    m = len(labels)
    areas = np.empty(m)
    for i in range(m):
        areas[i] = max(x2[i] - x1[i], 0.0) * max(y2[i] - y1[i], 0.0)
    alive = np.ones(m, np.bool_)
    end = 0
    for i in range(m):
        if i == end:  # the first of its class
            while end < m and labels[end] == labels[i]:
                end += 1
        if alive[i]:
            for k in range(i + 1, end):  # without a branch, so that it is vectorised
                w = max(min(x2[i], x2[k]) - max(x1[i], x1[k]), 0.0)
                h = max(min(y2[i], y2[k]) - max(y1[i], y1[k]), 0.0)
                shared = w * h
                # shared / union > threshold without a division by zero
                alive[k] &= not shared > threshold * (areas[i] + areas[k] - shared)
    return alive


def nms(boxes: NDArray[Any], scores: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression; returns kept indices, best first.

    A box is dropped when its IoU with an already kept box is strictly above ``threshold`` (paper section 2.2; the
    authors' nms.m). Equal scores keep their input order, so the result is the same on every machine.
    """
    b = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    x1, y1, x2, y2 = (b[order, i] for i in range(4))
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    alive = np.ones(len(order), bool)
    keep: list[int] = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        keep.append(int(order[i]))
        rest = np.flatnonzero(alive[i + 1 :]) + i + 1
        w = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
        h = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
        inter = np.maximum(w, 0) * np.maximum(h, 0)
        # inter / union > threshold without a division by zero
        alive[rest[inter > threshold * (areas[i] + areas[rest] - inter)]] = False
    return np.asarray(keep, np.int64)
