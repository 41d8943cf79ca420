"""The nearest vectors of each of many, block by block: a matrix product and one look at what comes of it.

They are exact but for more than :data:`SPARE` further references within float32's rounding of the last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]

QUERY_BLOCK, REFERENCE_BLOCK = 1024, 4096  # vectors of a block: its product is 16 MiB, however many there are
_MEASURED = 64  # queries whose distances are measured at a time: 5 MiB
_NONE = np.iinfo(np.int64).max  # in place of a row, so that it sorts behind all
SPARE = 8  # kept beyond those asked for, since float32 products may order nearly equal distances otherwise


@dataclass(frozen=True)
class Neighbours:
    """The nearest references of each query: ``rows`` int64 [n, k], nearest first, and ``distances`` float64 [n, k].

    Where there are fewer than k, row -1 and an infinite distance.
    """

    rows: Indices
    distances: NDArray[np.float64]


def nearest_vectors(
    queries: Vectors, members: Indices, read: Callable[[Indices], Vectors], count: int, but: Indices | None = None
) -> Neighbours:
    """Find the ``count`` nearest references of each query by Euclidean distance, of equal ones the earlier.

    Blocks of products tell which are near, and their distances are computed again from differences in float64: the
    product's float32 would call equal pictures 0.001 apart. Exact but where more than :data:`SPARE` further references
    are within the products' rounding of the last one's distance: then any of these may stand for it. However many
    references there are, beside the queries this takes 32 MiB and the result.

    Args:
        queries: float32 [n, d].
        members: int64 [m], the references to look at, rising.
        read: gives the vectors float32 [k, d] of the references of these numbers.
        but: int64 [n], the reference that is no neighbour of each query, itself; -1: none.
    """
    n, kept = len(queries), count + SPARE
    none = np.full(n, -1, np.int64) if but is None else but
    centre = queries.mean(axis=0, dtype=np.float64).astype(np.float32) if n else np.float32(0)
    rows, values = np.full((n, kept), -1, np.int64), np.full((n, kept), -np.inf, np.float32)
    for start in range(0, len(members), REFERENCE_BLOCK):
        numbers = members[start : start + REFERENCE_BLOCK]
        block = read(numbers) - centre
        halves = np.einsum("ij,ij->i", block, block) / 2
        for first in range(0, n, QUERY_BLOCK):
            part = slice(first, first + QUERY_BLOCK)
            products = (queries[part] - centre) @ block.T
            _keep(products, halves, none[part], numbers, rows[part], values[part])
    found = [
        _measured(queries[i : i + QUERY_BLOCK], read, rows[i : i + QUERY_BLOCK], count)
        for i in range(0, n, QUERY_BLOCK)
    ]
    if not found:
        return Neighbours(np.zeros((0, count), np.int64), np.zeros((0, count)))
    return Neighbours(*(np.concatenate([getattr(one, name) for one in found]) for name in ("rows", "distances")))


@njit(cache=True, nogil=True)
def _keep(products: Any, halves: Any, but: Any, numbers: Any, rows: Any, values: Any) -> None:
    """Put a block's best into the lists of what is kept, best first; of equal ones the earlier stays before.

    The nearest is that of the largest product less half of its own square: products float32 [n, b], halves [b],
    numbers int64 [b] of the block's references, rows and values [n, k].
    """
    n, width = products.shape
    last = values.shape[1] - 1
    near = np.empty(width, np.int64)
    for q in range(n):
        worst, found = values[q, last], 0
        for r in range(width):  # no branch in it, so that it is as fast as memory
            near[found] = r
            found += products[q, r] - halves[r] > worst
        for i in range(found):
            r = near[i]
            value = products[q, r] - halves[r]
            if numbers[r] == but[q] or not value > values[q, last]:
                continue
            at = last
            while at > 0 and values[q, at - 1] < value:
                values[q, at], rows[q, at] = values[q, at - 1], rows[q, at - 1]
                at -= 1
            values[q, at], rows[q, at] = value, numbers[r]


def _measured(queries: Vectors, read: Callable[[Indices], Vectors], rows: Indices, count: int) -> Neighbours:
    """Measure what was kept of some queries, and return the nearest of it."""
    n = len(queries)
    found = Neighbours(np.full((n, count), -1, np.int64), np.full((n, count), np.inf))
    numbers = np.unique(rows[rows >= 0])
    if not len(numbers):
        return found
    vectors = read(numbers)
    for start in range(0, n, _MEASURED):
        part = slice(start, start + _MEASURED)
        some = np.sort(np.where(rows[part] < 0, _NONE, rows[part]), axis=1)  # of equal distances the earlier is first
        near = vectors[np.minimum(np.searchsorted(numbers, some), len(numbers) - 1)].astype(np.float64)
        near -= queries[part, None]
        apart = np.where(some == _NONE, np.inf, np.sqrt((near**2).sum(axis=2)))
        order = np.argsort(apart, axis=1, kind="stable")[:, :count]
        kept, distances = (np.take_along_axis(of, order, axis=1) for of in (some, apart))
        width = kept.shape[1]
        found.rows[part, :width], found.distances[part, :width] = np.where(kept == _NONE, -1, kept), distances
    return found
