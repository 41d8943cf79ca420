"""The solver liblinear against its own wrapper and scikit-learn."""

import re

import numpy as np
import pytest
from liblinear import liblinearutil
from scipy import sparse
from sklearn.svm import LinearSVC

from stages.svm.liblinear import fit, node_count
from stages.svm.records import objective
from stages.svm.settings import SvmSettings

TIGHT = SvmSettings(C=0.01, tolerance=1e-6)


def _rows(seed: int = 0, n: int = 120, d: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Sparse float16 positives and negatives that overlap."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(n, d)), 0).astype(np.float16)
    shift = np.zeros(d, np.float16)
    shift[:3] = 0.5
    return x[: n // 3] + shift * (x[: n // 3] > 0), x[n // 3 :]


def _value(w, b, positives, negatives, scale, settings):
    xp, xn = positives.astype(np.float64) * scale, negatives.astype(np.float64) * scale
    return objective(w, b, xp @ w + b, xn @ w + b, settings).total


def test_same_bits_as_liblinears_wrapper() -> None:
    positives, negatives = _rows()
    settings = SvmSettings()
    scale = 3.0
    ours = fit([positives], [negatives[:30], negatives[30:]], scale, settings, seed=5)
    x = np.concatenate([positives, negatives]).astype(np.float32) * np.float32(scale)
    y = np.array([1.0] * len(positives) + [-1.0] * len(negatives))
    import ctypes

    ctypes.CDLL(None).srand(5)
    theirs = liblinearutil.train(y, sparse.csr_matrix(x.astype(np.float64)), "-s 3 -c 0.001 -w1 2 -B 10 -e 0.1 -q")
    w, b = theirs.get_decfun()
    assert np.array_equal(ours.w, w)
    assert ours.b == 10 * (b / 10)
    assert ours.converged and ours.iterations > 0


def test_objective_is_what_liblinear_prints(capfd) -> None:
    """It prints the dual's objective, which at the optimum is the primal's, negated."""
    positives, negatives = _rows(6)
    x, y = np.concatenate([positives, negatives]).astype(np.float64), [1.0] * len(positives) + [-1.0] * len(negatives)
    liblinearutil.train(y, sparse.csr_matrix(x), "-s 3 -c 0.01 -w1 2 -B 10 -e 1e-6")
    dual = float(re.search(r"Objective value = (\S+)", capfd.readouterr().out)[1])
    ours = fit([positives], [negatives], 1.0, TIGHT, seed=0)
    assert _value(ours.w, ours.b, positives, negatives, 1.0, TIGHT) == pytest.approx(-dual, rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_objective_is_scikit_learns(scale: float) -> None:
    positives, negatives = _rows(1)
    ours = fit([positives], [negatives], scale, TIGHT, seed=0)
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
    ours = fit([positives], [negatives], 1.0, TIGHT, seed=0)
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
    ours = fit([np.array([[1.0]], np.float32)], [np.array([[-1.0]], np.float32)], 1.0, settings, seed=0)
    assert ours.w[0] == pytest.approx(1, abs=1e-3)
    assert ours.b == pytest.approx(0, abs=1e-3)


def test_seed_alone_decides_the_bits() -> None:
    positives, negatives = _rows(3, n=400)
    settings = SvmSettings(C=1.0)
    first, again, other = (fit([positives], [negatives], 1.0, settings, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.w, again.w) and first.b == again.b
    assert not np.array_equal(first.w, other.w)


def test_running_out_of_iterations_is_reported() -> None:
    positives, negatives = _rows(4)
    result = fit([positives], [negatives], 1.0, SvmSettings(C=1000, tolerance=1e-9), seed=0)
    assert not result.converged
    assert result.iterations >= 300


def test_blocks_without_rows_and_rows_without_values() -> None:
    positives, negatives = _rows(5)
    negatives[3] = 0
    empty = np.zeros((0, positives.shape[1]), np.float16)
    a = fit([positives, empty], [empty, negatives[:1], negatives[1:]], 2.0, SvmSettings(), seed=0)
    b = fit([positives], [negatives], 2.0, SvmSettings(), seed=0)
    assert np.array_equal(a.w, b.w)
    assert node_count(negatives)[3] == 2


def test_one_sided_problems_are_refused() -> None:
    positives, _ = _rows()
    with pytest.raises(ValueError, match="one positive and one negative"):
        fit([positives], [], 1.0, SvmSettings(), seed=0)
