"""One image's scored windows from its regions' features (paper section 2.2; rcnn_test.m, rcnn_test_bbox_regressor.m).

The stage runs this on cached features, a detector of new images on fresh ones: same function, same result.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.bbox.regressor import BoxRegressor
from stages.boxes.coding import decode
from stages.boxes.geometry import Boxes, clip
from stages.boxes.nms import class_nms
from stages.kernels.selection import best_rows
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
