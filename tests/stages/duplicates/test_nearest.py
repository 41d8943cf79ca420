"""The search for the nearest against all pairs, one by one."""

import functools
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.duplicates import nearest as module
from stages.duplicates.nearest import nearest_vectors


def all_pairs(
    queries: NDArray[Any], references: NDArray[Any], members: NDArray[Any], count: int, itself: bool
) -> list[list[tuple[float, int]]]:
    found = []
    for q, query in enumerate(queries):
        apart = [
            (float(np.sqrt(((references[r].astype(np.float64) - query) ** 2).sum())), int(r))
            for r in members
            if not (itself and r == q)
        ]
        found.append(sorted(apart)[:count])
    return found


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 90), st.integers(1, 5), st.booleans())
def test_the_nearest_of_all_pairs(seed: int, n: int, m: int, count: int, within: bool) -> None:
    """Vectors of few values, so that many are equal and many distances tie."""
    rng = np.random.default_rng(seed)
    queries = rng.integers(0, 3, (n, 6)).astype(np.float32)
    references = queries if within else rng.integers(0, 3, (m, 6)).astype(np.float32)
    members = np.flatnonzero(rng.random(len(references)) < 0.8)
    found = nearest_vectors(queries, members, references.__getitem__, count, np.arange(n) if within else None)
    expected = all_pairs(queries, references, members, count, within)
    for rows, distances, wanted in zip(found.rows, found.distances, expected, strict=True):
        pad = count - len(wanted)
        assert distances.tolist() == [distance for distance, _ in wanted] + [np.inf] * pad
        assert rows.tolist()[len(wanted) :] == [-1] * pad
        assert set(rows.tolist()) - {-1} <= set(members.tolist())
        if len(members) <= count + module.SPARE:  # else, of more equal ones than are kept besides, any may be the last
            assert rows.tolist()[: len(wanted)] == [row for _, row in wanted]


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.random((60, 20), np.float32)
    whole = nearest_vectors(vectors, np.arange(60), vectors.__getitem__, 3, np.arange(60))
    for queries, references, read, measured in ((7, 9, 2**24, 2**22), (60, 1, 5000, 2000), (1, 60, 1, 1), (9, 9, 1, 1)):
        monkeypatch.setattr(module, "QUERY_BLOCK", queries)
        monkeypatch.setattr(module, "REFERENCE_BLOCK", references)
        monkeypatch.setattr(module, "_READ_BYTES", read)
        monkeypatch.setattr(module, "_MEASURED_BYTES", measured)
        told = itertools.count()
        parts = nearest_vectors(
            vectors, np.arange(60), vectors.__getitem__, 3, np.arange(60), functools.partial(next, told)
        )
        np.testing.assert_array_equal(parts.rows, whole.rows)
        np.testing.assert_array_equal(parts.distances, whole.distances)
        assert next(told) == module.steps(60, 60)


@pytest.mark.parametrize("count", [1, 100])
def test_memory_is_what_the_docstring_says(count: int) -> None:
    """However many neighbours are asked for: of 100 the references of a block of queries alone were 100 MiB."""
    rng = np.random.default_rng(4)
    queries, references = rng.random((1100, 960), np.float32), rng.random((9000, 960), np.float32)
    nearest_vectors(queries[:2], np.arange(9), references.__getitem__, count)  # compiles
    tracemalloc.start()
    nearest_vectors(queries, np.arange(9000), references.__getitem__, count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20 + len(queries) * ((count + module.SPARE) * 12 + count * 16)


def test_equal_vectors_are_at_zero_however_large_they_are() -> None:
    """A float32 product alone would put them some thousandths apart."""
    vectors = np.repeat(np.random.default_rng(2).random((30, 960), np.float32) * 100, 2, axis=0)
    found = nearest_vectors(vectors, np.arange(60), vectors.__getitem__, 1, np.arange(60))
    assert not found.distances.any()
    assert found.rows[:, 0].tolist() == [i ^ 1 for i in range(60)]


def test_as_many_as_are_spare_may_lie_within_rounding_of_the_nearest() -> None:
    """Their float32 products are one or in any order; the last of them is the nearest."""
    rng = np.random.default_rng(3)
    query = rng.random((1, 960), np.float32) * 100
    near = np.repeat(query, 1 + module.SPARE, axis=0)
    near[:, 0] += np.arange(len(near), 0, -1, dtype=np.float32) / 1000
    references = np.concatenate([near, rng.random((30, 960), np.float32) * 100])
    found = nearest_vectors(np.concatenate([query, -query]), np.arange(len(references)), references.__getitem__, 1)
    assert found.rows[0].tolist() == [module.SPARE]
    assert found.distances[0, 0] == float(near[-1, 0]) - float(query[0, 0])


def test_no_query_and_no_reference() -> None:
    vectors = np.ones((2, 4), np.float32)
    assert nearest_vectors(vectors[:0], np.arange(2), vectors.__getitem__, 2).rows.shape == (0, 2)
    none = nearest_vectors(vectors, np.arange(0), vectors.__getitem__, 2)
    assert (none.rows == -1).all() and np.isinf(none.distances).all()
