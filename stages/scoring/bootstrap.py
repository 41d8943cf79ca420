"""How much a mAP would move with other test images: percentile bootstrap over images."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from .matching import Matches
from .objects import FlatDetections, GroundTruth

_VALUES_AT_ONCE = 2_000_000


def image_weights(n_images: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each image is drawn in each resample of the test set: int64 [n_resamples, n_images]."""
    return rng.multinomial(n_images, np.full(n_images, 1 / max(n_images, 1)), size=n_resamples)


def resampled_map(
    detections: FlatDetections, matches: Matches, truth: GroundTruth, weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Area mAP of each resample: float64 [n_resamples]; NaN for one without any object.

    An image drawn w times counts as w images, so each of its detections and objects has weight w; matching stays
    inside an image and need not be repeated. A class without objects in a resample is left out of its mean.
    """
    per_class = [
        _resampled_ap(detections, matches, truth, label, weights)
        for label in range(truth.n_classes)
        if truth.positives[label]
    ]
    if not per_class:
        return np.full(len(weights), np.nan)
    scores = np.array(per_class)
    counted = np.isfinite(scores).sum(axis=0)
    return np.divide(np.nansum(scores, axis=0), counted, out=np.full(len(weights), np.nan), where=counted > 0)


def _resampled_ap(
    detections: FlatDetections, matches: Matches, truth: GroundTruth, label: int, weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Area AP of one class per resample; NaN without objects.

    Only the precisions after right detections matter: those between are lower than the one before them. So the
    detections up to each right one are counted per image, and a sparse product weighs them for all resamples.
    """
    ranked = matches.ranked(label)
    ranked = ranked[~matches.ignored[ranked]]
    right = matches.right[ranked]
    objects = truth.image[(truth.labels == label) & ~truth.ignored]
    total = weights[:, objects].sum(axis=1).astype(np.float64)
    run: NDArray[np.int64] = (
        np.cumsum(right) - right
    )  # a run ends in a right detection; the last one, which does not, is dropped
    counted = run < right.sum()
    images = detections.image[ranked]
    per_run = csr_array(
        (np.ones(counted.sum()), (run[counted], images[counted])), shape=(int(right.sum()), truth.n_images)
    )
    gained = np.zeros(len(weights))
    step = max(1, _VALUES_AT_ONCE // max(1, int(right.sum())))
    for begin in range(0, len(weights) if right.any() else 0, step):
        w = weights[begin : begin + step].T.astype(np.float64)
        hits = w[images[right]]
        precision = np.cumsum(hits, axis=0) / np.maximum(np.cumsum(per_run @ w, axis=0), 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        gained[begin : begin + step] = (hits * envelope).sum(axis=0)
    return np.divide(gained, total, out=np.full(len(weights), np.nan), where=total > 0)


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """The central interval that holds ``level`` of the finite samples; None if there is none."""
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
