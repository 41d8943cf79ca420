"""The best of many scores, in order, without sorting all of them."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SAMPLE = 128  # scores looked at to guess how good one must be


def best_rows(scores: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Select each class's best: scores float32 [N, n] of N classes -> rows int64 [N, k], scores float32 [N, k].

    The first k = min(n, count) of a stable sort by falling score: equal scores keep the rows' order, NaN comes last.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    k = min(scores.shape[1], count)
    rows = np.zeros((len(scores), k), np.int64)
    best = np.zeros((len(scores), k), np.float32)
    if rows.size:
        # numpy's sorts are vectorised: a tenth of the time of a compiled loop's
        sample = np.sort(scores[:, :: max(1, scores.shape[1] // _SAMPLE)], axis=1)
        limits = np.empty(len(scores), np.float32)
        keys = np.full((len(scores), _limits(scores, sample, k, limits)), np.iinfo(np.uint64).max)
        _collect(scores, scores.view(np.uint32), limits, keys)
        keys.sort(axis=1)
        _take(scores, keys, rows, best)
    return rows, best


@njit(cache=True, nogil=True)
def _limits(scores: Any, sample: Any, k: int, limits: Any) -> int:
    """Find a score for each class that k or some more regions reach; returns the largest number that do.

    -inf where all are needed, which NaN is below. scores [N, n]; ``sample`` [N, s], some of them in rising order.
    """
    n, size = scores.shape[1], sample.shape[1]
    most = k
    for c in range(len(scores)):
        guess = 2 + 5 * k * size // (4 * n)  # of the sample; a quarter more than should be needed
        limits[c], reached = -np.inf, n
        while guess <= size:
            limit = sample[c, size - guess]
            found = 0
            for i in range(n):
                found += scores[c, i] >= limit
            if found >= k and limit > -np.inf:
                limits[c], reached = limit, found
                break
            guess *= 2
        most = max(most, reached)
    return most


@njit(cache=True, nogil=True)
def _collect(scores: Any, bits: Any, limits: Any, keys: Any) -> None:
    """Write for each score from its class's limit up a key that sorts by falling score and then by row.

    ``bits`` uint32 [N, n] are the scores' own; keys uint64 [N, most].
    """
    reached = np.empty(scores.shape[1], np.int64)
    for c in range(len(scores)):
        found, every = 0, limits[c] == -np.inf  # NaN only where all are needed
        for i in range(scores.shape[1]):  # no branch in it: which scores reach the limit cannot be foretold
            reached[found] = i
            found += (scores[c, i] >= limits[c]) | every
        for k in range(found):
            i = reached[k]
            # a positive float's bits grow with it, a negative one's fall; 0.0 and -0.0 are equal, NaN is last
            word = bits[c, i] if scores[c, i] != 0 else np.uint32(0)
            falling = word if word >> 31 else np.uint32(0x7FFFFFFF) - word
            if np.isnan(scores[c, i]):
                falling = np.uint32(0xFFFFFFFF)
            keys[c, k] = (np.uint64(falling) << np.uint64(32)) | np.uint64(i)


@njit(cache=True, nogil=True)
def _take(scores: Any, keys: Any, rows: Any, best: Any) -> None:
    for c in range(len(rows)):
        for r in range(rows.shape[1]):
            rows[c, r] = keys[c, r] & np.uint64(0xFFFFFFFF)
            best[c, r] = scores[c, rows[c, r]]
