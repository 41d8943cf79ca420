"""Splitting images into two halves that show each class about as often (paper section 4.1).

As the authors split the val of ILSVRC: images pair with those of nearly the same class counts, a coin decides
the sides, and a local search moves single images; the best of several trials is taken. Ours: an odd last image goes to
one half, unless it is to go to both (the authors' code), and a class that a single image shows, which no split can
balance, is left out of what the search looks at: it would never allow a move.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.text import counted, format_table

from .dataset import Dataset, ImageRecord

_PICKED = np.int32(2**30)  # farther than any image is
_AT_ONCE = 2048  # images whose moves are looked at together: bounds memory
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Halves:
    """A split in two: ``first`` bool [n], which images are in the first half; ``imbalance`` float64 [N].

    A class's imbalance is ``|a - b| / (a + b)`` of its objects in either half, NaN where there are none. ``counted``
    bool [N]: the classes that more than one image shows, which ``largest`` and ``mean`` are taken over. ``both``: the
    image that is in the second half as well, None: none is.
    """

    first: Bools
    imbalance: Floats
    counted: Bools
    both: int | None = None

    @property
    def sides(self) -> tuple[Bools, Bools]:
        """Which images are in the first half, and which in the second."""
        second = ~self.first
        if self.both is not None:
            second[self.both] = True
        return self.first, second

    @property
    def largest(self) -> float:
        """The largest imbalance of a class that counts; 0 where none does."""
        return float(self.imbalance[self.counted].max(initial=0.0))

    @property
    def mean(self) -> float:
        """The mean imbalance of the classes that count; 0 where none does."""
        return float(self.imbalance[self.counted].mean()) if self.counted.any() else 0.0

    @property
    def median(self) -> float:
        """The median imbalance of the classes that count; 0 where none does."""
        return float(np.median(self.imbalance[self.counted])) if self.counted.any() else 0.0


def class_counts(images: Sequence[ImageRecord], dataset: Dataset) -> Ints:
    """Count each image's objects by class, int32 [n, N]: crowd regions are none; a picture's class is one object."""
    counts = np.zeros((len(images), len(dataset.classes)), np.int32)
    for row, image in zip(counts, images, strict=True):
        if image.category is None:
            np.add.at(row, image.labels[~image.crowd], 1)
        else:
            row[image.category] = 1
    return counts


def best_halves(
    counts: Ints,
    trials: int,
    rng: np.random.Generator,
    *,
    odd_twice: bool = False,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Halves:
    """Split images into halves ``trials`` times and return the split whose largest imbalance is the least.

    Of equal ones that with the least mean, and of these the first.

    Args:
        counts: objects of each image and class, int32 [n, N].
        rng: draws the order of the images, and the coins.
        odd_twice: put the image that an odd number leaves without a partner into both halves, where it stays (the
            authors' code); else a coin decides (ours).
        told: hears how many of how many trials are done.
    """
    tried = []
    for number in range(1, trials + 1):
        first, alone = paired_halves(counts, rng)
        tried.append(_improved(counts, first, alone if odd_twice else None))
        told(number, trials)
    return min(tried, key=lambda one: (one.largest, one.mean))


def measured(counts: Ints, first: Bools, both: int | None = None) -> Halves:
    """Return a split with its imbalances; image ``both`` is in the second half as well, and in ``first``."""
    if both is not None:
        first = first.copy()
        first[both] = True
    totals = _totals(counts, both)
    apart = np.abs(_differences(counts, first, both))
    imbalance = np.divide(apart, totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return Halves(first, imbalance, np.count_nonzero(counts, axis=0) > 1, both)


def paired_halves(counts: Ints, rng: np.random.Generator) -> tuple[Bools, int | None]:
    """Pair images, in random order, with the nearest that is left, and let a coin decide the sides.

    Returns which are in the first half, bool [n], and the image that an odd number leaves without a partner.

    The distance is the sum over classes of the counts' differences; of images equally near the next in the order is
    taken. The matrix of all distances is never made: each image's row of it is, and that from the classes that the
    image shows alone.
    """
    n = len(counts)
    order = rng.permutation(n)
    coins = rng.random(n) < 0.5
    by_class = np.ascontiguousarray(counts[order].T)
    totals = by_class.sum(axis=0, dtype=np.int32)
    left = totals.copy()  # of an image that is picked: far from all
    side = np.zeros(n, np.bool_)
    alone = None
    for i in range(n):
        if left[i] >= _PICKED:
            continue
        left[i] = _PICKED
        side[i] = coins[i]
        rest = slice(i + 1, n)
        distance = left[rest] + totals[i]
        for j in np.flatnonzero(by_class[:, i]).tolist():  # |a - b| = a + b - 2 min(a, b)
            distance -= 2 * np.minimum(by_class[j, rest], by_class[j, i])
        partner = i + 1 + int(distance.argmin()) if len(distance) else n
        if partner < n and left[partner] < _PICKED:
            left[partner] = _PICKED
            side[partner] = not coins[i]
        else:
            alone = int(order[i])
    out = np.zeros(n, np.bool_)
    out[order] = side
    return out, alone


def halves_table(halves: Halves, counts: Ints, classes: Sequence[str], names: tuple[str, str]) -> str:
    """Lay out each class's objects in both halves and its imbalance, with the largest, the mean and the median."""
    a, b = (counts[side].sum(axis=0).tolist() for side in halves.sides)
    rows: list[tuple[object, ...]] = [
        (
            label,
            a[j],
            b[j],
            "-" if np.isnan(value) else f"{value:.3f}",
            "" if halves.counted[j] else "in one image or none",
        )
        for j, (label, value) in enumerate(zip(classes, halves.imbalance.tolist(), strict=True))
    ]
    rows.append(("images", *(int(side.sum()) for side in halves.sides), "", ""))
    table = format_table(("class", *names, "imbalance", ""), rows, right=(1, 2, 3))
    classes_counted = counted(int(halves.counted.sum()), "class", "classes")
    figures = f"largest {halves.largest:.3f}, mean {halves.mean:.3f}, median {halves.median:.3f}"
    return f"{table}\nimbalance of {classes_counted} that several images show: {figures}"


def why_no_split(name: str) -> str:
    """Say why no split can be called so; an empty text where one can."""
    if _SPLIT.fullmatch(name):
        return ""
    return "use 1 to 64 letters, digits, '.', '_' and '-', starting with a letter or digit"


def _improved(counts: Ints, first: Bools, both: int | None) -> Halves:
    """Move single images while both the largest and the mean imbalance strictly fall.

    Each time the image is moved that lowers the largest most, of equal ones the mean, and of these the first.
    """
    now = measured(counts, first, both)
    chosen = counts[:, now.counted]
    totals = _totals(chosen, both)
    movable = np.ones(len(counts), np.bool_)
    if both is not None:
        movable[both] = False
    first = now.first.copy()
    while chosen.shape[1]:
        apart = _differences(chosen, first, both)
        best = _best_move(chosen, totals, first, apart, movable)
        if best is None:
            break
        first[best] = not first[best]
    return measured(counts, first, both)


def _best_move(counts: Ints, totals: Floats, first: Bools, apart: Floats, movable: Bools) -> int | None:
    """Return the movable image whose move lowers both imbalances most, None where no move lowers both."""
    imbalance = np.abs(apart) / totals
    largest, mean = imbalance.max(), imbalance.mean()
    worst = imbalance == largest
    able = np.flatnonzero((counts[:, worst] > 0).all(axis=1) & movable)  # another image leaves the largest where it is
    found: tuple[float, float, int] | None = None
    for start in range(0, len(able), _AT_ONCE):
        rows = able[start : start + _AT_ONCE]
        sign = np.where(first[rows], 2.0, -2.0)[:, None]
        moved = np.abs(apart - sign * counts[rows]) / totals
        largests, means = moved.max(axis=1), moved.mean(axis=1)
        for k in np.flatnonzero((largests < largest) & (means < mean)).tolist():
            one = (float(largests[k]), float(means[k]), int(rows[k]))
            found = one if found is None else min(found, one)
    return None if found is None else found[2]


def _differences(counts: Ints, first: Bools, both: int | None) -> Floats:
    """Return a - b of each class: float64 [N]; an image in both halves adds nothing."""
    signs = np.where(first, 1.0, -1.0)
    if both is not None:
        signs[both] = 0.0
    difference: Floats = (signs @ counts).astype(np.float64)
    return difference


def _totals(counts: Ints, both: int | None) -> Floats:
    """Return a + b of each class: float64 [N]; an image in both halves counts twice."""
    totals: Floats = counts.sum(axis=0).astype(np.float64)
    return totals if both is None else totals + counts[both]
