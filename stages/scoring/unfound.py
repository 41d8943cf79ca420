"""Matching by the best object not yet found, as the programs of Hoiem et al. (ECCV 2012), TIDE and ILSVRC have it.

VOC's own rule (:mod:`.matching`) looks at one object alone, the nearest: whoever comes to it second is wrong. Here the
second one may still take another object that it overlaps well enough.
"""

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import paired_iou

from .matching import Matches, keep_nearest, pairs_by_group, ranked_by_class
from .objects import FlatDetections, GroundTruth, Ints


def match_unfound(detections: FlatDetections, truth: GroundTruth, min_iou: float | NDArray[np.float64]) -> Matches:
    """Match detections with objects as matchDetectionsWithGroundTruth.m does.

    Per class, detections in order of falling score (equal scores: input order) each take, of the objects of their class
    and image that none before has taken and that they overlap by at least ``min_iou``, the one with the largest IoU
    (the first of equals). A difficult object can be taken, too: that detection is ignored, and a second one on it is a
    false positive, where VOC ignores it as well. Ours: a COCO crowd region, which the program does not know, can be
    taken any number of times.

    ``min_iou`` is one limit for all objects, or float64 [n], each object's own (ILSVRC's).

    ``overlap`` of the result is the largest IoU with any object of the class, ``nearest`` the object that was taken,
    else the nearest one.

    E.g. two detections on objects A and B, the better one with IoU 0.7 and 0.6, the other with 0.8 and 0.6: the second
    one takes B; by VOC's rule it is a false positive.
    """
    ranking = ranked_by_class(detections, truth.n_classes)
    overlap, nearest = np.zeros(len(detections)), np.full(len(detections), -1)
    limits = np.broadcast_to(np.asarray(min_iou, np.float64), truth.labels.shape)
    rows, objects = _wishes(detections, truth, limits, overlap, nearest)
    place = np.empty(len(detections), np.int64)
    place[ranking.order] = np.arange(len(detections))
    taken = _served(rows, objects, place, truth)
    took = taken >= 0
    nearest[took] = taken[took]
    ignored = np.zeros(len(detections), bool)
    ignored[took] = truth.ignored[taken[took]]
    return Matches(ranking, overlap, nearest, took & ~ignored, ignored)


def _wishes(
    detections: FlatDetections,
    truth: GroundTruth,
    limits: NDArray[np.float64],
    overlap: NDArray[np.float64],
    nearest: Ints,
) -> tuple[Ints, Ints]:
    """List the objects that each detection may take, best first: rows of detections, rising, and of objects.

    ``overlap`` and ``nearest`` are written on the way, as :func:`.matching.nearest_objects` returns them.
    """
    groups = detections.labels * truth.n_images + detections.image
    rows, objects, ious = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for pairs in pairs_by_group(groups, truth.labels * truth.n_images + truth.image):
        owner = pairs.rows[pairs.owner]
        iou = paired_iou(detections.boxes[owner], truth.boxes[pairs.objects])
        keep_nearest(pairs, iou, overlap, nearest)
        near = iou >= limits[pairs.objects]
        rows.append(owner[near])
        objects.append(pairs.objects[near])
        ious.append(iou[near])
    row, found = np.concatenate(rows), np.concatenate(objects)
    order = np.lexsort((-np.concatenate(ious), row))  # stable: equal IoUs keep the objects' order
    return row[order], found[order]


def _served(rows: Ints, objects: Ints, place: Ints, truth: GroundTruth) -> Ints:
    """Give each detection its best object that none before it takes: int64 [m], -1 for none.

    In rounds, for all at once: each that has none asks for the next on its list, and an object keeps the best-ranked of
    those that ask and drops the one it had. Since every object prefers by the same ranking, this ends as if they had
    chosen one after the other.
    """
    taken = np.full(len(place), -1)
    if not len(rows):
        return taken
    at = np.searchsorted(rows, np.arange(len(place)))  # where each list begins, and in the rounds how far it is
    end = np.searchsorted(rows, np.arange(len(place)), "right")
    by_place = np.argsort(place)
    holder = np.full(len(truth.labels), len(place))  # place of the detection that has the object
    free = np.flatnonzero(at < end)
    while len(free):
        asked = objects[at[free]]
        shared = truth.crowd[asked]
        taken[free[shared]] = asked[shared]
        free, asked = free[~shared], asked[~shared]
        before = holder[asked]
        np.minimum.at(holder, asked, place[free])
        lost = holder[asked] != place[free]
        taken[free[~lost]] = asked[~lost]
        dropped = by_place[np.unique(before[(before < len(place)) & (before != holder[asked])])]
        taken[dropped] = -1
        free = np.concatenate([free[lost], dropped])
        at[free] += 1
        free = free[at[free] < end[free]]
    return taken
