"""The classification set that comes with a dataset: reading and checking it, and drawing crops from it."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.boxes import Boxes
from ..common.errors import StageError


@dataclass(frozen=True)
class ClassificationSet:
    """Square pictures of one object each: ``images`` uint8 [n, s, s, 3] RGB, ``labels`` int64 [n].

    ``train`` bool [n]: trained on; the others are held out.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.bool_]

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1


def read_classification(path: Path) -> ClassificationSet:
    """Read ``classification.npz``; StageError naming each array that is missing or of another form."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StageError(f"{path}: not a readable .npz file ({error}); write it again") from error
    problems = _problems(arrays)
    if problems:
        raise StageError("\n".join(f"{path}: {problem}" for problem in problems))
    return ClassificationSet(arrays["images"], arrays["labels"].astype(np.int64), arrays["train"])


def crop_boxes(count: int, side: int, part: float, rng: np.random.Generator | None) -> Boxes:
    """Square crops of a ``side`` px picture: float32 [count, 4], whole pixels, their side ``part`` of the
    picture's.

    At random places, or in the centre where ``rng`` is None.
    """
    width = max(round(side * part), 1)
    spare = side - width
    corners = np.full((count, 2), spare // 2) if rng is None else rng.integers(0, spare + 1, (count, 2))
    return np.concatenate([corners, corners + width], axis=1).astype(np.float32)


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
        untrained = np.setdiff1d(np.arange(int(labels.max()) + 1), labels[train])
        out += [f"class {label} has no training image; number the classes 0 .. k - 1" for label in untrained]
    return out
