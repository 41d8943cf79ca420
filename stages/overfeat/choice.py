"""Up to which match score boxes merge: the value that does best on the training images held out (ours)."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import Boxes
from stages.scoring.matching import match
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.voc import area_ap, curve, mean_ap

from .combining import Entering, combined
from .settings import MergeSettings

STEPS = tuple(tenths / 10 for tenths in range(2, 10))
_IOU = 0.5  # from which a detection is right


def scores_by_t(
    images: Iterable[tuple[ImageRecord, Entering]], settings: MergeSettings, n_classes: int
) -> dict[float, float]:
    """Score each ``t`` of ``STEPS`` on some images by the mean of the classes' VOC 2010 AP at an IoU of 0.5, in [0, 1].

    ``StageError`` where the images show no object that counts.
    """
    records: list[ImageRecord] = []
    found: dict[float, list[tuple[Boxes, NDArray[np.float32], NDArray[np.int64]]]] = {t: [] for t in STEPS}
    for record, windows in images:
        records.append(record)
        for t, boxes in found.items():
            bbox = combined(windows, settings.model_copy(update={"t": t})).bbox
            boxes.append((bbox.boxes, bbox.scores, bbox.labels))
    truth = GroundTruth.of(records, n_classes)
    if not truth.positives.any():
        raise StageError(
            f"merge.t: null is the best on the training images held out, and the {len(records)} of them show no object "
            "to find; set merge.t, such as 0.5, or raise finetune_dense.held_out_fraction"
        )
    return {t: _mean_ap(FlatDetections.of(boxes), truth) for t, boxes in found.items()}


def best_t(scores: dict[float, float]) -> float:
    """Return the best ``t``; of equally good ones the smallest."""
    return min(scores, key=lambda t: (-scores[t], t))


def _mean_ap(found: FlatDetections, truth: GroundTruth) -> float:
    matches = match(found, truth, _IOU)
    curves = (curve(found, matches, truth, label) for label in range(truth.n_classes))
    mean = mean_ap([None if one is None else area_ap(one.recall, one.precision) for one in curves])
    assert mean is not None  # some object counts
    return mean
