"""Characteristics of objects: size, aspect, what the dataset says of them, and what a table adds.

A characteristic splits the objects of a class into subsets. Those that are bins of a number are made anew for each
class: at 10, 30, 70 and 90 % of its objects (Hoiem et al., analyzeTrueDetections.m).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.values import read_number
from stages.scoring.objects import Bools, GroundTruth, Ints

BIN_EDGES = (0.1, 0.3, 0.7, 0.9)
AREA_BINS = ("extra small", "small", "medium", "large", "extra large")
ASPECT_BINS = ("extra tall", "tall", "medium", "wide", "extra wide")
_BINS = ("lowest", "low", "medium", "high", "highest")
# Ours: levels of the share of an object that something hides, up to and without these.
HIDDEN_LEVELS = ((0.01, "none"), (0.1, "low"), (0.2, "moderate"), (1.01, "high"))
_UNKNOWN_POSES = frozenset({"", "unspecified", "unknown"})
MOST_VALUES = 20  # values that are no numbers
_MOST_NUMBERS = 8  # different numbers that are still taken as they are; more become bins


@dataclass(frozen=True)
class Characteristic:
    """One characteristic of all objects.

    ``subsets``: their names. ``subset`` int64 [n]: which of them each object is in, -1: not known. ``numbers``
    float64 [n] in its place where each class is to be binned, NaN: not known; one of the two is None.
    """

    name: str
    subsets: tuple[str, ...]
    subset: Ints | None = None
    numbers: NDArray[np.float64] | None = None

    @property
    def group(self) -> str:
        """What it is shown with: ``part`` of ``part.wing``; else its own name."""
        return self.name.partition(".")[0]

    def of(self, rows: Ints) -> Ints:
        """Return the subset of each of these objects, which are all of a class that count: int64 [k], -1: not known."""
        if self.subset is not None:
            return self.subset[rows]
        assert self.numbers is not None
        numbers = self.numbers[rows]
        out, known = np.full(len(rows), -1), np.isfinite(numbers)
        if known.any():
            out[known] = five_bins(numbers[known])
        return out


def five_bins(values: NDArray[np.float64]) -> Ints:
    """Put each value into one of five bins: int64 [n]. A value on an edge is below it, so that a bin may be empty."""
    ranked = np.sort(values)
    at = np.floor(np.array(BIN_EDGES) * len(values) + 0.5).astype(int)  # MATLAB's round
    edges = ranked[np.maximum(at, 1) - 1]
    bins: Ints = (values[:, None] > edges).sum(axis=1)
    return bins


def from_boxes(truth: GroundTruth) -> list[Characteristic]:
    """Return area and aspect (width over height) of the objects' boxes."""
    b = truth.boxes.astype(np.float64)
    width, height = b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]
    return [
        Characteristic("area", AREA_BINS, numbers=width * height),
        Characteristic("aspect", ASPECT_BINS, numbers=width / height),
    ]


def from_manifest(truncated: Bools, details: Sequence[Mapping[str, Any]]) -> list[Characteristic]:
    """Return what the dataset's manifest says of the objects: truncated, occluded, pose, hidden; what it lacks is not
    among them.

    Args:
        truncated: bool [n]; a dataset that marks none says nothing of it.
        details: of each object, as :class:`manifests.ImageRecord` has them.
    """
    found = []
    told = {key for detail in details if detail for key in detail}
    if truncated.any():
        found.append(Characteristic("truncated", ("no", "yes"), truncated.astype(np.int64)))
    if "occluded" in told:
        subset = np.array([int(bool(one["occluded"])) if "occluded" in one else -1 for one in details], np.int64)
        found.append(Characteristic("occluded", ("no", "yes"), subset))
    poses = [str(one.get("pose", "")) for one in details] if "pose" in told else []
    if known := sorted({pose for pose in poses if pose.lower() not in _UNKNOWN_POSES}):
        place = {pose: j for j, pose in enumerate(known)}
        found.append(Characteristic("pose", tuple(known), np.array([place.get(p, -1) for p in poses], np.int64)))
    if "hidden" in told:
        hidden = np.array([one.get("hidden", np.nan) for one in details], np.float64)
        limits = np.array([limit for limit, _ in HIDDEN_LEVELS])
        subset = np.where(np.isfinite(hidden), np.searchsorted(limits, hidden, "right"), -1)
        found.append(Characteristic("hidden", tuple(name for _, name in HIDDEN_LEVELS), subset))
    return found


def from_table(values: Mapping[str, Mapping[int, str]], n_objects: int) -> list[Characteristic]:
    """Return the characteristics of a table: by name, the value of each object (its index) that has one.

    Up to eight different numbers, or any words, are subsets as they are; more numbers become five bins of each class.
    ``1``, ``1.0`` and ``01`` are one number where all values are numbers, and are shown as the shortest of them.
    """
    found = []
    for name, of in values.items():
        rows, texts = np.array(list(of), np.int64), np.array(list(of.values()))
        words, place = np.unique(texts, return_inverse=True)
        numbers = numbers_of(words.tolist())
        if numbers is not None and len(set(numbers)) > _MOST_NUMBERS:
            spread = np.full(n_objects, np.nan)
            spread[rows] = np.array(numbers)[place]
            found.append(Characteristic(name, _BINS, numbers=spread))
            continue
        names, rank = _subsets(words.tolist(), numbers)
        subset = np.full(n_objects, -1)
        subset[rows] = rank[place]
        found.append(Characteristic(name, names, subset))
    return found


def _subsets(words: Sequence[str], numbers: Sequence[float] | None) -> tuple[tuple[str, ...], Ints]:
    """Return the names of the subsets of these words, which are sorted, and the subset of each word, int64."""
    if numbers is None:
        return tuple(words), np.arange(len(words))
    shown: dict[float, str] = {}
    for number, word in zip(numbers, words, strict=True):
        shown[number] = min(shown.get(number, word), word, key=len)
    ordered = sorted(shown)
    place = {number: j for j, number in enumerate(ordered)}
    return tuple(shown[number] for number in ordered), np.array([place[number] for number in numbers], np.int64)


def numbers_of(words: Sequence[str]) -> list[float] | None:
    """Return the words as numbers, where all are finite ones; else None."""
    found = _floats(words)
    return found if found is not None and np.isfinite(found).all() else None


def not_finite(words: Sequence[str]) -> int | None:
    """Return the index of the first nan or infinity among words that are all numbers, finite ones too; else None."""
    finite = np.isfinite(_floats(words) or [])
    return int(np.argmin(finite)) if finite.any() and not finite.all() else None


def _floats(words: Sequence[str]) -> list[float] | None:
    try:
        return [read_number(word) for word in words]
    except ValueError:
        return None
