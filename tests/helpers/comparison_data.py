"""Several made-up detectors on one made-up dataset, with awkward names, as the comparison sees them."""

from dataclasses import replace
from typing import Any

import numpy as np
from evaluation_cases import random_case

from manifests import Dataset, ImageRecord
from stages.comparison.inputs import Compared, ComparisonData, NodeCost
from stages.comparison.settings import CompareSettings
from stages.scoring.objects import FlatDetections, Floats, GroundTruth
from stages.scoring.settings import EvaluateSettings

EVIL = "<script>alert('x')</script>"
CLASSES = ("cat", EVIL, "dog", "never")  # the random cases have objects of the first three
NOTHING = FlatDetections.of([])
PARAMETERS: dict[str, Any] = {"dataset": "toy", "svm": {"C": 0.001, "layers": ["pool5", EVIL]}}


def records_of(truth: GroundTruth) -> list[ImageRecord]:
    """The test images of a random case; their ids fall, so that order and ids differ."""
    records = []
    for i in range(truth.n_images):
        at = truth.image == i
        flags = {"difficult": truth.difficult[at], "crowd": truth.crowd[at]}
        name, sha256 = f"<b>&{i}.jpg", f"{i:064x}"
        records.append(ImageRecord(100 - i, name, 300, 300, sha256, "test", truth.boxes[at], truth.labels[at], **flags))
    return records


def moved(found: FlatDetections, seed: int) -> FlatDetections:
    """Another detector's detections: some of these, elsewhere and with other scores."""
    rng = np.random.default_rng(seed)
    kept = rng.random(len(found)) < 0.8
    boxes = found.boxes[kept] + rng.normal(0, 4, (int(kept.sum()), 4)).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = (found.scores[kept] + rng.normal(0, 0.3, int(kept.sum()))).astype(np.float32)
    return FlatDetections(found.image[kept], found.labels[kept], boxes, scores)


def regions_of(found: FlatDetections, n_images: int, seed: int) -> list[Floats]:
    """Some regions of each image, best first, of some images none."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(found.boxes[found.image == i])[: rng.integers(0, 30)] for i in range(n_images)]


def detector(name: str, found: FlatDetections, images: list[str], **changes: Any) -> Compared:
    values: dict[str, Any] = {
        "kind": "rcnn",
        "title": f"small & {EVIL}",
        "classes": CLASSES,
        "images": images,
        "found": {"bbox": found, "no_bbox": moved(found, 1)},
        "costs": {
            "proposals": NodeCost(8.0, 300.0, 4),
            "features": NodeCost(9.0, 900.0, 3, {"conv": 0.5, "fc": 0.1, "rest": 0.05}),
            "detect": NodeCost(2.0, None, 8),
        },
        "test_nodes": ("proposals", "features", "detect"),
        "training_seconds": 75.0,
        "disk_bytes": 2048,
        "parameters": PARAMETERS,
        "digests": {"artifacts/combine/manifest.json": "ab" * 32},
    }
    return Compared(name, **{**values, **changes})


def data(n_detectors: int = 2, n_images: int = 12, seed: int = 5, **changes: Any) -> ComparisonData:
    """``n_detectors`` detectors; the first two share their regions, the third has others, the fourth none."""
    truth, found = random_case(seed, n_images, ties=False)
    records = records_of(truth)
    images = [record.sha256 for record in records]
    shared, own = regions_of(found, n_images, 1), regions_of(found, n_images, 2)
    detectors = [
        detector(
            f"d{i}",
            found if i == 0 else moved(found, i),
            images,
            proposals=None if i == 3 else own if i == 2 else shared,
        )
        for i in range(n_detectors)
    ]
    train = ImageRecord(
        1, "train.jpg", 300, 300, "f" * 64, "train", np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    )
    values: dict[str, Any] = {
        "dataset": Dataset("toy & <co>", CLASSES, (*records, train)),
        "tested": records,
        "detectors": detectors,
        "scoring": EvaluateSettings(similar_classes=(("cat", "dog"),)),
        "settings": CompareSettings(n_bootstrap=40),
        "seed": 3,
        "pixels": lambda record: np.full((record.height, record.width, 3), record.id, np.uint8),
    }
    return ComparisonData(**{**values, **changes})


def without_objects(given: ComparisonData) -> ComparisonData:
    """The same detectors where nothing is annotated."""
    none: dict[str, Any] = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64), "details": ()}
    none |= dict.fromkeys(("difficult", "crowd", "truncated"))
    return replace(given, tested=[replace(record, **none) for record in given.tested])
