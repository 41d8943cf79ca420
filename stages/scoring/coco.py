"""COCO average precision, as pycocotools computes it, in float64 as there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .matching import Ranking, ranked_by_class
from .objects import Bools, FlatDetections, Floats, GroundTruth, Ints

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # per image and class

WRONG, RIGHT, IGNORED = 0, 1, 2
_EPS = np.spacing(1)

# Of each class that has objects: its detections int64 [k], best first, and what becomes of each at each IoU
# threshold, uint8 [k, T] of WRONG, RIGHT, IGNORED.
CocoMatches = Mapping[int, tuple[Ints, NDArray[np.uint8]]]


@dataclass(frozen=True)
class CocoScores:
    """COCO's AP (mean over IoU 0.5, 0.55, ... 0.95), and at 0.5 and 0.75; None without any object that counts.

    ``per_class``: each class's AP.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    per_class: tuple[float | None, ...]


def coco_scores(detections: FlatDetections, truth: GroundTruth, ranking: Ranking | None = None) -> CocoScores:
    """Score by COCO's protocol: area range "all", at most 100 detections per image and class, 101 recall points.

    Args:
        ranking: of these detections (``ranked_by_class``), where it is known already.
    """
    precision = np.full((len(IOU_THRESHOLDS), len(RECALLS), truth.n_classes), -1.0)  # -1: a class without an object
    for label, (_, outcome) in coco_matches(detections, truth, ranking).items():
        _interpolate(outcome, int(truth.positives[label]), precision[:, :, label])
    return CocoScores(
        _mean(precision),
        _mean(precision[0]),
        _mean(precision[5]),
        tuple(_mean(precision[:, :, j]) for j in range(truth.n_classes)),
    )


def coco_matches(detections: FlatDetections, truth: GroundTruth, ranking: Ranking | None = None) -> CocoMatches:
    """Match detections with objects as COCO does, at each of ``IOU_THRESHOLDS``.

    Difficult objects are ignored as COCO ignores: they need not be found, and one detection each that matches no
    other object is not held against the detector (VOC excuses every detection that hits one). Crowd regions are
    COCO's own: their IoU is the part of the detection that they cover, and any number of detections may match one.
    """
    ranking = ranking or ranked_by_class(detections, truth.n_classes)
    matches = {}
    for label in np.flatnonzero(truth.positives).tolist():
        ranked = ranking.of(label)
        # by image, and in it those that count first: the order in which a detection looks for its object
        objects = np.flatnonzero(truth.labels == label)
        objects = objects[np.lexsort((truth.ignored[objects], truth.image[objects]))]
        outcome: NDArray[np.uint8] = _match(
            detections.boxes,
            detections.image,
            ranked,
            truth.boxes[objects],
            np.searchsorted(truth.image[objects], np.arange(truth.n_images + 1)),
            truth.ignored[objects],
            truth.crowd[objects],
        )
        matches[label] = ranked, outcome
    return matches


def _mean(precision: NDArray[np.float64]) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


@njit(cache=True, nogil=True)
def _match(
    boxes: Floats, image: Ints, ranked: Ints, object_boxes: Floats, first: Ints, ignored: Bools, crowd: Bools
) -> NDArray[np.uint8]:
    """Find what becomes of one class's detections at each IoU threshold (COCOeval.evaluateImg): uint8 [k, T].

    Args:
        boxes, image: [m, 4] and [m], of all detections.
        ranked: int64 [k], the class's detections, best first; those beyond an image's best 100 are left as ignored.
        object_boxes, ignored, crowd: [n, 4], [n], [n], the class's objects by image, and in an image those that count
            before the ignored ones.
        first: [n_images + 1], where each image's objects begin.
    """
    outcome = np.full((len(ranked), len(IOU_THRESHOLDS)), IGNORED, np.uint8)
    seen = np.zeros(len(first) - 1, np.int64)
    taken = np.zeros((len(object_boxes), len(IOU_THRESHOLDS)), np.bool_)
    overlaps = np.zeros(len(object_boxes))
    for d in range(len(ranked)):
        i = image[ranked[d]]
        seen[i] += 1
        if seen[i] > MAX_DETECTIONS:
            continue
        begin, end = first[i], first[i + 1]
        for g in range(begin, end):
            overlaps[g] = _overlap(boxes[ranked[d]], object_boxes[g], crowd[g])
        for t in range(len(IOU_THRESHOLDS)):
            best, nearest = IOU_THRESHOLDS[t], -1
            for g in range(begin, end):
                if taken[g, t] and not crowd[g]:
                    continue
                if nearest >= 0 and ignored[g] and not ignored[nearest]:
                    break  # an object that counts is preferred to any that does not
                if overlaps[g] >= best:  # of equals the last
                    best, nearest = overlaps[g], g
            if nearest < 0:
                outcome[d, t] = WRONG
            else:
                taken[nearest, t] = True
                outcome[d, t] = IGNORED if ignored[nearest] else RIGHT
    return outcome


@njit(cache=True, nogil=True)
def _overlap(box: Floats, other: Floats, crowd: bool) -> np.float64:
    """Return the IoU in float64, or for a crowd the covered part of ``box``.

    Computed from x, y, width, height, as pycocotools has boxes: its last bit is not that of ``geometry.iou``.
    """
    x, y, other_x, other_y = np.float64(box[0]), np.float64(box[1]), np.float64(other[0]), np.float64(other[1])
    w, h = np.float64(box[2]) - x, np.float64(box[3]) - y
    other_w, other_h = np.float64(other[2]) - other_x, np.float64(other[3]) - other_y
    shared_w = min(w + x, other_w + other_x) - max(x, other_x)
    shared_h = min(h + y, other_h + other_y) - max(y, other_y)
    if shared_w <= 0 or shared_h <= 0:
        return np.float64(0)
    shared = shared_w * shared_h
    return shared / (w * h if crowd else w * h + other_w * other_h - shared)


@njit(cache=True, nogil=True)
def _interpolate(outcome: NDArray[np.uint8], n_objects: int, precision: NDArray[np.float64]) -> None:
    """Write the best precision at each recall or above (COCOeval.accumulate) to ``precision`` [T, R].

    ``outcome`` [k, T] is best first.
    """
    for t in range(outcome.shape[1]):
        right = counted = 0
        for d in range(len(outcome)):
            right += outcome[d, t] == RIGHT
            counted += outcome[d, t] != IGNORED
        envelope, r = 0.0, len(RECALLS) - 1
        while r >= 0 and RECALLS[r] > right / n_objects:
            precision[t, r] = 0
            r -= 1
        for d in range(len(outcome) - 1, -1, -1):  # from the worst up
            if outcome[d, t] == IGNORED:
                continue
            envelope = max(envelope, right / (counted + _EPS))
            counted -= 1
            if outcome[d, t] == RIGHT:
                right -= 1
                while r >= 0 and RECALLS[r] > right / n_objects:
                    precision[t, r] = envelope
                    r -= 1
        precision[t, : r + 1] = envelope
