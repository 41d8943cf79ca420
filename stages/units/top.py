"""The strongest activations of every unit, from one pass over features (R-CNN paper, section 3.1), in compiled code.

A unit is "used as if it were an object detector": of each image its regions are sorted by activation, those that
overlap a stronger one by more than 0.1 go, and what is left competes with all images'. Ground-truth rows compete, too,
as in the authors' program.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.boxes.nms import overlap_bits
from stages.kernels.threads import Threads

IOU = 0.1  # the authors' pool5 explorer
_BLOCK = 64  # units that a thread looks at together: a cache line or two of a row


@dataclass(frozen=True)
class TopUnits:
    """The strongest activations of each of U units, best first, at most k of them.

    ``values`` float32 [U, k], and whose they are: ``images`` int32 [U, k], a number given to each image when it was
    added, and ``rows`` int32 [U, k] of its features; ``counts`` int32 [U], how many there are. Behind them 0 and -1.
    """

    values: NDArray[np.float32]
    images: NDArray[np.int32]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]

    @property
    def silent(self) -> NDArray[np.int64]:
        """The units that no region makes positive: int64, rising."""
        return np.flatnonzero(self.counts == 0)


class Collector:
    """Takes images one after another, in any order, and keeps each unit's ``top`` activations: 12 bytes of each.

    Only positive ones count (ours): after a ReLU all others are 0, the unit sees nothing. Of equal ones the image of
    the lower number comes first, in it the lower row; so the result does not depend on the order. Exact: a region below
    a full list's last is passed over, since it could suppress none above. (The authors' program passes over those below
    the last before the list is full as well.) Use it in a ``with`` statement.
    """

    def __init__(self, units: int, top: int, dtype: np.dtype[Any], workers: int = 1, iou: float = IOU) -> None:
        self._dtype, self._iou, self._threads = np.dtype(dtype), iou, Threads(workers)
        # positive floats are in the order of their bits, read as integers
        self._bits = np.zeros((units, top), np.int32)
        self._images, self._rows = (np.full((units, top), -1, np.int32) for _ in range(2))
        self._counts = np.zeros(units, np.int32)

    def __enter__(self) -> Self:
        self._threads.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.__exit__(kind, error, at)

    def add(self, image: int, features: NDArray[Any], boxes: Boxes) -> None:
        """Let an image's regions compete: features [n, U] of the dtype given, float16 or float32, boxes [n, 4]."""
        if not len(features):
            return
        bits = np.ascontiguousarray(features).view(np.int16 if self._dtype == np.float16 else np.int32)
        overlaps = overlap_bits(boxes, self._iou)
        starts = range(0, bits.shape[1], _BLOCK)

        def block(start: int) -> None:
            part = slice(start, start + _BLOCK)
            kept = self._bits[part], self._images[part], self._rows[part], self._counts[part]
            _compete(bits[:, part], overlaps, image, *kept)

        self._threads.map(block, starts)

    def result(self) -> TopUnits:
        """Return what was kept; StageError where an activation is no finite number."""
        half = self._dtype == np.float16
        found = self._bits.astype(np.int16).view(np.float16) if half else self._bits.view(np.float32)
        values = found.astype(np.float32)
        if not np.isfinite(values).all():
            unit = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise StageError(f"unit {unit}: an activation is no finite number; run `rcnn cache verify`")
        return TopUnits(values, self._images, self._rows, self._counts)


@njit(cache=True, nogil=True)
def _compete(bits: Any, overlaps: Any, image: int, kept: Any, images: Any, rows: Any, counts: Any) -> None:
    """Let an image's regions compete for the lists of some units.

    bits int [n, u] of the activations; overlaps as :func:`overlap_bits` has them; the lists of these units, int32
    [u, k], and their lengths [u].
    """
    n, width = bits.shape
    top = kept.shape[1]
    floors = np.ones(width, bits.dtype)
    for u in range(width):
        if counts[u] == top:
            floors[u] = kept[u, top - 1]
    found = np.zeros(width, np.int64)
    who, value = np.empty((width, n), np.int32), np.empty((width, n), np.int32)
    for r in range(n):
        some = False
        for u in range(width):
            some |= bits[r, u] >= floors[u]
        if some:
            for u in range(width):  # no branch in it: which are strong cannot be foretold
                who[u, found[u]] = r
                value[u, found[u]] = bits[r, u]
                found[u] += bits[r, u] >= floors[u]
    for u in range(width):
        if found[u]:
            left = _suppressed(who[u], value[u], found[u], overlaps, top)
            _merged(who[u], value[u], left, image, kept[u], images[u], rows[u], counts[u])
            counts[u] = min(top, counts[u] + left)


@njit(cache=True, nogil=True)
def _suppressed(who: Any, value: Any, count: int, overlaps: Any, most: int) -> int:
    """Leave of some regions those that no stronger one overlaps, best first and at most ``most``; returns how many.

    The strongest is looked for again and again among what is left: an image leaves a dozen, and sorting all of them
    would take longer. Those found stand at the front, what is left behind them, in the rows' order.
    """
    done = 0
    while done < count and done < most:
        best = done
        for i in range(done + 1, count):
            if value[i] > value[best]:
                best = i
        row, strongest = who[best], value[best]
        # the rest moves up by those that go, and begins behind the one found
        into = count
        for i in range(count - 1, done - 1, -1):
            other = who[i]
            if not (overlaps[row, other >> 6] >> np.uint64(other & 63)) & np.uint64(1):
                into -= 1
                who[into], value[into] = other, value[i]
        left = count - into
        who[done], value[done] = row, strongest
        done += 1
        for i in range(left):
            who[done + i], value[done + i] = who[into + i], value[into + i]
        count = done + left
    return done


@njit(cache=True, nogil=True)
def _merged(who: Any, value: Any, new: int, image: int, kept: Any, images: Any, rows: Any, count: int) -> None:
    """Merge an image's regions, best first, into a unit's list, from its end; what does not fit in falls out."""
    i, j = count - 1, new - 1
    while j >= 0:
        at = i + j + 1
        worse = i >= 0 and (
            kept[i] < value[j]
            or (kept[i] == value[j] and (images[i] > image or (images[i] == image and rows[i] > who[j])))
        )
        if worse:
            if at < len(kept):
                kept[at], images[at], rows[at] = kept[i], images[i], rows[i]
            i -= 1
        else:
            if at < len(kept):
                kept[at], images[at], rows[at] = value[j], image, who[j]
            j -= 1


def top_of(
    images: Iterable[tuple[int, NDArray[Any], Boxes]], units: int, top: int, dtype: np.dtype[Any], workers: int = 1
) -> TopUnits:
    """Return the strongest activations of images given as (number, features [n, U], boxes [n, 4]), in any order."""
    with Collector(units, top, dtype, workers) as collector:
        for number, features, boxes in images:
            collector.add(number, features, boxes)
        return collector.result()
