"""The classification set that comes with a dataset: reading and checking it, and drawing crops from it."""

import zipfile
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.boxes import Boxes
from ..common.errors import StageError
from ..common.npz import npz_arrays

_ORDERS = tuple(permutations(range(3)))  # of the colour channels


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
    return ClassificationSet(arrays["images"], arrays["labels"].astype(np.int64), arrays["train"])


def crop_boxes(count: int, side: int, part: float, rng: np.random.Generator | None) -> Boxes:
    """Square crops of a ``side`` px picture: float32 [count, 4], whole pixels.

    Their sides are random in [``part``, 1] of the picture's and their places random; where ``rng`` is None they are in
    the centre, with the mean of those sides.
    """
    least = max(round(side * part), 1)
    if rng is None:
        widths = np.full((count, 1), (least + side) // 2)
        corners = np.broadcast_to((side - widths) // 2, (count, 2))
    else:
        widths = rng.integers(least, side + 1, (count, 1))
        corners = rng.integers(0, side - widths + 1, (count, 2))
    return np.concatenate([corners, corners + widths], axis=1).astype(np.float32)


def recolour(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each picture [n, s, s, 3] with its channels in a random order, and inverted with probability 0.5."""
    orders = rng.integers(0, len(_ORDERS), len(images))
    inverted = np.where(rng.random(len(images)) < 0.5, 255, 0).astype(np.uint8)
    out = np.empty_like(images)
    for which, order in enumerate(_ORDERS):  # slices, since indexing the last axis is many times slower
        rows = np.flatnonzero(orders == which)
        for channel, source in enumerate(order):
            out[rows, :, :, channel] = images[rows, :, :, source]
    out ^= inverted[:, None, None, None]
    return out


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
