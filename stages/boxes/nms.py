"""Greedy non-maximum suppression, of all classes at once or until enough is kept; and the one comparison of an IoU with
a threshold, by which both do the same."""

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
    ends = np.append(np.flatnonzero(np.diff(labels[order])) + 1, len(labels))
    kept: NDArray[np.int64] = order[_kept(sides, ends, threshold, len(labels) if most is None else most)]
    return kept


@njit(cache=True, nogil=True)
def _is_sorted(labels: Any, scores: Any) -> bool:
    """Whether the boxes come by class and best first, as the stage's do."""
    for i in range(1, len(labels)):
        if labels[i] < labels[i - 1] or (labels[i] == labels[i - 1] and not scores[i] <= scores[i - 1]):
            return False
    return True


def first_kept(boxes: NDArray[Any], threshold: float, most: int | None = None) -> NDArray[np.int64]:
    """Suppress boxes that come best first, until ``most`` are kept: [m, 4] -> int64 [k] rows, rising.

    What :func:`class_nms` keeps of one class, and it ends with the last box that it keeps: for the best 300 of 6,000
    few are looked at.
    """
    sides = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4).T)
    m = sides.shape[1]
    kept: NDArray[np.int64] = _kept(sides, np.array([m]), threshold, m if most is None else most)
    return kept


_GROUP = 32  # kept boxes compared at once, without a branch; then it is asked whether one of them suppresses


@njit(cache=True, nogil=True, error_model="numpy")
def _kept(sides: Any, ends: Any, threshold: float, most: int) -> Any:
    """Return the rows that survive of boxes sorted by class and best first, int64 [k].

    Each box is compared with the kept ones of its class, not each kept one with all that follow: so it can end early.
    Sides float64 [4, m] (x1, y1, x2, y2), ``ends`` int64 [classes] the end of each class.
    """
    m = sides.shape[1]
    rows = np.empty(m, np.int64)
    room = min(most, m)
    x1, y1, x2, y2, areas = np.empty(room), np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    found, begin = 0, 0
    for end in ends:
        kept = 0
        for i in range(begin, end):
            if kept == most:
                break
            a1, b1, a2, b2 = sides[0, i], sides[1, i], sides[2, i], sides[3, i]
            own = max(a2 - a1, 0.0) * max(b2 - b1, 0.0)
            hits = 0
            for start in range(0, kept, _GROUP):
                for k in range(start, min(start + _GROUP, kept)):
                    w = max(min(a2, x2[k]) - max(a1, x1[k]), 0.0)
                    h = max(min(b2, y2[k]) - max(b1, y1[k]), 0.0)
                    shared = w * h
                    hits += exceeds(shared, areas[k] + own - shared, threshold)
                if hits:
                    break
            if not hits:
                x1[kept], y1[kept], x2[kept], y2[kept], areas[kept] = a1, b1, a2, b2, own
                kept += 1
                rows[found] = i
                found += 1
        begin = end
    return rows[:found]


def overlap_bits(boxes: NDArray[Any], threshold: float) -> NDArray[np.uint64]:
    """Find which boxes suppress which, for thousands of suppressions of the same boxes by different scores.

    Returns:
        uint64 [m, ceil(m / 64)]: bit j of row i (bit j % 64 of word j // 64) is set where the IoU of boxes i and j is
        above the threshold as :func:`exceeds` says, and where i is j.
    """
    sides = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4).T)
    m = sides.shape[1]
    bits = np.zeros((m, -(-m // 64)), np.uint64)
    _fill_bits(sides, threshold, bits)
    return bits


@njit(cache=True, nogil=True, error_model="numpy")
def _fill_bits(sides: Any, threshold: float, bits: Any) -> None:
    m = sides.shape[1]
    areas = np.empty(m)
    for i in range(m):
        areas[i] = max(sides[2, i] - sides[0, i], 0.0) * max(sides[3, i] - sides[1, i], 0.0)
    hits = np.zeros(bits.shape[1] * 64, np.uint8)
    for i in range(m):
        a1, b1, a2, b2 = sides[0, i], sides[1, i], sides[2, i], sides[3, i]
        for j in range(m):
            w = max(min(a2, sides[2, j]) - max(a1, sides[0, j]), 0.0)
            h = max(min(b2, sides[3, j]) - max(b1, sides[1, j]), 0.0)
            shared = w * h
            hits[j] = exceeds(shared, areas[j] + areas[i] - shared, threshold)
        hits[i] = 1
        for word in range(bits.shape[1]):
            found = np.uint64(0)
            for bit in range(64):
                found |= np.uint64(hits[word * 64 + bit]) << np.uint64(bit)
            bits[i, word] = found
