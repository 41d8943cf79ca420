"""Greedy non-maximum suppression of all classes at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.boxes import area


def class_nms(boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """Per-class greedy suppression; kept indices, by class and then best score first.

    boxes [m, 4], scores [m], labels int [m]. Within a class the same as ``boxes.nms``, ties included: a box goes
    when its IoU with a kept better one is strictly above ``threshold``; equal scores keep their input order.

    One step settles the k-th best box of every class, so that an image takes as many steps as its largest class has
    boxes and not as many as it has boxes.
    """
    labels = np.asarray(labels)
    order = np.lexsort((np.arange(len(labels)), -np.asarray(scores, np.float64), labels))
    if not len(order):
        return order.astype(np.int64)
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, counts)
    row = np.repeat(np.arange(len(counts)), counts)
    grid = np.zeros((len(counts), counts.max(), 4))  # [classes, ranks, 4], padded by boxes without area
    grid[row, rank] = np.asarray(boxes, np.float64).reshape(-1, 4)[order]
    alive = np.zeros(grid.shape[:2], bool)
    alive[row, rank] = True
    _suppress(grid, alive, threshold)
    return order[alive[row, rank]].astype(np.int64)


def _suppress(grid: NDArray[np.float64], alive: NDArray[np.bool_], threshold: float) -> None:
    """Clear ``alive`` [C, K] where a better box of the same class suppresses; grid [C, K, 4], best first."""
    areas = area(grid).reshape(alive.shape)
    for k in range(alive.shape[1] - 1):
        rows = np.flatnonzero(alive[:, k])
        if not len(rows):
            continue
        best, rest = grid[rows, k, None], grid[rows, k + 1 :]
        w = np.minimum(best[..., 2], rest[..., 2]) - np.maximum(best[..., 0], rest[..., 0])
        h = np.minimum(best[..., 3], rest[..., 3]) - np.maximum(best[..., 1], rest[..., 1])
        inter = np.maximum(w, 0) * np.maximum(h, 0)
        # inter / union > threshold without a division by zero
        union = areas[rows, k, None] + areas[rows, k + 1 :] - inter
        alive[rows, k + 1 :] &= ~(inter > threshold * union)
