"""How well proposals cover objects (Hosang et al. 2016; Uijlings et al. 2013, section 5).

``stages.proposals.recall`` makes of it the proposals' own summary of every split, ``stages.scoring.proposals`` the
scores of the test split.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import iou

_BLOCK = 65_536  # boxes compared at once; bounds memory at a few MB per object


def best_overlaps(boxes: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.float64]:
    """Largest IoU any box has with each object: [n, 4] x [m, 4] -> float64 [m], 0 where there are no boxes."""
    best = np.zeros(len(objects))
    if len(objects):
        for start in range(0, len(boxes), _BLOCK):
            best = np.maximum(best, iou(boxes[start : start + _BLOCK], objects).max(axis=0))
    return best


def recall_at(overlaps: NDArray[Any], thresholds: ArrayLike) -> NDArray[np.float64]:
    """Part of the objects whose best overlap reaches each threshold: [m], [t] -> float64 [t]; NaN without objects."""
    thresholds = np.asarray(thresholds, np.float64)
    if not len(overlaps):
        return np.full(len(thresholds), np.nan)
    # An overlap that was kept in float32, a rounding below its threshold (0.7 has no exact float32), reaches it.
    part: NDArray[np.float64] = (np.asarray(overlaps, np.float64)[:, None] >= thresholds - 1e-7).mean(axis=0)
    return part


def average_best_overlap(overlaps: NDArray[Any]) -> float:
    """Mean best overlap (ABO) of the objects; NaN without objects. The mean of classes' ABO is MABO."""
    return float(np.asarray(overlaps, np.float64).mean()) if len(overlaps) else float("nan")
