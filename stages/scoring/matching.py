"""Each box's largest IoU with an object of its group, and the matching of detections with objects by it, as VOC's
devkit has it (VOCevaldet.m), for all classes at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import paired_iou

from .objects import Bools, FlatDetections, Floats, GroundTruth, Ints

# Pairs of boxes compared at a time: bounds memory to some 100 MB whatever the dataset.
_PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class GroupPairs:
    """All (row, object) pairs of a run of rows that share a group with at least one object.

    ``rows`` [r] index the first list; pair p belongs to ``rows[owner[p]]`` and to object ``objects[p]``; the pairs of
    one row are consecutive, begin at ``starts``, and keep the objects' order.
    """

    rows: Ints
    starts: Ints
    owner: Ints
    objects: Ints


def pairs_by_group(row_groups: Ints, object_groups: Ints) -> Iterator[GroupPairs]:
    """Pair rows with the objects of the same group (an image, or a class in an image), in bounded runs."""
    order = np.argsort(object_groups, kind="stable")
    ranked = object_groups[order]
    first = np.searchsorted(ranked, row_groups, "left")
    count = np.searchsorted(ranked, row_groups, "right") - first
    rows = np.flatnonzero(count)
    run = np.cumsum(count[rows]) // _PAIRS_AT_ONCE
    for part in np.split(rows, np.flatnonzero(np.diff(run)) + 1):
        if not len(part):
            continue
        counts = count[part]
        starts = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(part)), counts)
        offset = np.arange(counts.sum()) - starts[owner]
        yield GroupPairs(part, starts, owner, order[first[part][owner] + offset])


def nearest_objects(
    boxes: Floats, groups: Ints, object_boxes: Floats, object_groups: Ints
) -> tuple[NDArray[np.float64], Ints]:
    """Find the largest IoU of each box with an object of its group, and that object's index (the first of equals).

    [m, 4], [m], [n, 4], [n] -> float64 [m], int64 [m]; 0 and -1 where the group holds no object or none touches.
    """
    overlap = np.zeros(len(boxes))
    nearest = np.full(len(boxes), -1, np.int64)
    for pairs in pairs_by_group(groups, object_groups):
        iou = paired_iou(boxes[pairs.rows][pairs.owner], object_boxes[pairs.objects])
        keep_nearest(pairs, iou, overlap, nearest)
    return overlap, nearest


def keep_nearest(pairs: GroupPairs, iou: NDArray[np.float64], overlap: NDArray[np.float64], nearest: Ints) -> None:
    """Write the pairs' rows of ``overlap`` and ``nearest``, as :func:`nearest_objects` returns them."""
    best = np.maximum.reduceat(iou, pairs.starts)
    place = np.where(iou == best[pairs.owner], np.arange(len(iou)), len(iou))
    first = np.minimum.reduceat(place, pairs.starts)
    overlap[pairs.rows] = best
    nearest[pairs.rows] = np.where(best > 0, pairs.objects[first], -1)


@dataclass(frozen=True)
class Ranking:
    """Detections by class and, in a class, best score first (equal scores: input order).

    ``order`` int64 [m] indexes the detections; class j's part is ``order[bounds[j]:bounds[j + 1]]``.
    """

    order: Ints
    bounds: Ints

    def of(self, label: int) -> Ints:
        """Detections of one class, best first."""
        return self.order[self.bounds[label] : self.bounds[label + 1]]


def ranked_by_class(detections: FlatDetections, n_classes: int) -> Ranking:
    """Rank every class's detections."""
    # each sort is stable; the labels' is a counting sort, the scores' on a class's part only
    order = np.argsort(detections.labels.astype(np.uint16 if n_classes < 2**16 else np.int64), kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(detections.labels, minlength=n_classes))])
    for begin, end in pairwise(bounds.tolist()):
        part = order[begin:end]
        order[begin:end] = part[np.argsort(-detections.scores[part], kind="stable")]
    return Ranking(order, bounds)


@dataclass(frozen=True)
class Matches:
    """The fate of each detection; arrays of length m in the detections' own order.

    ``nearest`` is the object of the detection's class and image with the largest IoU (``overlap``), -1 if none
    touches. A detection is ``right``, or ``ignored``, or else a false positive.
    """

    ranking: Ranking
    overlap: NDArray[np.float64]
    nearest: Ints
    right: Bools
    ignored: Bools

    def ranked(self, label: int) -> Ints:
        """Detections of one class, best first."""
        return self.ranking.of(label)


def match(detections: FlatDetections, truth: GroundTruth, min_iou: float) -> Matches:
    """Match detections with objects as VOCevaldet.m does.

    Per class, detections of all images in order of falling score (equal scores: input order). Each looks only at
    the object of its class and image with which its IoU is largest, difficult ones included. If that IoU is at least
    ``min_iou``, a difficult object makes the detection ignored, however often it is hit; otherwise the first
    detection to reach the object is right and later ones are false positives. The devkit's boxes are 1-based
    inclusive with width ``x2 - x1 + 1``, which gives the same IoU as ours. A COCO crowd region is treated as a
    difficult object (VOC has none).
    """
    ranking = ranked_by_class(detections, truth.n_classes)
    overlap, nearest = nearest_objects(
        detections.boxes,
        detections.labels * truth.n_images + detections.image,
        truth.boxes,
        truth.labels * truth.n_images + truth.image,
    )
    hit = (overlap >= min_iou) & (nearest >= 0)
    ignored = np.zeros(len(detections), bool)
    ignored[hit] = truth.ignored[nearest[hit]]
    claims = ranking.order[(hit & ~ignored)[ranking.order]]
    _, first = np.unique(nearest[claims], return_index=True)
    right = np.zeros(len(detections), bool)
    right[claims[first]] = True
    return Matches(ranking, overlap, nearest, right, ignored)
