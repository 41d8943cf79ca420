"""Made-up detections, as the stage ``detect`` leaves them in a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache import Artifact, Payload, Recipe, Store
from manifests import ImageRecord
from stages.detections.suppression import Candidates, suppressed

CLASSES = ("cat", "dog")
N_IMAGES = 3


def record(number: int, name: str) -> ImageRecord:
    none = np.zeros((0, 4), np.float32)
    return ImageRecord(number, name, 60, 60, f"{number % 100:064x}", "test", none, np.zeros(0, np.int64))


def made(root: Path, seed: int, ids: Sequence[int] = range(1, N_IMAGES + 1), **summary: Any) -> Artifact:
    """Detections as ``detect`` leaves them, of images whose bytes are told by the id modulo 100."""
    rng, store, entries = np.random.default_rng(seed), Store(root / "store"), []
    for i in ids:
        corner = rng.uniform(0, 30, (40, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 30, (40, 2))], axis=1).astype(np.float32)
        moved = boxes + rng.normal(0, 1, boxes.shape).astype(np.float32)
        found = Candidates(moved, boxes, rng.normal(size=40).astype(np.float32), np.repeat([0, 1], 20))
        payload = Payload({**suppressed(found, 0.3).arrays(), **found.arrays()}, {"image": "x", "count": 1}, "hdf5")
        entries.append((i, store.put(Recipe("detect", 3, {}, {"seed": seed, "image": i % 100}), payload)))
    about = {
        "thresholds": dict.fromkeys(CLASSES),
        "classifier": "svm",
        "regressed": True,
        "classes": list(CLASSES),
        "images": [f"{i % 100:064x}" for i in ids],
        "rank_factor": 5,
    }
    return Artifact("detect", 3, {}, {}, tuple(entries), about | summary)
