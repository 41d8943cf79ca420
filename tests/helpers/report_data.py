"""A small run with awkward names, as the page sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from manifests import Dataset, ImageRecord
from stages.report.inputs import Found, PageData
from stages.report.settings import ReportSettings

EVIL = "<script>alert('x')</script>"
CLASSES = ("cat", EVIL, "never")


def metrics() -> dict[str, Any]:
    part = {
        "voc2007": {"mAP": 0.5, "AP": {"cat": 0.6, EVIL: 0.4, "never": None}},
        "voc2010": {"mAP": 0.52, "mAP_low": 0.4, "mAP_high": 0.61, "AP": {"cat": 0.7, EVIL: 0.34, "never": None}},
        "coco": {"AP": 0.2, "AP50": 0.5, "AP75": 0.1, "AP_class": {"cat": 0.3, EVIL: 0.1, "never": None}},
    }
    recall = {"recall_50": 0.9, "recall_70": 0.6, "mean_best_overlap": 0.7}
    none = dict.fromkeys(recall)
    return {
        **part,
        "no_bbox": part,
        "bbox_gain": {"voc2010": {"mAP": -0.01, "mAP_low": -0.02, "mAP_high": 0.01}},
        "proposals": {"per_image": 200.0, **recall, "class": {"cat": recall, EVIL: recall, "never": none}},
        "protocol": {"voc_iou": 0.5, "n_bootstrap": 9, "images": 2, "objects": 3, "difficult": 1, "crowd": 0},
    }


def record(image_id: int, split: str, boxes: Any, labels: Sequence[int]) -> ImageRecord:
    name = f"<b>&{image_id}.jpg"
    return ImageRecord(image_id, name, 120, 90, "0" * 64, split, np.array(boxes, np.float32), np.array(labels))


def data(**changes: Any) -> PageData:
    tested = [
        record(1, "test", [[10, 10, 50, 60], [60, 20, 100, 80]], [0, 1]),
        record(2, "test", [[5, 5, 40, 40]], [0]),
    ]
    train = record(3, "train", np.zeros((0, 4)), [])
    wrong = {"image": 2, "box": [50, 50, 90, 80], "score": 0.4, "iou": 0.0, "kind": "other", "confused": EVIL}
    examples = {
        "cat": {
            "right": [{"image": 1, "box": [11, 10, 50, 61], "score": 1.25, "iou": 0.93}],
            "wrong": [wrong, {**wrong, "kind": "localisation", "confused": None, "iou": 0.8}],
            "missed": [{"image": 2, "box": [5, 5, 40, 40], "proposal_iou": 0.31}],
        },
        EVIL: {"right": [], "wrong": [], "missed": []},
        "never": {"right": [], "wrong": [], "missed": []},
    }
    pr = [
        {"regression": r, "class": c, "score": str(s), "recall": str(x), "precision": str(y)}
        for r in ("bbox", "no_bbox")
        for c in ("cat", EVIL)
        for s, x, y in ((1.25, 0.5, 1.0), (0.3, 1.0, 0.4))
    ]
    counts = {"right": "2", "localisation": "1", "similar": "0", "other": "1", "background": "0"}
    fit = {"objective": "0.5", "regulariser": "0.2", "positive_loss": "0.1", "negative_loss": "0.2"}
    values = {
        "dataset": Dataset("toy & <co>", CLASSES, (*tested, train)),
        "tested": tested,
        "metrics": metrics(),
        "examples": examples,
        "pr": pr,
        "shown_from": {"cat": 1.25, EVIL: 1.25},
        "recall_iou": [
            {"class": c, "iou": str(i), "recall": str(1.5 - i)} for c in ("", "cat") for i in (0.5, 0.75, 1)
        ],
        "errors": [{"regression": r, "class": "cat", "multiple": "1.0", **counts} for r in ("bbox", "no_bbox")],
        "mining": [
            {"class_name": c, "images_seen": str(n), "positives": "9", "negatives": "70", **fit}
            for c in ("cat", EVIL)
            for n in (1, 2)
        ],
        "finetune": [
            {"iteration": str(n), "train_loss": str(2 / n), "val_loss": "", "val_accuracy": "0.5"} for n in (1, 2, 3)
        ],
        "pretrain": [],
        "classifier": "svm",
        "regressed": True,
        "combined": (),
        "timings": {"svm": {"seconds": 75.0, "peak_rss_mb": 1200, "finished": "2025-01-01T00:00:00Z"}},
        "features_cost": {"conv": 0.17, "fc": 0.05},
        "parameters": {
            "dataset": "toy",
            "network": {"name": "alexnet", "weights": "IMAGENET1K_V1"},
            "features": {"layers": ["pool5", "fc7"], "method": "warp"},
            "svm": {"C": 0.001, "layers": ["pool5", EVIL]},
        },
        "digests": {"reports/metrics.json": "ab" * 32},
        "settings": ReportSettings(),
        "seed": 3,
        "pixels": lambda r: np.full((r.height, r.width, 3), 40 * r.id, np.uint8),
        "found": lambda r: Found(
            np.array([[10, 10, 50, 60], [60, 20, 100, 80]], np.float32),
            np.array([1.5, 0.1], np.float32),
            np.array([0, 1]),
        ),
    }
    return PageData(**{**values, **changes})
