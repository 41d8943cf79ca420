"""The dual solver against liblinear and scikit-learn at tight tolerances, its gap and its optimality conditions."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from stages.svm import dual
from stages.svm.dual import Start, fit_dual, from_scratch
from stages.svm.liblinear import fit_liblinear
from stages.svm.problem import DualSolution, SvmProblem
from stages.svm.rows import Rows, squared_norms
from stages.svm.settings import SvmSettings

TIGHT = SvmSettings(C=0.01, gap=1e-5, tolerance=1e-6)
PROBLEM = SvmProblem.of(TIGHT)


def problem(seed: int = 0, n: int = 150, d: int = 25, dtype: type = np.float16) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives that overlap, some values negative, some rows alike."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(n, d)) + rng.normal(size=d), -0.3)
    x[: n // 4, :3] += 0.7
    x[-3:] = x[-6:-3]
    return x[: n // 4].astype(dtype), x[n // 4 :].astype(dtype)


def rows_of(positives: np.ndarray, negatives: np.ndarray, scale: float = 1.0) -> Rows:
    norms = squared_norms(np.concatenate([positives, negatives]))
    return Rows(positives, negatives, np.arange(len(negatives)), norms, scale)


def solve(
    positives: np.ndarray, negatives: np.ndarray, options: SvmSettings = TIGHT, scale: float = 1.0
) -> DualSolution:
    rows = rows_of(positives, negatives, scale)
    return fit_dual(rows, from_scratch(rows), SvmProblem.of(options), options.gap, seed=0)


def primal(
    w: np.ndarray, b: float, positives: np.ndarray, negatives: np.ndarray, scale: float, options: SvmSettings
) -> float:
    xp, xn = positives.astype(np.float64) * scale, negatives.astype(np.float64) * scale
    return SvmProblem.of(options).objective(w, b, xp @ w + b, xn @ w + b).total


ROUNDED = 5e-5  # what float32 scores may cost, of the objective
problems = st.tuples(
    st.integers(0, 10**6), st.integers(8, 250), st.integers(1, 60), st.sampled_from([np.float16, np.float32])
)


@example(drawn=(0, 162, 3, np.float16), scale=2.0, c=0.1, weight=7.0, bias=0.1)
@example(drawn=(1434, 159, 41, np.float16), scale=4.0, c=0.1, weight=7.0, bias=0.1)  # a gap of .0056 is left
@example(drawn=(2539, 8, 40, np.float16), scale=6.0, c=0.1, weight=7.0, bias=0.1)
@example(drawn=(2537, 8, 40, np.float16), scale=6.0, c=0.1, weight=7.0, bias=10.0)
@example(drawn=(491, 8, 40, np.float16), scale=6.0, c=0.1, weight=7.0, bias=0.1)
@example(drawn=(203, 203, 1, np.float32), scale=5.247630859638712, c=0.1, weight=7.0, bias=10.0)
@settings(deadline=None, max_examples=60)
@given(
    problems,
    st.floats(0.3, 8),
    st.sampled_from([1e-4, 1e-3, 1e-2, 0.1]),
    st.sampled_from([0.5, 2.0, 7.0]),
    st.sampled_from([0.1, 10.0]),
)
def test_objective_is_liblinears_and_scikit_learns(
    drawn: tuple[int, int, int, type], scale: float, c: float, weight: float, bias: float
) -> None:
    positives, negatives = problem(*drawn)
    options = SvmSettings(C=c, positive_weight=weight, bias=bias, gap=1e-5, tolerance=1e-6)
    ours = solve(positives, negatives, options, scale)
    assert ours.converged == (ours.gap <= 1e-5)  # tiny dimensions and biases may take longer than it tries
    value = primal(ours.w, ours.b, positives, negatives, scale, options)
    liblinear = fit_liblinear(rows_of(positives, negatives, scale), SvmProblem.of(options), options.tolerance, seed=0)
    theirs = primal(liblinear.w, liblinear.b, positives, negatives, scale, options)
    # the gap bounds what any other could gain; scores are float32, and where rows are few or have one feature they all
    # round the same way
    assert (1 - ours.gap) * value <= theirs + ROUNDED * value
    if liblinear.converged:
        assert value == pytest.approx(theirs, rel=2e-4 + ours.gap)
    x = np.concatenate([positives, negatives]).astype(np.float64) * scale
    svc = LinearSVC(
        loss="hinge", C=c, class_weight={1: weight, -1: 1}, intercept_scaling=bias, tol=1e-6, max_iter=10**5,
        random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():  # it may run out of iterations; what it has found by then must still be no better
        warnings.simplefilter("ignore", ConvergenceWarning)
        svc.fit(x, [1] * len(positives) + [-1] * len(negatives))
    theirs = primal(svc.coef_[0], float(svc.intercept_[0]), positives, negatives, scale, options)
    assert (1 - ours.gap) * value <= theirs * (1 + ROUNDED)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_gap_is_that_of_primal_and_dual(gap: float, dtype: type) -> None:
    positives, negatives = problem(1, n=400, d=40, dtype=dtype)
    scale, options = 3.0, SvmSettings(C=0.01, gap=gap)
    found = solve(positives, negatives, options, scale)
    x = np.concatenate([positives, negatives]).astype(np.float64) * scale
    y = np.where(np.arange(len(x)) < len(positives), 1.0, -1.0)
    a = found.multipliers
    np.testing.assert_allclose(found.w, (a * y) @ x, rtol=1e-9, atol=1e-12)
    assert found.b == pytest.approx(options.bias**2 * (a @ y))
    lower = a.sum() - 0.5 * (found.w @ found.w + (found.b / options.bias) ** 2)
    upper = primal(found.w, found.b, positives, negatives, scale, options)
    assert 0 <= found.gap <= gap and found.converged
    assert found.gap == pytest.approx((upper - lower) / upper, rel=0.01, abs=2e-7)
    np.testing.assert_allclose(found.scores, x @ found.w + found.b, atol=1e-4)


def test_optimality_conditions() -> None:
    positives, negatives = problem(2, n=300)
    options = SvmSettings(C=0.01, gap=1e-6)
    found = solve(positives, negatives, options)
    p = len(positives)
    upper = np.full(len(found.multipliers), options.C)
    upper[:p] *= options.positive_weight
    margins = np.where(np.arange(len(upper)) < p, 1, -1) * found.scores
    a, near = found.multipliers, 5e-3
    assert (a >= 0).all() and (a <= upper).all()
    assert (margins[a == 0] >= 1 - near).all() and (margins[a == upper] <= 1 + near).all()
    free = (a > 0) & (a < upper)
    assert free.any() and (a == 0).any() and (a == upper).any()
    np.testing.assert_allclose(margins[free], 1, atol=near)


def test_warm_start_reaches_what_a_cold_one_does() -> None:
    positives, negatives = problem(3, n=600, d=60)
    first, few = solve(positives, negatives[:200]), slice(150, None)  # rows are dropped, and some of them count
    p = len(positives)
    assert (first.multipliers[p : p + 150] > 0).any()
    known = first.scores[p + 150 :]
    start = Start(
        np.concatenate([first.multipliers[:p], first.multipliers[p + 150 :], np.zeros(len(negatives) - 200)]),
        np.concatenate([first.scores[:p], known, negatives[200:].astype(np.float64) @ first.w + first.b]),
        np.zeros(p + len(negatives) - 150),
        first.w,
        first.b,
    )
    warm = fit_dual(rows_of(positives, negatives[few]), start, PROBLEM, TIGHT.gap, seed=0)
    cold = solve(positives, negatives[few])
    values = [primal(f.w, f.b, positives, negatives[few], 1.0, TIGHT) for f in (warm, cold)]
    assert values[0] == pytest.approx(values[1], rel=2 * TIGHT.gap)
    assert warm.converged and cold.converged


def test_scores_of_the_start_are_used_only_if_they_are_of_its_weights() -> None:
    positives, negatives = problem(4)
    rows, done = rows_of(positives, negatives), solve(positives, negatives)
    again = fit_dual(
        rows, Start(done.multipliers, done.scores, done.staleness, done.w, done.b), PROBLEM, TIGHT.gap, seed=0
    )
    assert again.iterations == 0 and np.array_equal(again.multipliers, done.multipliers)
    # scores by other weights than the multipliers make, as after rows with a multiplier were dropped
    zeros = np.zeros(len(done.scores))
    misled = fit_dual(rows, Start(done.multipliers, zeros, zeros, 0 * done.w, 0.0), PROBLEM, TIGHT.gap, seed=0)
    assert misled.iterations == 0
    np.testing.assert_allclose(misled.scores, done.scores)


@pytest.mark.parametrize("part", ["w", "b"])
def test_weights_a_little_off_the_multipliers_are_told_apart(part: str) -> None:
    """By 1e-4 of their length, as when one row of little weight was dropped: the scores are wrong by far more."""
    positives, negatives = problem(4)
    rows, done = rows_of(positives, negatives), solve(positives, negatives)
    off = 1e-4 * np.sqrt(done.w @ done.w + (done.b / TIGHT.bias) ** 2)
    w = done.w + off / np.sqrt(len(done.w)) if part == "w" else done.w
    b = done.b if part == "w" else float(done.b + off * TIGHT.bias)
    wrong = done.scores + 0.5
    misled = fit_dual(rows, Start(done.multipliers, wrong, 0 * wrong, w, b), PROBLEM, TIGHT.gap, seed=0)
    np.testing.assert_allclose(misled.scores, done.scores, atol=1e-5)
    assert misled.gap == pytest.approx(done.gap, rel=0.1)


def test_multipliers_beyond_their_bounds_are_brought_back() -> None:
    positives, negatives = problem(3, n=300)
    more = solve(positives, negatives, TIGHT.model_copy(update={"C": 0.05}))
    assert (more.multipliers > TIGHT.C * TIGHT.positive_weight).any()
    start = Start(more.multipliers, more.scores, more.staleness, more.w, more.b)
    found = fit_dual(rows_of(positives, negatives), start, PROBLEM, TIGHT.gap, seed=0)
    upper = np.where(np.arange(len(found.multipliers)) < len(positives), TIGHT.positive_weight, 1) * TIGHT.C
    assert (found.multipliers <= upper).all()
    best = primal(found.w, found.b, positives, negatives, 1.0, TIGHT)
    cold = solve(positives, negatives)
    assert best == pytest.approx(primal(cold.w, cold.b, positives, negatives, 1.0, TIGHT), rel=2 * TIGHT.gap)


def test_a_score_of_earlier_weights_is_trusted_no_further_than_they_have_travelled() -> None:
    """Negatives that cost nothing yet, last seen when they were far easier, as far as they can have been."""
    positives, negatives = problem(8, n=900, d=60)
    rows, done = rows_of(positives, negatives), solve(positives, negatives)
    slack = np.where(np.arange(len(done.scores)) < len(positives), 0, 1 + done.scores)
    idle = (done.multipliers == 0) & (slack < -0.02)
    scores, stale = done.scores - 500 * idle, idle * 0.999 * (500 - slack) / np.sqrt(rows.norms + TIGHT.bias**2)
    options = TIGHT.model_copy(update={"C": 0.05})
    start = Start(done.multipliers, scores, stale, done.w, done.b)
    found = fit_dual(rows, start, SvmProblem.of(options), options.gap, seed=0)
    cold = solve(positives, negatives, options)
    assert (cold.multipliers[idle] > 0).sum() > 3 and found.converged
    values = [primal(f.w, f.b, positives, negatives, 1.0, options) for f in (found, cold)]
    assert values[0] == pytest.approx(values[1], rel=2 * TIGHT.gap)
    np.testing.assert_allclose(found.scores, np.concatenate([positives, negatives]) @ found.w + found.b, atol=1e-4)


def test_a_threshold_leaves_only_scores_that_it_does_not_need() -> None:
    positives, negatives = problem(8, n=900, d=60)
    rows, threshold = rows_of(positives, negatives), -1.2
    x = np.concatenate([positives, negatives]).astype(np.float64)
    lengths = np.sqrt((x**2).sum(axis=1) + TIGHT.bias**2)
    start, left = from_scratch(rows), 0
    for c in (0.01, 0.012, 0.015, 0.02):  # each fit on what the last one left
        options = TIGHT.model_copy(update={"C": c})
        costlier = SvmProblem.of(options)
        found, exact = (fit_dual(rows, start, costlier, TIGHT.gap, seed=0, threshold=t) for t in (threshold, None))
        true = x @ found.w + found.b
        assert found.converged and np.array_equal(found.w, exact.w) and not exact.staleness.any()
        assert (np.abs(found.scores - true) <= found.staleness * lengths + 1e-4).all()
        stale = found.staleness > 0
        assert (found.multipliers[stale] == 0).all() and (true[stale] < -1).all() and not stale[: len(positives)].any()
        assert np.array_equal(found.scores < threshold, exact.scores < threshold)
        left += stale.sum()
        start = Start(found.multipliers, found.scores, found.staleness, found.w, found.b)
    assert left > 100


def test_bits_depend_on_rows_order_and_seed_and_not_on_where_rows_lie() -> None:
    positives, negatives = problem(5, n=400)
    rows = rows_of(positives, negatives)
    place = np.random.default_rng(0).permutation(500)[: len(negatives)]
    values = np.full((500, negatives.shape[1]), 9, negatives.dtype)
    values[place] = negatives
    elsewhere = Rows(positives, values, place, rows.norms, 1.0)
    one, two, other = (
        fit_dual(r, from_scratch(r), PROBLEM, TIGHT.gap, seed) for r, seed in ((rows, 0), (elsewhere, 0), (rows, 1))
    )
    assert np.array_equal(one.w, two.w) and np.array_equal(one.scores, two.scores) and one.b == two.b
    assert not np.array_equal(one.w, other.w)


def test_two_points_in_closed_form() -> None:
    options = SvmSettings(C=10, positive_weight=1, gap=1e-6)
    found = solve(np.array([[1.0]], np.float32), np.array([[-1.0]], np.float32), options)
    assert found.w[0] == pytest.approx(1, abs=1e-3)
    assert found.b == pytest.approx(0, abs=1e-3)


def test_giving_up_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual, "MAX_EPOCHS", 3)
    found = solve(*problem(6), SvmSettings(C=10, gap=1e-6))
    assert not found.converged and found.gap > 1e-6 and found.iterations >= 3


def test_rows_of_zeros_and_one_sided_problems() -> None:
    positives, negatives = problem(7)
    negatives[5] = 0
    assert solve(positives, negatives).converged
    with pytest.raises(ValueError, match="one positive and one negative"):
        solve(positives, negatives[:0])
    with pytest.raises(ValueError, match="one positive and one negative"):
        solve(positives[:0], negatives)
