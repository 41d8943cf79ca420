"""Support vector regression against liblinear and scikit-learn: objective, weights, warm starts, counts."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from liblinear import liblinearutil
from numpy.typing import NDArray
from scipy import sparse
from sklearn.svm import LinearSVR

from stages.svm.liblinear import fit_liblinear_tube
from stages.svm.rows import squared_norms
from stages.svm.tube import TubeProblem, TubeRows, fit_tube

O2P = TubeProblem(C=3.0, epsilon=0.25)
SCALE = 0.2


def made_up(
    seed: int, n: int = 150, d: int = 30, dtype: Any = np.float16, counts: NDArray[Any] | None = None
) -> TubeRows:
    """Sparse rows among others, and targets between 0 and 1, less their mean, of which few are high."""
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.normal(size=(2 * n, d)), 0).astype(dtype)
    slots = rng.permutation(2 * n)[:n]
    targets = np.clip(values[slots, :3].astype(np.float64).sum(axis=1) / 4 + rng.normal(0, 0.2, n) - 0.4, 0, 1)
    own = np.ones(n) if counts is None else counts
    return TubeRows(values, slots, squared_norms(values[slots]), SCALE, targets - targets.mean(), own)


def dense(rows: TubeRows) -> NDArray[np.float64]:
    return rows.values[rows.slots].astype(np.float64) * rows.scale


def value(rows: TubeRows, problem: TubeProblem, w: NDArray[np.float64]) -> float:
    return problem.objective(w, dense(rows) @ w, rows.targets, rows.counts)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("problem", [O2P, TubeProblem(0.1, 0.05), TubeProblem(50.0, 0.0)])
def test_objective_and_weights_are_scikit_learns(problem: TubeProblem, dtype: Any) -> None:
    rows = made_up(1, dtype=dtype)
    ours = fit_tube(rows, problem, 1e-7, seed=0)
    theirs = LinearSVR(
        loss="squared_epsilon_insensitive", C=problem.C, epsilon=problem.epsilon, fit_intercept=False,
        tol=1e-10, max_iter=100_000, random_state=0,
    ).fit(dense(rows), rows.targets)  # fmt: skip
    assert ours.converged
    assert value(rows, problem, ours.w) == pytest.approx(value(rows, problem, theirs.coef_), rel=1e-5)
    np.testing.assert_allclose(ours.w, theirs.coef_, atol=2e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.scores, dense(rows) @ ours.w, atol=1e-5)


def test_same_bits_as_liblinears_wrapper() -> None:
    import ctypes

    rows = made_up(2)
    ours = fit_liblinear_tube(rows, O2P, 0.01, seed=5)
    x = rows.values[rows.slots].astype(np.float32) * np.float32(rows.scale)
    ctypes.CDLL(None).srand(5)
    theirs = liblinearutil.train(
        rows.targets, sparse.csr_matrix(x.astype(np.float64)), "-s 12 -c 3 -p 0.25 -e 0.01 -B -1 -q"
    )
    assert np.array_equal(ours.w, theirs.get_decfun()[0])
    assert ours.converged and ours.iterations > 0
    np.testing.assert_allclose(ours.scores, dense(rows) @ ours.w, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), C=st.floats(0.01, 30), epsilon=st.floats(0, 0.5))
def test_both_solvers_come_to_one_objective(seed: int, C: float, epsilon: float) -> None:
    rows = made_up(seed, n=60, d=12)
    problem = TubeProblem(C, epsilon)
    ours = fit_tube(rows, problem, 1e-6, seed=seed)
    theirs = fit_liblinear_tube(rows, problem, 1e-8, seed=seed)
    best = value(rows, problem, theirs.w)
    assert value(rows, problem, ours.w) <= best * (1 + 2e-5) + 1e-9


def test_the_gap_bounds_the_distance_to_the_minimum() -> None:
    rows = made_up(3)
    least = value(rows, O2P, fit_tube(rows, O2P, 1e-8, seed=0).w)
    for gap in (0.3, 0.03, 1e-3):
        found = fit_tube(rows, O2P, gap, seed=1)
        assert found.gap is not None and found.gap <= gap
        assert least <= value(rows, O2P, found.w) * (1 + 1e-6)
        assert value(rows, O2P, found.w) * (1 - found.gap) <= least * (1 + 1e-6)


def test_a_row_that_counts_twice_is_two_rows() -> None:
    counts = np.random.default_rng(0).integers(1, 4, 150).astype(np.float64)
    once = made_up(4, counts=counts)
    times = counts.astype(np.int64)
    repeated = TubeRows(
        once.values, once.slots.repeat(times), once.norms.repeat(times), SCALE, once.targets.repeat(times),
        np.ones(int(times.sum())),
    )  # fmt: skip
    np.testing.assert_allclose(fit_tube(once, O2P, 1e-8, seed=0).w, fit_tube(repeated, O2P, 1e-8, seed=0).w, atol=1e-3)
    ours, theirs = fit_liblinear_tube(once, O2P, 1e-9, seed=0), fit_liblinear_tube(repeated, O2P, 1e-9, seed=0)
    np.testing.assert_allclose(ours.w, theirs.w, atol=1e-6)


def test_a_warm_start_has_less_to_do_and_comes_to_the_same() -> None:
    rows = made_up(5)
    cold = fit_tube(rows, O2P, 1e-6, seed=0)
    assert cold.multipliers is not None
    warm = fit_tube(rows, O2P, 1e-6, seed=1, start=cold.multipliers)
    assert warm.iterations < cold.iterations
    np.testing.assert_allclose(warm.w, cold.w, atol=1e-3 * np.abs(cold.w).max())


def test_multipliers_make_the_weights_and_are_0_inside_the_tube() -> None:
    rows = made_up(6)
    found = fit_tube(rows, O2P, 1e-7, seed=0)
    assert found.multipliers is not None
    np.testing.assert_allclose(found.multipliers @ dense(rows), found.w, atol=1e-9)
    inside = np.abs(found.scores - rows.targets) < O2P.epsilon - 1e-3
    assert inside.any() and not found.multipliers[inside].any()
    outside = ~inside & (np.abs(found.scores - rows.targets) > O2P.epsilon + 1e-3)
    assert (np.sign(found.multipliers[outside]) == np.sign((rows.targets - found.scores)[outside])).all()


def test_the_same_seed_gives_the_same_bits() -> None:
    rows = made_up(7)
    one, other = fit_tube(rows, O2P, 1e-4, seed=3), fit_tube(rows, O2P, 1e-4, seed=3)
    assert np.array_equal(one.w, other.w) and np.array_equal(one.scores, other.scores)


def test_targets_that_are_all_in_the_tube_make_weights_of_0() -> None:
    rows = made_up(8)
    flat = TubeRows(rows.values, rows.slots, rows.norms, SCALE, np.full(150, 0.1), rows.counts)
    found = fit_tube(flat, O2P, 1e-4, seed=0)
    assert found.converged and not found.w.any() and found.iterations == 0


@pytest.mark.parametrize("fit", [lambda rows: fit_tube(rows, O2P, 1e-4, 0), lambda r: fit_liblinear_tube(r, O2P, 1, 0)])
def test_no_row_is_refused(fit: Any) -> None:
    none = np.zeros(0)
    with pytest.raises(ValueError, match="at least one row"):
        fit(TubeRows(np.zeros((2, 3), np.float16), np.zeros(0, np.int64), none, 1.0, none, none))


def test_the_objective_is_what_liblinear_prints(capfd: pytest.CaptureFixture[str]) -> None:
    """It prints the dual's objective, which at the optimum is the primal's, negated."""
    rows = made_up(9, dtype=np.float32)
    liblinearutil.train(rows.targets, sparse.csr_matrix(dense(rows)), "-s 12 -c 3 -p 0.25 -e 1e-8 -B -1")
    dual = float(re.findall(r"Objective value = (\S+)", capfd.readouterr().out)[0])
    assert value(rows, O2P, fit_tube(rows, O2P, 1e-7, seed=0).w) == pytest.approx(-dual, rel=1e-4)
