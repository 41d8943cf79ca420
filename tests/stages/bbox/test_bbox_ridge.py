"""Ridge regression and decorrelation against scikit-learn and their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from stages.bbox.ridge import DualRidge, PrimalRidge, decorrelate


def data(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=(n, d)), np.ones((n, 1))], axis=1)
    return x, x[:, :4] @ rng.normal(size=(4, 4)) + rng.normal(size=(n, 4))


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 50), (2100, 5)])
@pytest.mark.parametrize("ridge_lambda", [0.1, 1000.0])
def test_both_forms_are_scikit_learns(n: int, d: int, ridge_lambda: float) -> None:
    x, y = data(n, d)
    expected = Ridge(alpha=ridge_lambda, fit_intercept=False, solver="cholesky").fit(x, y).coef_.T
    residual = y - x @ expected
    for solver in (PrimalRidge(d + 1), DualRidge()):
        for rows in np.array_split(np.arange(n), 5):
            solver.add(x[rows], y[rows])
        w, covariance = solver.solve(ridge_lambda)
        np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(covariance, residual.T @ residual, rtol=1e-6, atol=1e-8)


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
