"""Which regions a box regressor learns from, and what each should become (paper appendix C)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.box_coding import encode
from stages.common.boxes import iou


@dataclass(frozen=True)
class Pairs:
    """Training pairs of one image. rows int64 [m], classes int64 [m], targets float64 [m, 4] (``box_coding``)."""

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    targets: NDArray[np.float64]


def training_pairs(boxes: NDArray[Any], is_gt: NDArray[np.bool_], gt_class: NDArray[np.int64], min_iou: float) -> Pairs:
    """The regions near an object, with the transform onto it: boxes [n, 4], is_gt bool [n], gt_class int64 [n].

    A region is used when its largest IoU with any object is strictly above ``min_iou``; that object (the first of
    equals) is its target and gives it its class. Ground-truth rows take part, with zero targets, as the authors do.
    """
    objects = np.flatnonzero(is_gt)
    if not len(objects):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)))
    overlaps = iou(boxes, boxes[objects])
    rows = np.flatnonzero(overlaps.max(axis=1) > min_iou)
    nearest = objects[overlaps[rows].argmax(axis=1)]
    return Pairs(rows, gt_class[nearest], encode(boxes[rows], boxes[nearest]))
