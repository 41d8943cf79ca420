"""Pairs of images that may be one picture: found by bytes, by an id, or by their descriptors; ranked and marked."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord

from .nearest import nearest_vectors, steps

Labels = Sequence[str | None]


@dataclass(frozen=True)
class Side:
    """One dataset's images, in the manifest's order, under its name."""

    name: str
    images: Sequence[ImageRecord]


@dataclass(frozen=True)
class Pair:
    """Two images by their places ``a`` and ``b`` in the two sides (in one dataset a < b), and how far apart they are.

    ``distance``: of descriptors; 0 where bytes or ids are equal. ``marked``: they are taken for one picture.
    """

    a: int
    b: int
    distance: float
    marked: bool


@dataclass(frozen=True)
class FoundPairs:
    """Pairs, the nearest first. ``median``: of all images' nearest distances; None where none was measured."""

    pairs: Sequence[Pair]
    median: float | None = None


def equal_labels(a: Labels, b: Labels | None, splits: tuple[Sequence[str], Sequence[str]]) -> FoundPairs:
    """Pair the images that have one label, all of them marked; None is no label.

    Of many images with one label not all pairs are made: each image is paired with the first other one of each split.

    Args:
        a, b: of each image a digest or an id; ``b`` None: pairs within ``a``.
        splits: of each image, on both sides; within ``a`` the second is not looked at.
    """
    first: dict[str, dict[str, list[int]]] = {}
    for place, (label, split) in enumerate(zip(a, splits[0], strict=True) if b is None else _zipped(b, splits[1])):
        if label is not None:
            places = first.setdefault(label, {}).setdefault(split, [])
            if len(places) < 2:  # a second one for the first itself
                places.append(place)
    found: set[tuple[int, int]] = set()
    for place, label in enumerate(a):
        for places in first.get(label, {}).values() if label is not None else ():
            others = [other for other in places if b is not None or other != place]
            if others:
                found.add((place, others[0]) if b is not None or place < others[0] else (others[0], place))
    return FoundPairs([Pair(a, b, 0.0, marked=True) for a, b in sorted(found)])


def _zipped(labels: Labels, splits: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    return zip(labels, splits, strict=True)


def near_pairs(
    a: NDArray[np.float32],
    b: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None,
    splits: tuple[Sequence[str], Sequence[str]],
    *,
    below: float,
    count: int = 1,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> FoundPairs:
    """Pair each image with the nearest of each split, and mark what is far nearer than images of the set are.

    Split by split, so that a test image's twin in train is found however many it has in test. A pair is marked at a
    distance of at most ``below`` times the median of all images' nearest distances (ours): pictures of one kind lie
    nearer to each other than twins among others do, so that no fixed distance serves. Under half may be twins.

    Args:
        a: descriptors float32 [n, d].
        b: gives those of the other dataset's images of some numbers; None: pairs within ``a``.
        splits: of each image, on both sides.
        count: how many neighbours of each split an image is paired with.
        told: hears how many of how many blocks of images are searched.
    """
    where = np.array(splits[0] if b is None else splits[1], object)
    least = np.full(len(a), np.inf)
    found: dict[tuple[int, int], float] = {}
    members = [np.flatnonzero(where == split) for split in sorted(set(where.tolist()))]
    total, done = sum(steps(len(a), len(one)) for one in members), itertools.count(1)
    itself = np.arange(len(a)) if b is None else None
    for one in members:
        near = nearest_vectors(a, one, b or a.__getitem__, count, itself, lambda: told(next(done), total))
        least = np.minimum(least, near.distances[:, 0])
        for image, other in np.argwhere(near.rows >= 0).tolist():
            pair = (image, int(near.rows[image, other]))
            found[pair if b is not None else (min(pair), max(pair))] = float(near.distances[image, other])
    measured = least[np.isfinite(least)]
    median = float(np.median(measured)) if len(measured) else None
    limit = 0.0 if median is None else below * median
    ranked = sorted((distance, *pair) for pair, distance in found.items())
    return FoundPairs([Pair(one, two, distance, marked=distance <= limit) for distance, one, two in ranked], median)


def digests(images: Sequence[ImageRecord]) -> list[str | None]:
    """Return the SHA-256 of each image's file, as the manifest has it."""
    return [image.sha256 for image in images]


def splits_of(images: Sequence[ImageRecord]) -> list[str]:
    """Return each image's most specific split."""
    return [image.split for image in images]


def ids_of(images: Sequence[ImageRecord], ids: Mapping[str, str]) -> list[str | None]:
    """Return each image's id by its file name, None where it has none."""
    return [ids.get(image.file_name) for image in images]
