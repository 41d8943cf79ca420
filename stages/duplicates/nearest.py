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
_READ_BYTES, _MEASURED_BYTES = 2**24, 2**22  # of neighbours' vectors read at a time, and of differences from them
_NONE = np.iinfo(np.int64).max  # in place of a row, so that it sorts behind all
SPARE = 8  # kept beyond those asked for, since float32 products may order nearly equal distances otherwise


@dataclass(frozen=True)
class Neighbours:
    """The nearest references of each query: ``rows`` int64 [n, k], nearest first, and ``distances`` float64 [n, k].

    Where there are fewer than k, row -1 and an infinite distance.
    """

    rows: Indices
    distances: NDArray[np.float64]


def steps(queries: int, members: int) -> int:
    """Return how often :func:`nearest_vectors` calls ``told``: for each product, and once each block of queries."""
    blocks = -(-queries // QUERY_BLOCK)
    return blocks * -(-members // REFERENCE_BLOCK) + blocks


def nearest_vectors(
    queries: Vectors,
    members: Indices,
    read: Callable[[Indices], Vectors],
    count: int,
    but: Indices | None = None,
    told: Callable[[], None] = lambda: None,
) -> Neighbours:
    """Find the ``count`` nearest references of each query by Euclidean distance, of equal ones the earlier.

    Blocks of products tell which are near, and their distances are computed again from differences in float64: the
    product's float32 would call equal pictures 0.001 apart. Exact but where more than :data:`SPARE` further references
    are within the products' rounding of the last one's distance: then any of these may stand for it. However many
    references there are, vectors of 960 numbers take 40 MiB beside the queries and, of each, 12 bytes for
    ``count`` + SPARE references and 16 for ``count``.

    Args:
        queries: float32 [n, d].
        members: int64 [m], the references to look at, rising.
        read: gives the vectors float32 [k, d] of the references of these numbers.
        but: int64 [n], the reference that is no neighbour of each query, itself; -1: none.
        told: is called after each of :func:`steps`.
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
            _keep((queries[part] - centre) @ block.T, halves, none[part], numbers, rows[part], values[part])
            told()
        del block  # before the next one is read
    found = Neighbours(np.full((n, count), -1, np.int64), np.full((n, count), np.inf))
    for first in range(0, n, QUERY_BLOCK):
        part = slice(first, first + QUERY_BLOCK)
        _measure(queries[part], read, rows[part], Neighbours(found.rows[part], found.distances[part]))
        told()
    return found


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


def _measure(queries: Vectors, read: Callable[[Indices], Vectors], rows: Indices, found: Neighbours) -> None:
    """Measure what was kept of some queries, and put the nearest of it into ``found``."""
    kept_bytes = max(1, rows.shape[1] * queries.shape[1] * queries.itemsize)  # of one query's neighbours
    step = max(1, _READ_BYTES // kept_bytes)
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        numbers = np.unique(rows[part][rows[part] >= 0])
        if len(numbers):
            vectors = read(numbers)
            least = max(1, _MEASURED_BYTES // (2 * kept_bytes))  # differences are float64
            for first in range(start, min(start + step, len(queries)), least):
                some = slice(first, min(first + least, start + step))
                nearest = Neighbours(found.rows[some], found.distances[some])
                _measure_from(queries[some], numbers, vectors, rows[some], nearest)


def _measure_from(queries: Vectors, numbers: Indices, vectors: Vectors, rows: Indices, found: Neighbours) -> None:
    """Measure against neighbours that were read: ``vectors`` of the references ``numbers``, rising."""
    some = np.sort(np.where(rows < 0, _NONE, rows), axis=1)  # of equal distances the earlier is first
    near = vectors[np.minimum(np.searchsorted(numbers, some), len(numbers) - 1)].astype(np.float64)
    near -= queries[:, None]
    apart = np.where(some == _NONE, np.inf, np.sqrt(np.square(near, out=near).sum(axis=2)))
    count = found.rows.shape[1]
    order = np.argsort(apart, axis=1, kind="stable")[:, :count]
    kept, distances = (np.take_along_axis(of, order, axis=1) for of in (some, apart))
    width = kept.shape[1]
    found.rows[:, :width], found.distances[:, :width] = np.where(kept == _NONE, -1, kept), distances
