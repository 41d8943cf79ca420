"""COCO average precision, by pycocotools."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .objects import Detections, Floats, GroundTruth


@dataclass(frozen=True)
class CocoScores:
    """COCO's AP (mean over IoU 0.5, 0.55, ... 0.95), and at 0.5 and 0.75; None without any object that counts."""

    ap: float | None
    ap50: float | None
    ap75: float | None
    per_class: tuple[float | None, ...]


class _DifficultIgnored(COCOeval):
    """Also ignores objects that are marked ``difficult``.

    pycocotools derives ``ignore`` from ``iscrowd`` alone and drops what the file says. Making difficult objects crowds
    would change their IoU (COCO divides by the detection's area only), so the flag is set after it has prepared.
    """

    def _prepare(self) -> None:
        super()._prepare()
        for objects in self._gts.values():
            for one in objects:
                one["ignore"] = int(bool(one["ignore"]) or bool(one["difficult"]))


def coco_scores(detections: Detections, truth: GroundTruth) -> CocoScores:
    """Score by COCO's protocol: area range "all", at most 100 detections per image and class, 101 recall points.

    Difficult objects are ignored as COCO ignores: they need not be found, and one detection each that matches no
    other object is not held against the detector (VOC excuses every detection that hits one). Crowd regions are
    COCO's own.
    """
    evaluation = _DifficultIgnored(iouType="bbox")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation.cocoGt = _coco(truth, _objects(truth))
        evaluation.cocoDt = _coco(truth, _results(detections))
        evaluation.params.imgIds = list(range(truth.n_images))
        evaluation.params.catIds = list(range(truth.n_classes))
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        if not truth.n_images:
            return CocoScores(None, None, None, (None,) * truth.n_classes)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # [IoU, recall, class]; -1 where a class has no object
    thresholds = evaluation.params.iouThrs
    return CocoScores(
        _mean(precision),
        _mean(precision[np.isclose(thresholds, 0.5)]),
        _mean(precision[np.isclose(thresholds, 0.75)]),
        tuple(_mean(precision[:, :, j]) for j in range(truth.n_classes)),
    )


def _mean(precision: Any) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _coco(truth: GroundTruth, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(truth.n_images)],
        "categories": [{"id": j} for j in range(truth.n_classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _xywh(boxes: Floats) -> list[list[float]]:
    b = boxes.astype(np.float64)
    return np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1).tolist()


def _annotations(boxed: GroundTruth | Detections) -> list[dict[str, Any]]:
    """What COCO says of an object and of a detection alike. Ids start at 1: pycocotools takes 0 for "unmatched"."""
    rows = zip(boxed.image.tolist(), boxed.labels.tolist(), _xywh(boxed.boxes), strict=True)
    return [
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3]}
        for n, (image, label, box) in enumerate(rows, 1)
    ]


def _objects(truth: GroundTruth) -> list[dict[str, Any]]:
    rows = zip(_annotations(truth), truth.crowd.tolist(), truth.difficult.tolist(), strict=True)
    return [one | {"iscrowd": int(crowd), "difficult": int(difficult)} for one, crowd, difficult in rows]


def _results(detections: Detections) -> list[dict[str, Any]]:
    rows = zip(_annotations(detections), detections.scores.tolist(), strict=True)
    return [one | {"score": score} for one, score in rows]
