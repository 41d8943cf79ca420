"""A classification set: the file that comes with a detection dataset, and crops of its pictures."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache import digest_file
from cache.errors import StageError
from cache.untrusted import npz_arrays
from manifests import Dataset, ImageRecord, ImageSource, load_dataset
from stages.boxes.geometry import Boxes

_ORDERS = tuple(permutations(range(3)))  # of the colour channels


class Pictures(Protocol):
    """Pictures by their row: uint8 [h, w, 3] RGB, of any size each; read from several threads at once."""

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class ClassificationSet:
    """Pictures of one class each: ``images`` by row, ``labels`` int64 [n].

    ``train`` bool [n]: trained on; the others are held out. ``shapes`` int64 [n, 2]: the pictures' widths and heights.
    ``classes``: their names, where they are known.
    """

    images: Pictures
    labels: NDArray[np.int64]
    train: NDArray[np.bool_]
    shapes: NDArray[np.int64]
    classes: tuple[str, ...] | None = None

    @property
    def n_classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1


def read_classification(path: Path) -> ClassificationSet:
    """Read ``classification.npz``; StageError naming each array that is missing or of another form."""
    try:
        with zipfile.ZipFile(path) as file:
            found = npz_arrays(file)
            arrays: dict[str, NDArray[Any]] = {
                name: found[name].read() for name in ("images", "labels", "train") if name in found
            }
    except MemoryError:  # the machine's fault
        raise
    except Exception as error:  # zipfile and numpy raise many kinds for damaged bytes
        raise StageError(f"{path}: not a readable .npz file ({error}); write it again") from error
    problems = _problems(arrays)
    if problems:
        raise StageError("\n".join(f"{path}: {problem}" for problem in problems))
    images = arrays["images"]
    shapes = np.full((len(images), 2), images.shape[1], np.int64)
    return ClassificationSet(images, arrays["labels"].astype(np.int64), arrays["train"], shapes)


def crop_boxes(shapes: NDArray[np.int64], parts: tuple[float, float], rng: np.random.Generator | None) -> Boxes:
    """One square crop of each picture, given as width and height [n, 2]: float32 [n, 4], whole pixels.

    Their sides are random between the two ``parts`` of the picture's shorter side and their places random in the whole
    picture; where ``rng`` is None they are in the centre, with the mean of those two sides.
    """
    shorter = shapes.min(axis=1, keepdims=True)
    least, most = (np.maximum(np.round(shorter * part).astype(np.int64), 1) for part in parts)
    if rng is None:
        widths = (least + most) // 2
        corners = (shapes - widths) // 2
    else:
        widths = rng.integers(least, most + 1)
        corners = rng.integers(0, shapes - widths + 1)
    return np.concatenate([corners, corners + widths], axis=1).astype(np.float32)


def recolour(images: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Each picture [h, w, 3] with its channels in a random order, and inverted with probability 0.5."""
    orders = rng.integers(0, len(_ORDERS), len(images))
    inverted = np.where(rng.random(len(images)) < 0.5, 255, 0).astype(np.uint8)
    out = []
    for image, which, flip in zip(images, orders, inverted, strict=True):
        changed = np.empty_like(image)
        for channel, source in enumerate(_ORDERS[which]):  # slices: indexing the last axis is many times slower
            changed[:, :, channel] = image[:, :, source]
        out.append(changed ^ flip)
    return out


def untrained(labels: NDArray[np.int64], train: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Classes up to the largest label that no picture trained on shows."""
    return np.setdiff1d(np.arange(int(labels.max()) + 1), labels[train])


def _problems(arrays: dict[str, NDArray[np.generic]]) -> list[str]:
    missing = [name for name in ("images", "labels", "train") if name not in arrays]
    if missing:
        return [f"array {name!r} is missing; it must hold images, labels and train" for name in missing]
    images, labels, train = arrays["images"], arrays["labels"], arrays["train"]
    out = []
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
        out.append(f"images must be uint8 [n, s, s, 3], found {images.dtype} {list(images.shape)}")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        out.append(f"labels must be integers, one per image, found {labels.dtype} {list(labels.shape)}")
    elif len(labels) and int(labels.min()) < 0:
        out.append(f"labels must be 0 or above, found {int(labels.min())}")
    if train.dtype != np.bool_ or train.shape != images.shape[:1]:
        out.append(f"train must be bool, one per image, found {train.dtype} {list(train.shape)}")
    elif not train.any() or train.all():
        out.append("train must be true for some images (trained on) and false for others (held out)")
    if not out:
        lacking = untrained(labels.astype(np.int64), train.astype(np.bool_))
        out += [f"class {label} has no training image; number the classes 0 .. k - 1" for label in lacking]
    return out


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
    dataset = load_dataset(manifest) if manifest.exists() else None
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
