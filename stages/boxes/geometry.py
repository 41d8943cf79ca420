"""Boxes: float32 ``[n, 4]`` arrays of ``x1, y1, x2, y2`` in pixels, 0-based, right and bottom edge exclusive.

A box's width is ``x2 - x1``. (The authors' code is 1-based inclusive with width ``x2 - x1 + 1``: the same boxes, since
``x1_ours = x1_theirs - 1`` and ``x2_ours = x2_theirs``. Areas, IoU and NMS therefore agree exactly.)
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
# What every file of boxes says of itself.
BOX_CONVENTION = "x1, y1, x2, y2 in pixels, 0-based, right and bottom exclusive"
# A proposal lies in a crowd region when more than this part of it does (py-faster-rcnn's TRAIN.CROWD_THRESH).
CROWD_COVER = 0.7


def area(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Area of each box: [n, 4] -> float64 [n], px squared; 0 for a degenerate one."""
    return _area(np.asarray(boxes, np.float64).reshape(-1, 4))


def _area(b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(b[..., 2] - b[..., 0], 0) * np.maximum(b[..., 3] - b[..., 1], 0)


def iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of every pair: [n, 4] x [m, 4] -> float64 [n, m] in [0, 1].

    In float64, so that thresholds such as "at least 0.5" fall the same way everywhere. Two boxes without area have
    IoU 0.
    """
    return _iou(np.asarray(a, np.float64).reshape(-1, 1, 4), np.asarray(b, np.float64).reshape(1, -1, 4))


def paired_iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of row i of ``a`` with row i of ``b``: [n, 4] x [n, 4] -> float64 [n]; the same values as :func:`iou`'s."""
    return _iou(np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4))


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes [..., 4] whose leading axes are broadcast."""
    w = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    h = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    intersection = np.maximum(w, 0) * np.maximum(h, 0)
    union = _area(a) + _area(b) - intersection
    overlap: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return overlap


def class_overlaps(
    boxes: NDArray[Any], gt_boxes: NDArray[Any], gt_labels: NDArray[Any], n_classes: int
) -> NDArray[np.float32]:
    """Largest IoU of each box with each class's ground truth: float32 [n, n_classes], 0 where a class is absent.

    The authors' ``overlap`` matrix (rcnn imdb/roidb_from_voc.m): all classes, not only the best one's.
    """
    overlaps = iou(boxes, gt_boxes)
    out = np.zeros((len(overlaps), n_classes), np.float32)
    for j in np.unique(np.asarray(gt_labels)):
        out[:, j] = overlaps[:, np.asarray(gt_labels) == j].max(axis=1)
    return out


def cover(boxes: NDArray[Any], regions: NDArray[Any]) -> NDArray[np.float64]:
    """The largest part of each box that one region covers: [n, 4], [m, 4], m > 0 -> [n] in [0, 1]."""
    b, r = np.asarray(boxes, np.float64)[:, None], np.asarray(regions, np.float64)[None]
    sides = np.minimum(b[..., 2:], r[..., 2:]) - np.maximum(b[..., :2], r[..., :2])
    covered: NDArray[np.float64] = sides.clip(0).prod(axis=-1).max(axis=1)  # [n]
    return covered / np.maximum(area(boxes), np.finfo(np.float32).tiny)


def clip(boxes: NDArray[Any], width: int, height: int) -> Boxes:
    """Boxes cut to the image ``[0, width] x [0, height]``: [n, 4] -> float32 [n, 4]."""
    b = np.asarray(boxes, np.float32).reshape(-1, 4)
    return np.stack(
        [b[:, 0].clip(0, width), b[:, 1].clip(0, height), b[:, 2].clip(0, width), b[:, 3].clip(0, height)], 1
    )


def touched(box: Sequence[float] | NDArray[Any], width: int, height: int) -> tuple[int, int, int, int]:
    """Return the pixels that a box (x1, y1, x2, y2) touches in an image of ``width`` x ``height`` px: x1, y1, x2, y2.

    Whole numbers inside the image, right and bottom exclusive, with x1 <= x2 and y1 <= y2.
    """
    left, top, right, bottom = (float(v) for v in box)
    x1, y1 = min(max(math.floor(left), 0), width), min(max(math.floor(top), 0), height)
    return x1, y1, min(max(math.ceil(right), x1), width), min(max(math.ceil(bottom), y1), height)


def mirrored_boxes(boxes: NDArray[Any], width: float) -> Boxes:
    """Return where boxes [n, 4] lie in the mirror image of an image ``width`` px wide: float32 [n, 4]."""
    b = np.asarray(boxes, np.float32).reshape(-1, 4)
    return np.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], 1, dtype=np.float32)


def in_crowd(boxes: NDArray[Any], regions: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which boxes [n, 4] lie in a crowd region, of ``regions`` [m, 4]: more than ``CROWD_COVER`` of them."""
    return cover(boxes, regions) > CROWD_COVER if len(regions) else np.zeros(len(boxes), np.bool_)
