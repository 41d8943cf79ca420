"""The pool of cached hard negatives: each region stored once for all classes, within a memory budget."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.kernels.threads import Threads

from .rows import copy_rows

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]

_ROW_BITS = 32  # of a key: the row within its image
_MOST_RESERVED = 2**34  # bytes of address space; a system may refuse what is out of all proportion to its memory
_PARTS = 8  # into which rows to copy are divided for threads: memory taken for the first time can be slow to get


class NegativePool:
    """Negatives of all classes, keyed by (image, row); a row that several classes hold is stored once.

    A class's rows are given in the order in which images came and rows lie in them, since a solver's result depends on
    it; where they are stored says nothing. Of each row and class the pool also keeps what the class's last fit has
    found (:class:`.dual.Start`).

    Args:
        n_classes: N.
        limit_bytes: memory for their rows.
        copy_bytes: [k, d] -> int64 [k], the size of the copy that the solver makes of each row of the class it fits.
    """

    def __init__(
        self, n_classes: int, limit_bytes: int, copy_bytes: Callable[[NDArray[Any]], Integers] | None = None
    ) -> None:
        self.limit_bytes = limit_bytes
        self._copy_bytes = copy_bytes
        self._ordinals: dict[int, int] = {}  # image id -> how many came before it
        self._counts = np.zeros(n_classes, np.int64)
        self._copied = np.zeros(n_classes, np.int64)  # bytes of the solver's copy, by class
        self._free: list[int] = []
        self._values: NDArray[Any] = np.zeros((0, 0), np.float32)  # [slots or more, d], as features came in
        self._keys = np.zeros(0, np.int64)  # [slots]: the image's ordinal and the row
        self._norms = np.zeros(0)  # [slots]: squared
        self._copies = np.zeros(0, np.int64)  # [slots]: copy_bytes of each
        self._member = np.zeros((0, n_classes), bool)
        self._multipliers = np.zeros((0, n_classes))
        self._scores = np.zeros((0, n_classes), np.float32)
        self._staleness = np.zeros((0, n_classes), np.float32)

    def counts(self) -> Integers:
        """Return how many negatives each class holds, int64 [N]."""
        return self._counts.copy()

    def n_bytes(self) -> int:
        """Return the bytes of the stored rows, plus the solver's copy for the class that needs most."""
        row_bytes = self._values.shape[1] * self._values.itemsize
        return int((len(self._keys) - len(self._free)) * row_bytes + self._copied.max(initial=0))

    def add(
        self,
        image_id: int,
        features: NDArray[Any],
        wanted: Flags,
        scores: NDArray[np.float32],
        threads: Threads | None = None,
    ) -> Integers:
        """Cache rows of one image; what a class already holds is not added again.

        Args:
            image_id: the image.
            features: [n, d], as stored.
            wanted: bool [n, N], the classes that are to hold each row.
            scores: float32 [n, N], by the current weights.
            threads: share out the copying.

        Returns:
            int64 [N], how many were new.
        """
        before, wanted = self.counts(), wanted.copy()
        seen = image_id in self._ordinals
        first_key = self._ordinals.setdefault(image_id, len(self._ordinals)) << _ROW_BITS
        if seen:
            held = np.flatnonzero((self._keys >= first_key) & (self._keys < first_key + (1 << _ROW_BITS)))
            rows = self._keys[held] - first_key
            self._hold(held, wanted[rows] & ~self._member[held], scores[rows])
            wanted[rows] = False
        if len(rows := np.flatnonzero(wanted.any(axis=1))):
            slots = self._take_slots(len(rows), features)
            self._keys[slots] = first_key + rows
            self._norms[slots] = self._copy_in(features, rows, slots, threads)
            if self._copy_bytes:
                self._copies[slots] = self._copy_bytes(features[rows])
            self._hold(slots, wanted[rows], scores[rows])
        return self._counts - before

    def slots(self, class_index: int) -> Integers:
        """Return where a class's rows lie in ``stored``, int64 [count], in order."""
        held = np.flatnonzero(self._member[:, class_index])
        return held[np.argsort(self._keys[held], kind="stable")]

    def stored(self) -> tuple[NDArray[Any], Doubles]:
        """Return all rows, [slots, d], and their squared lengths, float64 [slots]; valid until the next ``add``."""
        return self._values, self._norms

    def state(self, class_index: int) -> tuple[Doubles, NDArray[np.float32], NDArray[np.float32]]:
        """Return the multipliers, scores and staleness of a class's rows, each [count], in order.

        Rows that came after the last fit have multiplier 0 and the score at which they came.
        """
        at = self.slots(class_index), class_index
        return self._multipliers[at], self._scores[at], self._staleness[at]

    def set_state(self, class_index: int, multipliers: Doubles, scores: NDArray[Any], staleness: Doubles) -> None:
        """Keep what a fit has found for a class's rows, each [count], in order."""
        at = self.slots(class_index), class_index
        self._multipliers[at], self._scores[at], self._staleness[at] = multipliers, scores, staleness

    def drop(self, class_index: int, easy: Flags) -> None:
        """Make a class forget some of its rows, ``easy`` bool [count], in order."""
        slots = self.slots(class_index)[easy]
        leaving = np.zeros((len(slots), len(self._counts)), bool)
        leaving[:, class_index] = True
        self._release(slots, leaving)

    def forget_easiest(self) -> Integers:
        """Forget the easiest (row, class) pairs, by their scores, until a tenth of the limit is free.

        Nothing happens while the pool is within its limit.

        Returns:
            int64 [N], how many negatives each class lost.
        """
        before = self.counts()
        if self.n_bytes() <= self.limit_bytes:
            return before - before
        held = np.flatnonzero(self._member.any(axis=1))
        held = held[np.argsort(self._keys[held], kind="stable")]
        row, cls = np.nonzero(self._member[held])
        easiest_first = np.argsort(self._scores[held[row], cls], kind="stable")
        for batch in np.array_split(easiest_first, min(len(easiest_first), 50)):
            if self.n_bytes() <= 0.9 * self.limit_bytes:
                break
            rows, position = np.unique(row[batch], return_inverse=True)
            leaving = np.zeros((len(rows), len(before)), bool)
            leaving[position, cls[batch]] = True
            self._release(held[rows], leaving)
        return before - self._counts

    def _hold(self, slots: Integers, joining: Flags, scores: NDArray[np.float32]) -> None:
        """Make classes hold the rows in ``slots`` [k]: ``joining`` bool [k, N], none of which they held."""
        self._member[slots] |= joining
        self._multipliers[slots] = np.where(joining, 0, self._multipliers[slots])
        self._staleness[slots] = np.where(joining, 0, self._staleness[slots])
        self._scores[slots] = np.where(joining, scores, self._scores[slots])
        self._counts += joining.sum(axis=0)
        self._copied += self._copies[slots] @ joining

    def _copy_in(self, features: NDArray[Any], rows: Integers, slots: Integers, threads: Threads | None) -> Doubles:
        """Copy rows [k] into ``slots`` [k]; return their squared lengths, float64 [k]."""
        if threads is None:
            return copy_rows(features, rows, self._values, slots)
        parts = np.array_split(rows, _PARTS), np.array_split(slots, _PARTS)
        return np.concatenate(threads.map(lambda r, s: copy_rows(features, r, self._values, s), *parts))

    def _release(self, slots: Integers, leaving: Flags) -> None:
        """Make classes release the rows in ``slots`` [k]: ``leaving`` bool [k, N]; free what none holds now."""
        self._member[slots] &= ~leaving
        self._counts -= leaving.sum(axis=0)
        self._copied -= self._copies[slots] @ leaving
        freed = slots[~self._member[slots].any(axis=1)]
        self._keys[freed] = -1
        self._free += freed.tolist()

    def _take_slots(self, count: int, features: NDArray[Any]) -> Integers:
        """Take ``count`` free slots, int64 [count]; make the array longer if there are too few."""
        # those freed last come first: memory that has not been used yet is slow to get
        if (lacking := count - len(self._free)) > 0:
            self._grow(max(lacking, len(self._keys) // 4), features)
        kept = len(self._free) - count
        taken, self._free = self._free[kept:], self._free[:kept]
        return np.array(taken[::-1], np.int64)

    def _grow(self, more: int, features: NDArray[Any]) -> None:
        """Add ``more`` free slots for rows such as ``features``."""
        old, length = len(self._keys), features.shape[1]
        if not old:
            # address space alone; memory is taken as rows come
            reserved = min(self.limit_bytes * 5 // 4, _MOST_RESERVED) // (length * features.itemsize)
            # not zeros: memory taken so is handed out in large pages, in which rows are read half as long
            self._values = np.empty((max(more, reserved), length), features.dtype)
        elif old + more > len(self._values):
            # in place: for arrays of this size realloc moves pages, not bytes; no view of it is held across an add
            self._values.resize((old + more, length), refcheck=False)
        self._free[:0] = range(old + more - 1, old - 1, -1)
        self._keys = np.append(self._keys, np.full(more, -1))
        self._norms = np.append(self._norms, np.zeros(more))
        self._copies = np.append(self._copies, np.zeros(more, np.int64))
        wider = ((0, more), (0, 0))
        self._member, self._scores = np.pad(self._member, wider), np.pad(self._scores, wider)
        self._multipliers, self._staleness = np.pad(self._multipliers, wider), np.pad(self._staleness, wider)
