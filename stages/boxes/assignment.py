"""Which object each box overlaps most, and which boxes are an object's best, without the matrix of all IoUs.

The IoUs are :func:`.geometry.iou`'s to the last bit; of 20,000 anchors and 300 objects the matrix would take 48 MB.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True)
class Assignment:
    """What n boxes and m objects are to each other.

    ``overlaps`` float64 [n] is each box's largest IoU with an object, ``objects`` int64 [n] the first object that it
    has it with; 0 and 0 for a box that meets none. ``best`` float64 [m] is each object's largest IoU with a box, and
    ``is_best`` bool [n] tells which boxes are, alone or tied to the last bit, some object's best at an IoU above 0.
    """

    overlaps: NDArray[np.float64]
    objects: NDArray[np.int64]
    best: NDArray[np.float64]
    is_best: NDArray[np.bool_]


def assign(boxes: NDArray[Any], objects: NDArray[Any]) -> Assignment:
    """Compare every box [n, 4] with every object [m, 4], m or n may be 0, without their matrix."""
    sides = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4).T)
    others = np.asarray(objects, np.float64).reshape(-1, 4)
    n = sides.shape[1]
    out = Assignment(np.zeros(n), np.zeros(n, np.int64), np.zeros(len(others)), np.zeros(n, np.bool_))
    _assign(sides, others, out.overlaps, out.objects, out.best, out.is_best)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _assign(sides: Any, objects: Any, overlaps: Any, nearest: Any, best: Any, is_best: Any) -> None:
    """Fill the last four; sides float64 [4, n] (x1, y1, x2, y2), objects [m, 4]. Loops over n are vectorised."""
    x1, y1, x2, y2 = sides[0], sides[1], sides[2], sides[3]
    n = sides.shape[1]
    areas = np.empty(n)
    for i in range(n):
        areas[i] = max(x2[i] - x1[i], 0.0) * max(y2[i] - y1[i], 0.0)
    found = np.empty(n)
    for j in range(len(objects)):
        a1, b1, a2, b2 = objects[j, 0], objects[j, 1], objects[j, 2], objects[j, 3]
        own = max(a2 - a1, 0.0) * max(b2 - b1, 0.0)
        for i in range(n):
            w = max(min(x2[i], a2) - max(x1[i], a1), 0.0)
            h = max(min(y2[i], b2) - max(y1[i], b1), 0.0)
            shared = w * h
            union = areas[i] + own - shared
            found[i] = shared / union if union > 0.0 else 0.0
        most = 0.0
        for i in range(n):
            if found[i] > overlaps[i]:
                overlaps[i] = found[i]
                nearest[i] = j
            most = max(most, found[i])
        best[j] = most
        if most > 0.0:
            for i in range(n):
                is_best[i] |= found[i] == most
