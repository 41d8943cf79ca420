"""Which pictures the stage trains on: the file beside a detection dataset, or a dataset of class folders itself."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import digest_file
from manifests import Dataset, ImageRecord, ImageSource

from ..common.errors import StageError
from .classification import ClassificationSet, read_classification, untrained


class FilePictures:
    """A dataset's image files, decoded whenever they are asked for: memory does not grow with their number."""

    def __init__(self, source: ImageSource, records: Sequence[ImageRecord]) -> None:
        self._source, self._records = source, records

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        return self._source.read(self._records[row])


def registered_set(folder: Path, split: str, held_out: float, seed: int) -> tuple[ClassificationSet, str]:
    """The classification set of the dataset registered in ``folder``, and the digest of what defines it.

    That is ``classification.npz`` where there is one; else the dataset itself, if each picture has a class: the
    pictures of ``split``, of which about the share ``held_out``, drawn by ``seed``, is not trained on. StageError
    where there is neither; DatasetError for a split that there is not.
    """
    file = folder / "classification.npz"
    if file.exists():
        return read_classification(file), digest_file(file)
    manifest = folder / "manifest.json"
    dataset = Dataset.load(manifest) if manifest.exists() else None
    if dataset is None or dataset.has_boxes:
        raise StageError(
            "network.weights is 'pretrain', but this dataset brings no classification set; set network.weights to a"
            " torchvision weights name or a .safetensors file, or put a classification.npz (images uint8 [n, s, s, 3],"
            " labels, train) into the dataset's folder in artifacts/datasets"
        )
    return _of_dataset(dataset, ImageSource.registered(folder), split, held_out, seed), digest_file(manifest)


def _of_dataset(dataset: Dataset, source: ImageSource, split: str, held_out: float, seed: int) -> ClassificationSet:
    records = dataset.split(split)
    labels = np.array([record.category for record in records], np.int64)
    train = ~_held_out(records, held_out, seed)
    lacking = [dataset.classes[label] for label in untrained(labels, train)]
    lacking += dataset.classes[int(labels.max()) + 1 :]
    if lacking:
        raise StageError(
            f"dataset {dataset.name}: no picture of split {split!r} is left to train on for {', '.join(lacking)}; "
            "add pictures, or lower pretrain.held_out_fraction"
        )
    shapes = np.array([(record.width, record.height) for record in records], np.int64)
    return ClassificationSet(FilePictures(source, records), labels, train, shapes, dataset.classes)


def _held_out(records: Sequence[ImageRecord], share: float, seed: int) -> NDArray[np.bool_]:
    """bool [n]: the pictures whose seeded hashes are the smallest, at least one; equal files are on one side."""
    ranks = [hashlib.sha256(f"{seed}\0held out\0{record.sha256}".encode()).digest() for record in records]
    last = sorted(ranks)[max(round(share * len(ranks)), 1) - 1]
    return np.array([rank <= last for rank in ranks], np.bool_)
