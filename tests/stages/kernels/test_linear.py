"""Scores by the compiled product, against float64's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.kernels.linear import FEW, linear


def operands(
    rows: int, length: int, vectors: int, dtype: type[np.floating], seed: int = 0
) -> tuple[NDArray[np.floating], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, length)).astype(dtype), rng.standard_normal((vectors, length)).astype(np.float32)


@settings(deadline=None)  # the first example compiles
@given(
    rows=st.integers(0, 9),
    length=st.integers(1, 130),
    vectors=st.integers(1, 9) | st.integers(FEW - 1, FEW + 2),
    dtype=st.sampled_from([np.float16, np.float32]),
    seed=st.integers(0, 99),
)
def test_equals_the_product_in_float64(
    rows: int, length: int, vectors: int, dtype: type[np.floating], seed: int
) -> None:
    x, weights = operands(rows, length, vectors, dtype, seed)
    found = linear(x, weights)
    assert found.dtype == np.float32
    assert found.shape == (rows, vectors)
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(weights.astype(np.float64)).T
    off = np.abs(found - x.astype(np.float64) @ weights.T.astype(np.float64))
    assert (off <= 1e-6 * magnitude).all()  # a sum of float32 is off by some 1e-7 of the sum of magnitudes


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_scores_bits_do_not_depend_on_the_rows_and_vectors_beside_it(
    dtype: type[np.floating],
) -> None:
    x, weights = operands(23, 77, 11, dtype)
    whole = linear(x, weights)
    for row in range(23):
        for vector in range(11):
            assert linear(x[row : row + 1], weights[vector : vector + 1])[0, 0] == whole[row, vector]
    np.testing.assert_array_equal(linear(x[3:18], weights[2:9]), whole[3:18, 2:9])


def test_rows_that_are_not_contiguous() -> None:
    x, weights = operands(20, 90, 3, np.float16)
    np.testing.assert_array_equal(
        linear(x[::3, ::2], weights[:, ::2]), linear(x[::3, ::2].copy(), weights[:, ::2].copy())
    )


def test_what_is_not_a_number_stays_so() -> None:
    x, weights = operands(5, 40, 2, np.float16)
    x[2, 7], x[4, 3] = np.nan, np.inf
    found = linear(x, weights)
    assert np.isnan(found[2]).all()
    assert np.isinf(found[4]).all()
    assert np.isfinite(found[[0, 1, 3]]).all()
