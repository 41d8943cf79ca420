"""A project whose proposals and features are made up, for the stages after them: of any number of images, regions
and classes.

Each image has one to three objects of random classes; a tenth of its proposals lie about them. Features are like fc7's
(4,096, a quarter of them not 0): a random layer and a ReLU on a latent vector to which each class adds its direction
by the region's IoU.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Payload, Recipe, Store
from manifests import Dataset, ImageRecord, save_dataset
from stages.boxes.geometry import class_overlaps

LENGTH, LATENT = 4096, 64
SIGNAL = 4.0  # of an object, beside unit noise: its regions and its classes overlap with others
EXTENT = 500


def random_layer(classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Weights [LATENT, LENGTH] and bias [LENGTH] of a layer with a ReLU, a quarter of whose outputs are not 0, and the
    classes' directions [classes, LATENT] of unit length: what a class adds to a region's latent vector."""
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(LATENT, LENGTH)), rng.normal(-6, 3, LENGTH)
    directions = rng.normal(size=(classes, LATENT))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return weights.astype(np.float32), bias.astype(np.float32), directions.astype(np.float32)


def make_project(folder: Path, train: int, test: int, regions: int, classes: int) -> None:
    """Write the dataset manifest, proposals and features of ``train + test`` images; layer ``fc7`` alone."""
    rng = np.random.default_rng([train, test, regions, classes])
    weights, bias, directions = random_layer(classes)
    store = Store(folder / "artifacts")
    records: list[ImageRecord] = []
    entries: dict[str, list[tuple[int, str]]] = {"proposals": [], "features": []}
    for i in range(train + test):
        record = _image(rng, i, "train" if i < train else "test", classes)
        boxes = np.concatenate([record.boxes, _proposals(rng, record.boxes, regions)])
        overlaps = class_overlaps(boxes, record.boxes, record.labels, classes)
        latent = rng.standard_normal((len(boxes), LATENT), np.float32) + SIGNAL * overlaps @ directions
        is_gt = np.arange(len(boxes)) < len(record.boxes)
        arrays = {
            "boxes": boxes,
            "is_gt": is_gt,
            "gt_class": np.where(is_gt, np.resize(record.labels, len(boxes)), -1).astype(np.int64),
            "difficult": np.zeros(len(boxes), bool),
            "overlaps": overlaps,
            "fc7": np.maximum(latent @ weights + bias, 0).astype(np.float16),
        }
        attrs = {"image": record.file_name, "count": len(boxes), "ground_truth_count": len(record.boxes)}
        payloads = {
            "proposals": Payload({"boxes": boxes[~is_gt]}, {"image": record.file_name}, "hdf5"),
            "features": Payload(arrays, attrs, "zarr"),
        }
        for stage, payload in payloads.items():
            recipe = Recipe(stage, 1, {}, {"i": i, "of": [train, test, regions, classes]})
            entries[stage].append((record.id, store.put(recipe, payload)))
        records.append(record)
    artifacts = folder / "artifacts"
    (artifacts / "manifest").mkdir()
    save_dataset(
        Dataset("made_up", tuple(f"class {j}" for j in range(classes)), tuple(records)),
        artifacts / "manifest" / "manifest.json",
    )
    for stage, summary in (("proposals", {}), ("features", {"layers": {"fc7": LENGTH}, "dataset": "made_up"})):
        (artifacts / stage).mkdir()
        Artifact(stage, 1, {}, {}, tuple(entries[stage]), summary).write(artifacts / stage / "manifest.json")


def _image(rng: np.random.Generator, i: int, split: str, classes: int) -> ImageRecord:
    n = int(rng.integers(1, 4))
    labels = rng.integers(0, classes, n)
    labels[0] = i % classes  # no class lacks an object
    corner, size = rng.uniform(0, 250, (n, 2)), rng.uniform(60, 250, (n, 2))
    return ImageRecord(
        id=i + 1,
        file_name=f"{i}.jpg",
        width=EXTENT,
        height=EXTENT,
        sha256=f"{i:064x}",
        split=split,
        boxes=np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        labels=labels.astype(np.int64),
        difficult=np.zeros(n, bool),
        crowd=np.zeros(n, bool),
    )


def _proposals(rng: np.random.Generator, objects: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    near = objects[rng.integers(0, len(objects), count // 10)]
    size = np.tile(near[:, 2:] - near[:, :2], 2)
    near = near + (0.15 * rng.standard_normal(near.shape) * size).astype(np.float32)
    corner, extent = rng.uniform(0, 400, (count - len(near), 2)), rng.uniform(20, 300, (count - len(near), 2))
    away = np.concatenate([corner, corner + extent], axis=1)
    boxes: NDArray[np.float32] = np.clip(np.concatenate([near, away]), 0, EXTENT).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)  # jitter may turn a box inside out
    return boxes
