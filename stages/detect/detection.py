"""One image's detections from its regions' features (paper section 2.2; rcnn_test.m, rcnn_test_bbox_regressor.m).

The stage runs this on cached features, a detector of new images on fresh ones: same function, same result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.box_coding import decode
from stages.common.boxes import clip
from stages.common.models import BoxRegressor, Classifier

from .nms import class_nms
from .selection import best_rows
from .settings import DetectSettings


@dataclass(frozen=True)
class BoxSet:
    """Detections by class, then best first: boxes float32 [m, 4] in the image, scores float32 [m], labels int64 [m]."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Detections:
    """An image's detections with box regression (``bbox``; equal to ``no_bbox`` where that is disabled) and without.

    rank_scores float32 [k], rank_labels int64 [k]: the best ``max_per_class`` regions of each class before suppression,
    from which the threshold over a whole dataset is found (``thresholds``).
    """

    bbox: BoxSet
    no_bbox: BoxSet
    rank_scores: NDArray[np.float32]
    rank_labels: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of a ``detect`` object, named as in docs/contract.md."""
        named: dict[str, NDArray[Any]] = {"rank_scores": self.rank_scores, "rank_labels": self.rank_labels}
        for prefix, found in (("bbox", self.bbox), ("no_bbox", self.no_bbox)):
            named[f"{prefix}.boxes"] = found.boxes
            named[f"{prefix}.scores"] = found.scores
            named[f"{prefix}.labels"] = found.labels
        return named


def layers_needed(svm: Classifier, bbox: BoxRegressor) -> tuple[str, ...]:
    """The feature layers that :func:`detect_image` reads, each once."""
    return tuple(dict.fromkeys([svm.layer, bbox.layer] if bbox.enabled else [svm.layer]))


def detect_image(
    layer_features: Mapping[str, NDArray[Any]],
    boxes: NDArray[Any],
    svm: Classifier,
    bbox: BoxRegressor,
    width: int,
    height: int,
    settings: DetectSettings,
) -> Detections:
    """Score regions, keep each class's best, regress, clip to the image, suppress.

    ``layer_features`` holds [n, d] per layer of :func:`layers_needed`, as stored (unscaled), rows as in boxes [n, 4]
    px, without ground truth. All classes are scored by one product. Ties in score keep the regions' order. Without a
    region there is no detection. Boxes are clipped to [0, width] x [0, height], exclusive edges, in both variants.

    A score threshold applied to the result is the same as one applied before suppression: greedy suppression goes
    down the scores, so that whether a box survives depends only on boxes that score at least as much, and all of those
    are at or above any threshold that the box itself meets. So the dataset-wide threshold can wait for the last image.
    """
    rows, labels, scores = _best(svm, layer_features[svm.layer], settings)
    candidates = np.asarray(boxes, np.float32).reshape(-1, 4)[rows]
    plain = _suppressed(clip(candidates, width, height), scores, labels, settings.nms_iou)
    if bbox.enabled:
        moved = decode(candidates, bbox.transforms(layer_features[bbox.layer][rows], labels))
        regressed = _suppressed(clip(moved, width, height), scores, labels, settings.nms_iou)
    else:
        regressed = plain
    return Detections(regressed, plain, scores, labels)


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


def _suppressed(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], threshold: float
) -> BoxSet:
    kept = class_nms(boxes, scores, labels, threshold)
    return BoxSet(boxes[kept], scores[kept], labels[kept])
