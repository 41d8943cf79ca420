"""Ridge regression and decorrelation against scikit-learn and their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from stages.bbox.gram import add_combinations, add_gram_product, add_projections
from stages.bbox.ridge import PrimalRidge, RowsRidge, decorrelate


def data(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=(n, d)).astype(np.float32), np.ones((n, 1))], axis=1)  # of float32 numbers
    return x, x[:, :4] @ rng.normal(size=(4, 4)) + rng.normal(size=(n, 4))


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 50), (2100, 5)])
@pytest.mark.parametrize("ridge_lambda", [0.1, 1000.0])
def test_both_forms_are_scikit_learns(n: int, d: int, ridge_lambda: float) -> None:
    x, y = data(n, d)
    expected = Ridge(alpha=ridge_lambda, fit_intercept=False, solver="cholesky").fit(x, y).coef_.T
    residual = y - x @ expected
    for solver in (PrimalRidge(d + 1), RowsRidge(n, d + 1)):
        for rows in np.array_split(np.arange(n), 5):
            solver.add(x[rows], y[rows])
        w, covariance = solver.solve(ridge_lambda)
        np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(covariance, residual.T @ residual, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n", [1, 4, 7, 8, 21])
@pytest.mark.parametrize("d", [1, 5, 2048, 4100])
def test_products(n: int, d: int) -> None:
    """Rows that do not come in fours, columns that do not fill registers, more than are taken at a time."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, d)).astype(np.float32)
    vectors, factors, before = rng.normal(size=(4, d)), rng.normal(size=(n, 4)), rng.normal(size=(4, d))
    image, sums, along = before.copy(), before.copy(), factors.copy()
    add_gram_product(x, vectors, image)
    add_combinations(x, factors, sums)
    add_projections(x, vectors, along)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(image, before + vectors @ exact.T @ exact, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(sums, before + factors.T @ exact, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(along, factors + exact @ vectors.T, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("copies", [1, 3])
def test_rows_that_are_alike_and_targets_that_are_equal(copies: int) -> None:
    """Rank 6 of 40 columns, and four times the same target: the search space collapses, the solution does not."""
    rng = np.random.default_rng(3)
    x = np.repeat((rng.normal(size=(30, 6)) @ rng.normal(size=(6, 40))).astype(np.float32), copies, axis=0)
    y = np.repeat(rng.normal(size=(len(x), 1)), 4, axis=1)
    y[:, 3] = 0
    solver = RowsRidge(len(x), 40)
    solver.add(x, y)
    w, _ = solver.solve(1.0)
    expected = Ridge(alpha=1.0, fit_intercept=False, solver="cholesky").fit(x.astype(np.float64), y).coef_.T
    np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-9)


def test_what_does_not_converge_is_factorised(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(60, 20)
    found = []
    for steps in (300, 2):
        monkeypatch.setattr(RowsRidge, "_STEPS", steps)
        solver = RowsRidge(60, 21)
        solver.add(x, y)
        found.append(solver.solve(0.5))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@given(st.integers(1, 40), st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_decorrelation_and_its_inverse(n: int, seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=(n, 4)) @ np.diag([1, 0.1, 0.3, 0.01]) + 0.2
    mean, transform, inverse = decorrelate(y)
    np.testing.assert_allclose(transform @ inverse, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(((y - mean) @ transform) @ inverse + mean, y, atol=1e-9)
    # T'T = (S + 0.001 I)^-1, from the definition T = V (D + .001)^-1/2 V'
    covariance = np.cov(y.T, bias=True) if n > 1 else np.zeros((4, 4))
    np.testing.assert_allclose(
        transform @ transform, np.linalg.inv(covariance + 0.001 * np.eye(4)), rtol=1e-6, atol=1e-6
    )


def test_whitened_targets_are_uncorrelated() -> None:
    _, y = data(500, 6)
    mean, transform, _ = decorrelate(y)
    white = (y - mean) @ transform
    np.testing.assert_allclose(white.T @ white / len(y), np.eye(4), atol=0.02)  # 0.02: the .001 on each eigenvalue
