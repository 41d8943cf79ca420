"""The strongest activations of every unit, from one pass over features (R-CNN paper, section 3.1), in compiled code.

A unit is "used as if it were an object detector": of each image its regions are sorted by activation, those that
overlap a stronger one by more than 0.1 go, and what is left competes with all images'. Ground-truth rows compete, too,
as in the authors' program.
"""

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
_BLOCK = 512  # units that a thread looks at in one go: a quarter of a page of a row
_FEW = 40  # regions of which each one's place is looked for
_TOGETHER = 64  # of these, that are passed over together where none of them reaches its list's end


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
    a full list's last is passed over, since it could suppress none above. Use it in a ``with`` statement.

    ``early_floor``: as the authors' program, pass over regions that are not above a list's last before the list is full
    as well. Then lists can stay short, and the result depends on the order of the images.
    """

    def __init__(
        self,
        units: int,
        top: int,
        dtype: np.dtype[Any],
        workers: int = 1,
        iou: float = IOU,
        *,
        early_floor: bool = False,
    ) -> None:
        self._dtype, self._iou, self._threads = np.dtype(dtype), iou, Threads(workers)
        self._early_floor = early_floor
        # Of each its bits (positive floats are in the order of their bits, read as integers), image and row; together,
        # since what is looked at of 110 MB is in no cache.
        self._lists = np.tile(np.array([0, -1, -1], np.int32), (units, top, 1))
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

        def block(start: int) -> None:
            part = slice(start, start + _BLOCK)
            _compete(bits, start, overlaps, image, self._lists[part], self._counts[part], self._early_floor)

        self._threads.map(block, range(0, len(self._counts), _BLOCK))

    def result(self) -> TopUnits:
        """Return what was kept, to which nothing can be added any more; StageError where a value is not finite."""

        def block(start: int) -> None:
            part = slice(start, start + _BLOCK)
            _in_order(self._lists[part], self._counts[part])

        self._threads.map(block, range(0, len(self._counts), _BLOCK))
        bits, images, rows = np.moveaxis(self._lists, 2, 0)
        half = self._dtype == np.float16
        found = bits.astype(np.int16).view(np.float16) if half else np.ascontiguousarray(bits).view(np.float32)
        values = found.astype(np.float32)
        if not np.isfinite(values).all():
            unit = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise StageError(f"unit {unit}: an activation is no finite number; run `rcnn cache verify`")
        return TopUnits(values, images, rows, self._counts)


@njit(cache=True, nogil=True)
def _compete(bits: Any, start: int, overlaps: Any, image: int, lists: Any, counts: Any, early_floor: bool) -> None:
    """Let an image's regions compete for the lists of the u units from ``start`` on.

    bits int [n, U] of the activations of all units; overlaps as :func:`overlap_bits` has them; lists int32 [u, k, 3]
    of these units, and their lengths [u]; early_floor: whether one must be above the last of a list that is not full.
    """
    n, width, top = len(bits), lists.shape[0], lists.shape[1]
    floors = np.ones(width, bits.dtype)
    for u in range(width):
        if counts[u] == top:
            floors[u] = lists[u, 0, 0]
        elif early_floor and counts[u]:
            floors[u] = lists[u, : counts[u], 0].min() + 1  # a list that is not full is no heap
    found = np.zeros(width, np.int64)
    who, value = np.empty((width, n), np.int32), np.empty((width, n), bits.dtype)
    for r in range(n):
        for first in range(0, width, _TOGETHER):
            last = min(first + _TOGETHER, width)
            few, least, some = bits[r, start + first : start + last], floors[first:last], np.int16(0)
            for u in range(last - first):  # of 16 bits, so that a vector holds the answers as well
                some |= np.int16(few[u] >= least[u])
            if some:
                for u in range(first, last):  # no branch in it: which are strong cannot be foretold
                    who[u, found[u]] = r
                    value[u, found[u]] = bits[r, start + u]
                    found[u] += bits[r, start + u] >= floors[u]
    aside, also = np.empty(n, np.int32), np.empty(n, bits.dtype)
    gone = np.empty(overlaps.shape[1], np.uint64)
    for u in range(width):
        if found[u]:
            if found[u] > 1:
                _sorted(who[u, : found[u]], value[u, : found[u]], aside, also)
            left = _suppressed(who[u], value[u], found[u], overlaps, gone, top)
            counts[u] = _taken(who[u], value[u], left, image, lists[u], counts[u])


@njit(cache=True, nogil=True)
def _sorted(who: Any, value: Any, aside: Any, also: Any) -> None:
    """Sort regions by falling activation, equal ones as they stood: many byte by byte, the lowest first.

    For some hundred numbers a fifth of the time of a sort by comparison. ``aside`` and ``also`` are scratch.
    """
    count = len(value)
    if count < _FEW:
        for i in range(1, count):
            row, own, at = who[i], value[i], i
            while at > 0 and value[at - 1] < own:
                who[at], value[at] = who[at - 1], value[at - 1]
                at -= 1
            who[at], value[at] = row, own
        return
    starts = np.empty(257, np.int64)
    for shift in range(0, 8 * value.itemsize, 16):
        for half in range(2):
            low = shift + 8 * half
            one, other = (value, also) if half == 0 else (also, value)
            from_, to = (who, aside) if half == 0 else (aside, who)
            starts[:] = 0
            for i in range(count):
                starts[256 - ((one[i] >> low) & 255)] += 1
            for digit in range(256):
                starts[digit + 1] += starts[digit]
            for i in range(count):
                digit = 255 - ((one[i] >> low) & 255)
                at = starts[digit]
                other[at], to[at] = one[i], from_[i]
                starts[digit] = at + 1


@njit(cache=True, nogil=True)
def _suppressed(who: Any, value: Any, count: int, overlaps: Any, gone: Any, most: int) -> int:
    """Leave of regions, best first, those that no stronger one overlaps, at most ``most``; returns how many.

    They move to the front. ``gone`` is scratch, a bit for each region of the image.
    """
    gone[:] = 0
    left = 0
    for i in range(count):
        row = who[i]
        if not (gone[row >> 6] >> np.uint64(row & 63)) & np.uint64(1):
            for word in range(len(gone)):
                gone[word] |= overlaps[row, word]
            who[left], value[left] = row, value[i]
            left += 1
            if left == most:
                break
    return left


@njit(cache=True, nogil=True)
def _taken(who: Any, value: Any, new: int, image: int, entries: Any, count: int) -> int:
    """Take an image's regions, best first, into a unit's list of ``count``; returns how many it then has.

    A full list is a heap, whose first one is the worst, and goes for a better one. Entries int32 [k, 3].
    """
    top = len(entries)
    for j in range(new):
        if count < top:
            entries[count, 0], entries[count, 1], entries[count, 2] = value[j], image, who[j]
            count += 1
            if count == top:
                _heap(entries, count)
        elif _is_worse(entries, 0, value[j], image, who[j]):
            entries[0, 0], entries[0, 1], entries[0, 2] = value[j], image, who[j]
            _sift(entries, 0, top)
        else:  # nor are those that follow better
            break
    return count


@njit(cache=True, nogil=True)
def _heap(entries: Any, count: int) -> None:
    for at in range(count // 2 - 1, -1, -1):
        _sift(entries, at, count)


@njit(cache=True, nogil=True)
def _sift(entries: Any, at: int, count: int) -> None:
    """Let an entry of a heap sink until none below it is worse."""
    own, image, row = entries[at, 0], entries[at, 1], entries[at, 2]
    while 2 * at + 1 < count:
        child = 2 * at + 1
        beside = child + 1
        if beside < count and _is_worse(entries, beside, entries[child, 0], entries[child, 1], entries[child, 2]):
            child = beside
        if not _is_worse(entries, child, own, image, row):
            break
        for part in range(3):
            entries[at, part] = entries[child, part]
        at = child
    entries[at, 0], entries[at, 1], entries[at, 2] = own, image, row


@njit(cache=True, nogil=True)
def _is_worse(entries: Any, at: int, own: int, image: int, row: int) -> bool:
    """Whether an entry is weaker than another one, or as strong and of a later image or row."""
    if entries[at, 0] != own:
        return bool(entries[at, 0] < own)
    return bool(entries[at, 1] > image or (entries[at, 1] == image and entries[at, 2] > row))


@njit(cache=True, nogil=True)
def _in_order(lists: Any, counts: Any) -> None:
    """Sort the lists of some units, best first: the worst goes to the end, again and again."""
    for u in range(len(lists)):
        entries = lists[u]
        _heap(entries, counts[u])
        for last in range(counts[u] - 1, 0, -1):
            for part in range(3):
                entries[0, part], entries[last, part] = entries[last, part], entries[0, part]
            _sift(entries, 0, last)
