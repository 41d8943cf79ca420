"""One image's detections from its RoIs' class probabilities and box transforms (Fast R-CNN section 2.4).

Two rules. ``image`` is py-faster-rcnn's: what scores above .05 enters per-class suppression at .3, and of all classes
together the image keeps its best 100. The other is R-CNN's and the MATLAB program's: the best 100 of each class, and
later a score that each class must reach over the whole dataset (:mod:`stages.detections.thresholds`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.boxes.coding import decode
from stages.boxes.geometry import clip
from stages.detections.suppression import BoxSet, Candidates, ImageDetections, suppressed
from stages.kernels.selection import best_rows

SCORE_FLOOR = 0.05  # py-faster-rcnn's test_net: scores at or below it are no detections
NMS_IOU = 0.3
MAX_PER_IMAGE = 100


def candidates_of(
    probabilities: NDArray[np.float32],
    transforms: NDArray[Any],
    rois: NDArray[Any],
    width: int,
    height: int,
    *,
    score_floor: float | None = SCORE_FLOOR,
    max_per_class: int | None = None,
) -> Candidates:
    """Decode each class's boxes and choose those that enter suppression, by class and then best score first.

    Equal scores keep the RoIs' order. Boxes are clipped to [0, width] x [0, height]; only those chosen are decoded.

    Args:
        probabilities: [n, n_classes + 1], background first.
        transforms: [n, n_classes, 4], as :func:`~stages.boxes.coding.encode` makes them (denormalised).
        rois: [n, 4] px of the original image.
        score_floor: A class's score must be above it; None: any (R-CNN's rule).
        max_per_class: Of each class this many, its best; None: all.

    Returns:
        Candidates whose ``no_bbox`` are the RoIs themselves.
    """
    regions = np.asarray(rois, np.float32).reshape(-1, 4)
    scores = np.ascontiguousarray(np.asarray(probabilities, np.float32)[:, 1:].T)  # [n_classes, n]
    rows, best = best_rows(scores, len(regions) if max_per_class is None else max_per_class)
    above = np.ones(best.shape, np.bool_) if score_floor is None else best > score_floor
    chosen, labels = rows[above], np.nonzero(above)[0].astype(np.int64)
    moved = decode(regions[chosen], np.asarray(transforms)[chosen, labels])
    return Candidates(
        clip(moved, width, height), clip(regions[chosen], width, height), best[above].astype(np.float32), labels
    )


def detections_of(
    candidates: Candidates, *, nms_iou: float = NMS_IOU, max_per_image: int | None = MAX_PER_IMAGE
) -> ImageDetections:
    """Suppress each class's candidates, and keep the image's best, with box regression and without.

    Where the score at rank ``max_per_image`` of the image is tied, all detections with it stay, as in py-faster-rcnn:
    so there may be more. None: all stay.
    """
    found = suppressed(candidates, nms_iou)
    if max_per_image is None:
        return found
    return ImageDetections(best_of_image(found.bbox, max_per_image), best_of_image(found.no_bbox, max_per_image))


def best_of_image(found: BoxSet, most: int) -> BoxSet:
    """Return an image's ``most`` best detections of all classes, and those that tie with the last; order is kept."""
    if len(found) <= most:
        return found
    limit = np.partition(found.scores, len(found) - most)[len(found) - most]
    keep = found.scores >= limit
    return BoxSet(found.boxes[keep], found.scores[keep], found.labels[keep])
