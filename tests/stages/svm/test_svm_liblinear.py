"""The solver liblinear against its own wrapper and scikit-learn."""

import re

import numpy as np
import pytest
from liblinear import liblinearutil
from scipy import sparse
from sklearn.svm import LinearSVC

from stages.svm.liblinear import fit_liblinear, node_count
from stages.svm.problem import Solution, SvmProblem
from stages.svm.rows import Rows, squared_norms
from stages.svm.settings import SvmSettings

TIGHT = SvmSettings(C=0.01, tolerance=1e-6)


def _rows(seed: int = 0, n: int = 120, d: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Sparse float16 positives and negatives that overlap."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(n, d)), 0).astype(np.float16)
    shift = np.zeros(d, np.float16)
    shift[:3] = 0.5
    return x[: n // 3] + shift * (x[: n // 3] > 0), x[n // 3 :]


def _fit(positives: np.ndarray, negatives: np.ndarray, scale: float, settings: SvmSettings, seed: int = 0) -> Solution:
    norms = squared_norms(np.concatenate([positives, negatives]))
    rows = Rows(positives, negatives, np.arange(len(negatives)), norms, scale)
    return fit_liblinear(rows, SvmProblem.of(settings), settings.tolerance, seed)


def _value(
    w: np.ndarray, b: float, positives: np.ndarray, negatives: np.ndarray, scale: float, settings: SvmSettings
) -> float:
    xp, xn = positives.astype(np.float64) * scale, negatives.astype(np.float64) * scale
    return SvmProblem.of(settings).objective(w, b, xp @ w + b, xn @ w + b).total


def test_same_bits_as_liblinears_wrapper() -> None:
    positives, negatives = _rows()
    settings = SvmSettings()
    scale = 3.0
    ours = _fit(positives, negatives, scale, settings, seed=5)
    x = np.concatenate([positives, negatives]).astype(np.float32) * np.float32(scale)
    y = np.array([1.0] * len(positives) + [-1.0] * len(negatives))
    import ctypes

    ctypes.CDLL(None).srand(5)
    theirs = liblinearutil.train(y, sparse.csr_matrix(x.astype(np.float64)), "-s 3 -c 0.001 -w1 2 -B 10 -e 0.1 -q")
    w, b = theirs.get_decfun()
    assert np.array_equal(ours.w, w)
    assert ours.b == 10 * (b / 10)
    assert ours.converged and ours.iterations > 0


def test_objective_is_what_liblinear_prints(capfd: pytest.CaptureFixture[str]) -> None:
    """It prints the dual's objective, which at the optimum is the primal's, negated."""
    positives, negatives = _rows(6)
    x, y = np.concatenate([positives, negatives]).astype(np.float64), [1.0] * len(positives) + [-1.0] * len(negatives)
    liblinearutil.train(y, sparse.csr_matrix(x), "-s 3 -c 0.01 -w1 2 -B 10 -e 1e-6")
    dual = float(re.findall(r"Objective value = (\S+)", capfd.readouterr().out)[0])
    ours = _fit(positives, negatives, 1.0, TIGHT, seed=0)
    assert _value(ours.w, ours.b, positives, negatives, 1.0, TIGHT) == pytest.approx(-dual, rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_objective_is_scikit_learns(scale: float) -> None:
    positives, negatives = _rows(1)
    ours = _fit(positives, negatives, scale, TIGHT, seed=0)
    sk = LinearSVC(
        loss="hinge",
        C=TIGHT.C,
        class_weight={1: TIGHT.positive_weight, -1: 1.0},
        intercept_scaling=TIGHT.bias,
        tol=1e-6,
        max_iter=100_000,
        random_state=0,
    )
    x = np.concatenate([positives, negatives]).astype(np.float64) * scale
    sk.fit(x, [1] * len(positives) + [-1] * len(negatives))
    value = _value(ours.w, ours.b, positives, negatives, scale, TIGHT)
    theirs = _value(sk.coef_[0], float(sk.intercept_[0]), positives, negatives, scale, TIGHT)
    assert value == pytest.approx(theirs, rel=1e-4)


def test_solution_is_a_minimum() -> None:
    positives, negatives = _rows(2)
    ours = _fit(positives, negatives, 1.0, TIGHT, seed=0)
    best = _value(ours.w, ours.b, positives, negatives, 1.0, TIGHT)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            w = ours.w + size * rng.normal(size=ours.w.shape)
            b = ours.b + size * rng.normal()
            assert _value(w, b, positives, negatives, 1.0, TIGHT) >= best - 1e-5 * best


def test_two_points_in_closed_form() -> None:
    # x = +1 and -1, no way for the bias to help: both points sit on the margin at w = 1 when C allows it
    settings = SvmSettings(C=10, positive_weight=1, tolerance=1e-8)
    ours = _fit(np.array([[1.0]], np.float32), np.array([[-1.0]], np.float32), 1.0, settings, seed=0)
    assert ours.w[0] == pytest.approx(1, abs=1e-3)
    assert ours.b == pytest.approx(0, abs=1e-3)


def test_seed_alone_decides_the_bits() -> None:
    positives, negatives = _rows(3, n=400)
    settings = SvmSettings(C=1.0)
    first, again, other = (_fit(positives, negatives, 1.0, settings, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.w, again.w) and first.b == again.b
    assert not np.array_equal(first.w, other.w)


def test_running_out_of_iterations_is_reported() -> None:
    positives, negatives = _rows(4)
    result = _fit(positives, negatives, 1.0, SvmSettings(C=1000, tolerance=1e-9), seed=0)
    assert not result.converged
    assert result.iterations >= 300


def test_scores_are_those_of_the_weights_in_float32() -> None:
    positives, negatives = _rows(5)
    found = _fit(positives, negatives, 2.0, SvmSettings())
    x = np.concatenate([positives, negatives]).astype(np.float64)
    np.testing.assert_allclose(found.scores, 2 * x @ found.w + found.b, rtol=1e-5, atol=1e-6)
    assert found.scores.dtype == np.float32


def test_rows_are_read_where_they_lie() -> None:
    positives, negatives = _rows(5)
    negatives[3] = 0
    place = np.random.default_rng(0).permutation(200)[: len(negatives)]
    values = np.full((200, negatives.shape[1]), 9, negatives.dtype)
    values[place] = negatives
    rows = Rows(positives, values, place, squared_norms(np.concatenate([positives, negatives])), 2.0)
    elsewhere = fit_liblinear(rows, SvmProblem.of(SvmSettings()), 0.1, seed=0)
    assert np.array_equal(elsewhere.w, _fit(positives, negatives, 2.0, SvmSettings()).w)
    assert node_count(negatives)[3] == 2


def test_one_sided_problems_are_refused() -> None:
    positives, negatives = _rows()
    for one_sided in ((positives, negatives[:0]), (positives[:0], negatives)):
        with pytest.raises(ValueError, match="one positive and one negative"):
            _fit(*one_sided, 1.0, SvmSettings())
