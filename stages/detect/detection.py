"""One image's scored windows from its regions' features (paper section 2.2; rcnn_test.m, rcnn_test_bbox_regressor.m).

The stage runs this on cached features, a detector of new images on fresh ones: same function, same result.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.box_coding import decode
from stages.common.box_regressor import BoxRegressor
from stages.common.boxes import clip
from stages.common.classifier import Classifier
from stages.common.detections import Candidates

from .selection import best_rows
from .settings import DetectSettings


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

    ``layer_features`` holds [n, d] per layer of :func:`layers_needed`, as stored (unscaled), rows as in boxes [n, 4]
    px, without ground truth. All classes are scored by one product. Candidates come by class and best first; ties in
    score keep the regions' order. Boxes are clipped to [0, width] x [0, height], exclusive edges, in both variants.
    """
    rows, labels, scores = _best(svm, layer_features[svm.layer], settings)
    regions = np.asarray(boxes, np.float32).reshape(-1, 4)[rows]
    plain = moved = clip(regions, width, height)
    if bbox.enabled:
        moved = clip(decode(regions, bbox.transforms(layer_features[bbox.layer][rows], labels)), width, height)
    return Candidates(moved, plain, scores, labels)


def _best(
    svm: Classifier, features: NDArray[Any], settings: DetectSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """(rows, labels, scores), each [k], by class and best first: the best ``max_per_class`` above the floor."""
    parts = []
    for first, scores in svm.class_blocks(features):
        rows, best = best_rows(scores, settings.max_per_class)
        keep = np.ones(best.shape, bool) if settings.score_floor is None else best > settings.score_floor
        parts.append((rows[keep], first + np.nonzero(keep)[0], best[keep]))
    rows, labels, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return rows, labels, scores
