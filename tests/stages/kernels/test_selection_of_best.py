"""Selection of each class's best regions against a stable sort of all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.kernels.selection import _limits, best_rows


def slow(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(scores, order, axis=1)


@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 700), st.integers(1, 150), st.sampled_from([1, 4, 1e6]))
@settings(deadline=None, max_examples=80)
def test_as_a_stable_sort(seed: int, n_classes: int, n: int, count: int, levels: float) -> None:
    """``levels``: few of them give many equal scores, zeros of both signs among them."""
    rng = np.random.default_rng(seed)
    scores = (np.round(rng.normal(size=(n_classes, n)) * levels) / levels).astype(np.float32)
    rows, best = best_rows(scores, count)
    expected_rows, expected = slow(scores, count)
    np.testing.assert_array_equal(rows, expected_rows)
    assert best.tobytes() == expected.tobytes()  # the sign of zero too


@pytest.mark.parametrize("order", ["rising", "falling", "at the sampled places", "elsewhere", "equal"])
def test_however_the_scores_lie(order: str) -> None:
    scores = np.arange(2000, dtype=np.float32)
    places = np.arange(2000) % 15 == 0
    if order == "falling":
        scores = scores[::-1]
    elif order == "equal":
        scores = np.zeros(2000, np.float32)
    elif order != "rising":
        scores = scores + 10_000 * (places if order == "at the sampled places" else ~places)
    both = np.stack([scores, -scores]).astype(np.float32)
    np.testing.assert_array_equal(best_rows(both, 100)[0], slow(both, 100)[0])


def test_what_is_no_number_comes_last() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 400)).astype(np.float32)
    scores[0, ::2], scores[1], scores[2, 7] = np.nan, np.nan, np.inf
    for count in (5, 300):
        np.testing.assert_array_equal(best_rows(scores, count)[0], slow(scores, count)[0])


@pytest.mark.parametrize("finite", [0, 60, 500])
def test_infinities_beside_what_is_no_number(finite: int) -> None:
    """Features that overflowed give all three: -inf is then in the sample, and NaN still comes after it."""
    rng = np.random.default_rng(finite)
    scores = np.where(rng.random((4, 2000)) < 0.02, np.nan, -np.inf).astype(np.float32)
    scores[:, rng.permutation(2000)[:finite]] = rng.normal(size=(4, finite))
    scores[3, 5] = np.inf
    rows, best = best_rows(scores, 100)
    expected_rows, expected = slow(scores, 100)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(best, expected)
    # keys are written into memory for as many as _limits says
    sample = np.sort(scores[:, ::15], axis=1)
    limits = np.empty(4, np.float32)
    most = _limits(scores, sample, 100, limits)
    assert all((scores[c] >= limits[c]).sum() <= most if limits[c] > -np.inf else most == 2000 for c in range(4))
