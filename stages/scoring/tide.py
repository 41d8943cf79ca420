"""TIDE's six kinds of errors and what each costs (Bolya et al., ECCV 2020), by the definitions of its program, tidecv.

Everything here is its: AP at 101 recalls, at most 100 detections of an image, and difficult objects as regions in which
a detection of their class is ignored. Ours stands in :mod:`.mistakes`, whose kinds are Hoiem et al.'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .matching import pairs_by_group
from .mistakes import MIN_CONTACT, contacts
from .objects import Bools, FlatDetections, GroundTruth, Ints
from .unfound import match_unfound
from .voc import envelope

MAX_PER_IMAGE = 100
RECALLS = np.arange(101) / 100
# The kinds, in the order in which they are told apart, as tidecv calls them. "Both": of another class and badly placed.
KINDS = ("Loc", "Cls", "Dupe", "Bkg", "Both", "Miss")
_LOC, _CLS, _DUPE, _BKG, _BOTH, _MISS = range(6)


@dataclass(frozen=True)
class Tide:
    """TIDE's figures, AP in [0, 1].

    ``gains``: what AP would gain (never below 0) if all errors of a kind were mended; ``false_positives``: if every
    false positive scored below every right detection; ``false_negatives``: if nothing unfound were asked for.
    ``counts``: the number of errors by kind.
    """

    ap: float
    gains: Mapping[str, float]
    false_positives: float
    false_negatives: float
    counts: Mapping[str, int]


@dataclass(frozen=True)
class _Errors:
    """The wrong and the ignored detections, in tidecv's order.

    ``rows`` [e] of the detections, ``kind`` [e]; ``mends`` [e]: the object that its mending would find, -1 for none;
    ``missed``: the objects that no mending would find; ``counted`` [e]: whether AP knows the detection, which it does
    of an ignored one only when mended.
    """

    rows: Ints
    kind: Ints
    mends: Ints
    missed: Ints
    counted: Bools


def tide(detections: FlatDetections, truth: GroundTruth, min_iou: float = 0.5) -> Tide | None:
    """Find what each kind of error costs; None without an object or a detection.

    Args:
        min_iou: of a right detection; one below :data:`.mistakes.MIN_CONTACT` with every object is of background.
    """
    found, objects = _as_read(detections), truth.take(~truth.ignored)
    if not len(found) and not len(objects.labels):
        return None
    matches = match_unfound(found, objects, min_iou)
    overlap, nearest = matches.overlap, matches.nearest
    wrong = np.flatnonzero(~matches.right)
    box = overlap[wrong]
    ((other, near_other),) = contacts(found.take(wrong), objects, [~np.eye(truth.n_classes, dtype=bool)])
    kind = np.select(
        [
            (box >= MIN_CONTACT) & (box <= min_iou),
            other >= min_iou,
            box > min_iou,
            np.maximum(box, other) <= MIN_CONTACT,
        ],
        [_LOC, _CLS, _DUPE, _BKG],
        _BOTH,
    )
    target = np.select([kind == _LOC, kind == _CLS], [nearest[wrong], near_other], -1)
    used = np.zeros(len(objects.labels), bool)
    used[nearest[matches.right]] = True
    errors = _errors(wrong, kind, target, used, ~_in_ignored(found, truth, min_iou)[wrong])
    n_found = np.bincount(objects.labels[used], minlength=truth.n_classes)
    return _costs(found, objects, np.flatnonzero(matches.right), errors, n_found)


def _as_read(detections: FlatDetections) -> FlatDetections:
    """Order detections as tidecv meets them: by image, there by score; the best :data:`MAX_PER_IMAGE` of each image."""
    order = np.lexsort((-detections.scores.astype(np.float64), detections.image))
    image = detections.image[order]
    return detections.take(order[np.arange(len(order)) - np.searchsorted(image, image) < MAX_PER_IMAGE])


def _in_ignored(detections: FlatDetections, truth: GroundTruth, min_iou: float) -> Bools:
    """Tell which detections lie with more than ``min_iou`` of their area in an ignored object of their class."""
    out = np.zeros(len(detections), bool)
    which = np.flatnonzero(truth.ignored)
    groups = detections.labels * truth.n_images + detections.image
    for pairs in pairs_by_group(groups, truth.labels[which] * truth.n_images + truth.image[which]):
        rows = pairs.rows[pairs.owner]
        a, b = detections.boxes[rows].astype(np.float64), truth.boxes[which[pairs.objects]].astype(np.float64)
        sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        inside = sides.clip(0).prod(axis=1) > min_iou * (a[:, 2:] - a[:, :2]).prod(axis=1)
        out[rows[inside]] = True
    return out


def _errors(rows: Ints, kind: Ints, target: Ints, used: Bools, counted: Bools) -> _Errors:
    """Let each object that nothing found be mended by the first error that would find it, of either kind."""
    mends = np.full(len(rows), -1)
    aims = np.flatnonzero((target >= 0) & ~used[target]) if len(used) else np.zeros(0, np.int64)
    objects, first = np.unique(target[aims], return_index=True)
    mends[aims[first]] = objects
    missed = ~used
    missed[objects] = False
    return _Errors(rows, kind, mends, np.flatnonzero(missed), counted)


def _costs(found: FlatDetections, objects: GroundTruth, right: Ints, errors: _Errors, n_found: Ints) -> Tide:
    """Score the detections as they are, and with each kind of error mended."""
    positives = np.bincount(objects.labels, minlength=objects.n_classes)
    left = positives - np.bincount(objects.labels[errors.missed], minlength=objects.n_classes)
    falling = np.argsort(-found.scores.astype(np.float64), kind="stable")
    is_right = np.zeros(len(found), bool)
    is_right[right] = True
    known = np.zeros(len(found), bool)
    known[right], known[errors.rows] = True, errors.counted
    # before anything is mended, equal scores stand in the order of reading; after it, errors stand first
    plain = falling[known[falling]]
    ap = _mean_ap(found.labels[plain], is_right[plain], positives)
    listed = np.concatenate([errors.rows, right])
    order = np.argsort(-found.scores[listed].astype(np.float64), kind="stable")
    mends = np.concatenate([errors.mends, np.full(len(right), -1)])[order]
    kind = np.concatenate([errors.kind, np.full(len(right), -1)])[order]
    labels, good, counted = found.labels[listed[order]], kind == -1, known[listed[order]]
    gains = {}
    for number, name in enumerate(KINDS):
        hit = (kind == number) & (mends >= 0)
        keep = (counted & (kind != number)) | hit
        of = labels.copy()
        of[hit] = objects.labels[mends[hit]]
        now = _mean_ap(of[keep], (good | hit)[keep], left if number == _MISS else positives)
        gains[name] = max(now - ap, 0.0)
    perfect = np.argsort(~good[counted], kind="stable")
    counts = np.bincount(errors.kind, minlength=len(KINDS))
    counts[_MISS] = len(errors.missed)
    return Tide(
        ap,
        gains,
        _mean_ap(labels[counted][perfect], good[counted][perfect], positives) - ap,
        _mean_ap(labels[counted], good[counted], n_found) - ap,
        dict(zip(KINDS, counts.tolist(), strict=True)),
    )


def _mean_ap(labels: Ints, right: Bools, positives: Ints) -> float:
    """Average AP over the classes that have an object or a detection; one without objects has 0.

    ``labels``, ``right`` [k]: of the detections of all classes, best first. A class's AP is the mean of the best
    precision from 101 recalls on.
    """
    # a counting sort, as of ranked_by_class
    order = np.argsort(labels.astype(np.uint16 if len(positives) < 2**16 else np.int64), kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(positives)))
    right, aps = right[order], []
    for begin, end, n_objects in zip(ends - np.diff(ends, prepend=0), ends, positives.tolist(), strict=True):
        if n_objects:
            aps.append(_ap(right[begin:end], n_objects))
        elif end > begin:
            aps.append(0.0)
    return sum(aps) / len(aps) if aps else 0.0


def _ap(right: Bools, n_objects: int) -> float:
    found = np.cumsum(right, dtype=np.float64)
    best = envelope(found / np.arange(1, len(found) + 1))
    at = np.searchsorted(found / n_objects, RECALLS)
    return float(best[at[at < len(best)]].sum() / len(RECALLS))
