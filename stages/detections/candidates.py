"""One image's scored windows from its regions' features (paper section 2.2; rcnn_test.m, rcnn_test_bbox_regressor.m).

The stage runs this on cached features, a detector of new images on fresh ones: same function, same result.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.bbox.regressor import BoxRegressor
from stages.boxes.coding import decode
from stages.boxes.geometry import Boxes, clip
from stages.boxes.nms import class_nms
from stages.svm.classifier import Classifier

from .settings import DetectSettings
from .suppression import Candidates


def layers_needed(svm: Classifier, bbox: BoxRegressor) -> tuple[str, ...]:
    """The feature layers that :func:`candidates_of` reads, each once."""
    return tuple(dict.fromkeys([svm.layer, bbox.layer] if bbox.enabled else [svm.layer]))


def candidates_of(
    layer_features: Mapping[str, NDArray[Any]],
    boxes: NDArray[Any],
    svm: Classifier,
    bbox: BoxRegressor,
    width: int,
    height: int,
    settings: DetectSettings,
) -> Candidates:
    """Score regions, keep each class's best ``max_per_class``, regress and clip to the image.

    The best of all regions where ``settings.order`` cuts first; of those that suppression of the proposals' own boxes
    leaves where it suppresses first (spp_test.m and R-CNN's ILSVRC branch). Either way only what is kept is regressed,
    and :func:`~.suppression.suppressed` suppresses the moved boxes: after regression two that were apart may meet.

    ``layer_features`` holds [n, d] per layer of :func:`layers_needed`, as stored (unscaled), rows as in boxes [n, 4]
    px, without ground truth. All classes are scored by one product. Candidates come by class and best first; ties in
    score keep the regions' order. Boxes are clipped to [0, width] x [0, height], exclusive edges, in both variants.
    """
    regions = np.asarray(boxes, np.float32).reshape(-1, 4)
    clipped = clip(regions, width, height)
    rows, labels, scores = _best(svm, layer_features[svm.layer], clipped, settings)
    plain = moved = clipped[rows]
    if bbox.enabled:
        moved = clip(decode(regions[rows], bbox.transforms(layer_features[bbox.layer][rows], labels)), width, height)
    return Candidates(moved, plain, scores, labels)


def _best(
    svm: Classifier, features: NDArray[Any], boxes: Boxes, settings: DetectSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """(rows, labels, scores), each [k], by class and best first: the best ``max_per_class`` above the floor."""
    cut_first = settings.order == "cut_then_suppress"
    parts = []
    for first, scores in svm.class_blocks(features):
        rows, best = best_rows(scores, settings.max_per_class if cut_first else len(boxes))
        above = np.ones(best.shape, bool) if settings.score_floor is None else best > settings.score_floor
        part = rows[above], first + np.nonzero(above)[0], best[above]
        if not cut_first:
            kept = class_nms(boxes[part[0]], part[2], part[1], settings.nms_iou, settings.max_per_class)
            part = part[0][kept], part[1][kept], part[2][kept]
        parts.append(part)
    rows, labels, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return rows, labels, scores


_SAMPLE = 128  # scores looked at to guess how good a region must be


def best_rows(scores: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """float32 [N, n] of N classes and n regions -> (rows int64 [N, k], scores float32 [N, k]), k = min(n, count).

    The first k of a stable sort by falling score: equal scores keep the rows' order.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    k = min(scores.shape[1], count)
    rows = np.zeros((len(scores), k), np.int64)
    best = np.zeros((len(scores), k), np.float32)
    if rows.size:
        # numpy's sorts are vectorised: a tenth of the time of a compiled loop's
        sample = np.sort(scores[:, :: max(1, scores.shape[1] // _SAMPLE)], axis=1)
        limits = np.empty(len(scores), np.float32)
        keys = np.full((len(scores), _limits(scores, sample, k, limits)), np.iinfo(np.uint64).max)
        _collect(scores, scores.view(np.uint32), limits, keys)
        keys.sort(axis=1)
        _take(scores, keys, rows, best)
    return rows, best


@njit(cache=True, nogil=True)
def _limits(scores: Any, sample: Any, k: int, limits: Any) -> int:
    """Find a score for each class that k or some more regions reach; returns the largest number that do.

    -inf where all are needed, which NaN is below. scores [N, n]; ``sample`` [N, s], some of them in rising order.
    """
    n, size = scores.shape[1], sample.shape[1]
    most = k
    for c in range(len(scores)):
        guess = 2 + 5 * k * size // (4 * n)  # of the sample; a quarter more than should be needed
        limits[c], reached = -np.inf, n
        while guess <= size:
            limit = sample[c, size - guess]
            found = 0
            for i in range(n):
                found += scores[c, i] >= limit
            if found >= k and limit > -np.inf:
                limits[c], reached = limit, found
                break
            guess *= 2
        most = max(most, reached)
    return most


@njit(cache=True, nogil=True)
def _collect(scores: Any, bits: Any, limits: Any, keys: Any) -> None:
    """Write for each score from its class's limit up a key that sorts by falling score and then by row.

    ``bits`` uint32 [N, n] are the scores' own; keys uint64 [N, most].
    """
    reached = np.empty(scores.shape[1], np.int64)
    for c in range(len(scores)):
        found, every = 0, limits[c] == -np.inf  # NaN only where all are needed
        for i in range(scores.shape[1]):  # no branch in it: which scores reach the limit cannot be foretold
            reached[found] = i
            found += (scores[c, i] >= limits[c]) | every
        for k in range(found):
            i = reached[k]
            # a positive float's bits grow with it, a negative one's fall; 0.0 and -0.0 are equal, NaN is last
            word = bits[c, i] if scores[c, i] != 0 else np.uint32(0)
            falling = word if word >> 31 else np.uint32(0x7FFFFFFF) - word
            if np.isnan(scores[c, i]):
                falling = np.uint32(0xFFFFFFFF)
            keys[c, k] = (np.uint64(falling) << np.uint64(32)) | np.uint64(i)


@njit(cache=True, nogil=True)
def _take(scores: Any, keys: Any, rows: Any, best: Any) -> None:
    for c in range(len(rows)):
        for r in range(rows.shape[1]):
            rows[c, r] = keys[c, r] & np.uint64(0xFFFFFFFF)
            best[c, r] = scores[c, rows[c, r]]
