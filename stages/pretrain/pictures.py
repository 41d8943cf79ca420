"""Pictures of one class each, to train a network on: the file that comes with a detection dataset, or class folders."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache import digest_file, digest_json
from cache.errors import StageError
from cache.untrusted import npz_arrays
from manifests import Dataset, ImageRecord, ImageSource, load_dataset


class Pictures(Protocol):
    """Pictures by their row: uint8 [h, w, 3] RGB, of any size each; read from several threads at once."""

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class LabelledPictures:
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


def registered_pictures(folder: Path, split: str, held_out: float, seed: int) -> tuple[LabelledPictures, str]:
    """Read the pictures that a network is trained on for the dataset registered in ``folder``.

    They are those of ``classification.npz`` where there is one; else the dataset's own, if each has a class: those of
    ``split``, of which about the share ``held_out``, drawn by ``seed``, is not trained on.

    Returns:
        The pictures, and the SHA-256 (hex) of what is read of the dataset: of ``classification.npz``; or of the
        classes and the split's pictures and labels, so that what other splits hold trains nothing again.

    Raises StageError where there is neither, DatasetError for a split that there is not.
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
    read = {"classes": list(dataset.classes), "pictures": [[one.sha256, one.category] for one in dataset.split(split)]}
    return _from_dataset(dataset, ImageSource.registered(folder), split, held_out, seed), digest_json(read)


def read_classification(path: Path) -> LabelledPictures:
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
    return LabelledPictures(images, arrays["labels"].astype(np.int64), arrays["train"], shapes)


def _problems(arrays: dict[str, NDArray[np.generic]]) -> list[str]:
    """Say what is wrong with the arrays of a ``classification.npz``; nothing where all is well."""
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
        lacking = _untrained(labels.astype(np.int64), train.astype(np.bool_))
        out += [f"class {label} has no training image; number the classes 0 .. k - 1" for label in lacking]
    return out


class FilePictures:
    """A dataset's image files, decoded whenever they are asked for: memory does not grow with their number."""

    def __init__(self, source: ImageSource, records: Sequence[ImageRecord]) -> None:
        self._source, self._records = source, records

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        return self._source.read(self._records[row])


def _from_dataset(dataset: Dataset, source: ImageSource, split: str, held_out: float, seed: int) -> LabelledPictures:
    """Take a split's pictures; StageError naming the classes of which none is left to train on."""
    records = dataset.split(split)
    labels = np.array([record.category for record in records], np.int64)
    train = ~_held_out(records, held_out, seed)
    lacking = [dataset.classes[label] for label in _untrained(labels, train)]
    lacking += dataset.classes[int(labels.max()) + 1 :]
    if lacking:
        raise StageError(
            f"dataset {dataset.name}: no picture of split {split!r} is left to train on for {', '.join(lacking)}; "
            "add pictures, or lower pretrain.held_out_fraction"
        )
    shapes = np.array([(record.width, record.height) for record in records], np.int64)
    return LabelledPictures(FilePictures(source, records), labels, train, shapes, dataset.classes)


def _untrained(labels: NDArray[np.int64], train: NDArray[np.bool_]) -> NDArray[np.int64]:
    """List the classes up to the largest label that no picture trained on shows."""
    return np.setdiff1d(np.arange(int(labels.max()) + 1), labels[train])


def _held_out(records: Sequence[ImageRecord], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose the pictures whose seeded hashes are the smallest, at least one: bool [n]; equal files are on one side."""
    ranks = [hashlib.sha256(f"{seed}\0held out\0{record.sha256}".encode()).digest() for record in records]
    last = sorted(ranks)[max(round(share * len(ranks)), 1) - 1]
    return np.array([rank <= last for rank in ranks], np.bool_)
