"""Percentile bootstrap over images: how much a mean AP would move with other test images.

Several detectors are compared *paired*: the same resamples for all of them (one array of image weights), so that what
makes an image hard for each cancels in the difference.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_array

from .coco import IGNORED, RECALLS, RIGHT, WRONG, CocoMatches
from .matching import Matches
from .objects import FlatDetections, GroundTruth, Ints
from .voc import RECALL_STEPS

Weights = NDArray[np.integer[Any]]  # of any size of integer: image_weights takes the smallest

_Values = NDArray[np.float64]
# The seed's stream from which every evaluation draws its resamples: equal ones for all detectors of a dataset.
_STREAM = 1
_VALUES_AT_ONCE = 2_000_000
_WEIGHTS_AT_ONCE = 2**23  # of all images, as 8 bytes each: 64 MiB


def resampling(seed: int) -> np.random.Generator:
    """Return the generator that the resamples of the pipeline's ``seed`` are drawn from."""
    return np.random.default_rng(np.random.SeedSequence([seed, _STREAM]))


def image_weights(n_images: int, n_resamples: int, rng: np.random.Generator) -> Weights:
    """Draw how often each image is in each resample of the test set: [n_resamples, n_images].

    As int64 100,000 resamples of 5,000 images would be 4 GB: they are drawn in parts, and kept as uint8, or the
    smallest type that holds the largest: 500 MB.
    """
    chances = np.full(n_images, 1 / max(n_images, 1))
    weights: Weights = np.empty((n_resamples, n_images), np.uint8)
    step = max(1, _WEIGHTS_AT_ONCE // max(n_images, 1))
    for begin in range(0, n_resamples, step):
        drawn = rng.multinomial(n_images, chances, size=min(step, n_resamples - begin))
        weights = weights.astype(np.promote_types(weights.dtype, np.min_scalar_type(drawn.max(initial=0))), copy=False)
        weights[begin : begin + len(drawn)] = drawn
    return weights


def resampled_map(detections: FlatDetections, matches: Matches, truth: GroundTruth, weights: Weights) -> _Values:
    """Return the VOC 2010 (area) mAP of each resample: float64 [n_resamples]; NaN for one without any object.

    An image drawn w times counts as w images, so each of its detections and objects has weight w; matching stays
    inside an image and need not be repeated. A class without objects in a resample is left out of its mean.
    """
    return _resampled_voc(detections, matches, truth, weights, _area)


def resampled_eleven_point_map(
    detections: FlatDetections, matches: Matches, truth: GroundTruth, weights: Weights
) -> _Values:
    """Return the VOC 2007 (11-point) mAP of each resample: float64 [n_resamples], as :func:`resampled_map`."""
    return _resampled_voc(detections, matches, truth, weights, _at_levels(RECALL_STEPS))


def resampled_coco(
    detections: FlatDetections, matches: CocoMatches, truth: GroundTruth, weights: Weights
) -> tuple[_Values, _Values]:
    """Return COCO's AP and AP50 of each resample: two float64 [n_resamples]; NaN for one without any object."""
    per_class = [
        _resampled_ap(detections.image[ranked], outcome, _objects(truth, label, weights), weights, _at_levels(RECALLS))
        for label, (ranked, outcome) in matches.items()
    ]
    if not per_class:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    scores = np.array(per_class)  # [classes, T, n_resamples]
    return _mean_of_classes(scores.mean(axis=1)), _mean_of_classes(scores[:, 0])


# From the weight of each right detection and the best precision from it on (both [R, c], best score first) and the
# weight of the objects [c]: the class's AP in each of c resamples, float64 [c].
_Rule = Callable[[_Values, _Values, _Values], _Values]


def _area(hits: _Values, envelope: _Values, total: _Values) -> _Values:
    gained: _Values = (hits * envelope).sum(axis=0)
    ap: _Values = np.divide(gained, total, out=np.full(len(total), np.nan), where=total > 0)
    return ap


def _at_levels(levels: _Values) -> _Rule:
    """Make the rule "mean of the best precision at recall of at least each of ``levels``" (rising)."""

    def rule(hits: _Values, envelope: _Values, total: _Values) -> _Values:
        mean: _Values = _mean_at_levels(hits, envelope, total, levels)
        return mean

    return rule


@njit(cache=True, nogil=True)
def _mean_at_levels(hits: _Values, envelope: _Values, total: _Values, levels: _Values) -> _Values:
    out = np.full(len(total), np.nan)
    for c in range(len(total)):
        if total[c] == 0:
            continue
        gained, row = 0.0, 0
        found = hits[0, c] if len(hits) else 0.0
        for level in levels:
            while row < len(hits) and found / total[c] < level:
                row += 1
                if row < len(hits):
                    found += hits[row, c]
            if row == len(hits):
                break
            gained += envelope[row, c]
        out[c] = gained / len(levels)
    return out


def _resampled_voc(
    detections: FlatDetections, matches: Matches, truth: GroundTruth, weights: Weights, rule: _Rule
) -> _Values:
    per_class = []
    for label in np.flatnonzero(truth.positives).tolist():
        ranked = matches.ranked(label)
        ranked = ranked[~matches.ignored[ranked]]
        outcome = np.where(matches.right[ranked], RIGHT, WRONG).astype(np.uint8)[:, None]
        objects = _objects(truth, label, weights)
        per_class.append(_resampled_ap(detections.image[ranked], outcome, objects, weights, rule)[0])
    return _mean_of_classes(np.array(per_class)) if per_class else np.full(len(weights), np.nan)


def _objects(truth: GroundTruth, label: int, weights: Weights) -> _Values:
    """Sum the weights of the class's objects that count, in each resample: float64 [n_resamples]."""
    images = truth.image[(truth.labels == label) & ~truth.ignored]
    objects = np.bincount(images, minlength=weights.shape[1]).astype(np.float64)
    total = np.empty(len(weights))
    for part, w in _parts(weights):
        total[part] = objects @ w  # exact: whole numbers far below 2**53
    return total


def _parts(weights: Weights) -> Iterator[tuple[slice, _Values]]:
    """Give the weights of some resamples after others, [n_images, c], as many as are in memory at once."""
    step = max(1, _WEIGHTS_AT_ONCE // max(weights.shape[1], 1))
    for begin in range(0, len(weights), step):
        part = slice(begin, begin + step)
        yield part, weights[part].T.astype(np.float64)


def _weighed(counts: csr_array, images: Ints, weights: Weights) -> tuple[_Values, _Values]:
    """Weigh the events of a class: how much is wrong before each, and each itself, both float64 [events, c].

    All are whole numbers, so that it does not matter in which parts it is done.
    """
    clutter, own = np.empty((len(images), len(weights))), np.empty((len(images), len(weights)))
    for part, w in _parts(weights):
        clutter[:, part], own[:, part] = counts @ w, w[images]
    return np.cumsum(clutter, axis=0, out=clutter), own


def _mean_of_classes(scores: _Values) -> _Values:
    """Average over the classes that have objects in the resample: [classes, n_resamples] -> [n_resamples]."""
    counted = np.isfinite(scores).sum(axis=0)
    mean: _Values = np.divide(
        np.nansum(scores, axis=0), counted, out=np.full(scores.shape[1], np.nan), where=counted > 0
    )
    return mean


def _resampled_ap(images: Ints, outcome: NDArray[np.uint8], total: _Values, weights: Weights, rule: _Rule) -> _Values:
    """Return one class's AP by ``rule``, per threshold and resample: float64 [T, n_resamples]; NaN without objects.

    Only the precisions after right detections matter: those between are lower than the one before them. So what is
    wrong at all thresholds is counted per image between the few others (the events), and one sparse product weighs it
    for all resamples.

    Args:
        images: int64 [k], where each detection lies, best first.
        outcome: uint8 [k, T] of WRONG, RIGHT, IGNORED.
        total: [n_resamples], weight of the objects.
    """
    ap = np.tile(np.where(total > 0, 0.0, np.nan), (outcome.shape[1], 1))
    events = np.flatnonzero((outcome != WRONG).any(axis=1))
    if not len(events):
        return ap
    wrong = np.flatnonzero((outcome[: events[-1]] == WRONG).all(axis=1))  # those after the last event do not matter
    before = np.searchsorted(events, wrong)  # the event that each comes before
    counts = csr_array((np.ones(len(wrong)), (before, images[wrong])), shape=(len(events), weights.shape[1]))
    step = max(1, _VALUES_AT_ONCE // len(events))
    for begin in range(0, len(weights), step):
        part = slice(begin, begin + step)
        clutter, own = _weighed(counts, images[events], weights[part])
        for at, kinds in enumerate(outcome[events].T):
            right = kinds == RIGHT
            hits = own[right]
            seen = (clutter + np.cumsum(own * (kinds != IGNORED)[:, None], axis=0))[right]
            precision = np.cumsum(hits, axis=0) / np.maximum(seen, 1)
            ap[at, part] = rule(hits, np.maximum.accumulate(precision[::-1], axis=0)[::-1], total[part])
    return ap


def interval(samples: _Values, level: float = 0.95) -> tuple[float, float] | None:
    """Return the central interval that holds ``level`` of the finite samples; None if there is none."""
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
