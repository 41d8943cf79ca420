"""Ridge regression onto whitened box transforms, by a Cholesky factorisation as the authors' or by iteration.

Both solve (X'X + lambda I) W = X'Y, for rows X [n, d] and four targets Y [n, 4]. Which is faster and needs less memory
depends on n and d.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from .gram import add_combinations, add_gram_product, add_projections

DECORRELATION_EPS = 0.001  # added to the covariance's eigenvalues (rcnn_train_bbox_regressor.m)

F64 = NDArray[np.float64]


class Whitening(NamedTuple):
    """An invertible map to uncorrelated targets: whitened = (targets - mean) @ transform.

    ``mean`` is float64 [4], ``transform`` and its inverse are float64 [4, 4].
    """

    mean: F64
    transform: F64
    inverse: F64


def decorrelate(targets: F64) -> Whitening:
    """Find the whitening of targets, float64 [n, 4].

    With S = Y'Y / n = V D V' of the centred targets, the transform is V (D + .001)^-1/2 V' and its inverse
    V (D + .001)^1/2 V'.
    """
    mean = targets.mean(axis=0)
    centred = targets - mean
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(targets))
    root = np.sqrt(np.maximum(eigenvalues, 0) + DECORRELATION_EPS)
    return Whitening(mean, (vectors / root) @ vectors.T, (vectors * root) @ vectors.T)


class PrimalRidge:
    """Ridge regression that accumulates X'X and X'Y in float64 and factorises; for many more rows than features."""

    BATCH = 2048  # rows per rank-k update: few, so that the buffer is small beside X'X, many, so that BLAS is fast

    def __init__(self, n_features: int) -> None:
        # Fortran order and one triangle: dsyrk then updates in place, at half the arithmetic
        self._gram = np.zeros((n_features, n_features), order="F")
        self._xty = np.zeros((n_features, 4))
        self._yty = np.zeros((4, 4))
        self._rows: list[NDArray[Any]] = []

    @staticmethod
    def n_bytes(n_features: int) -> int:
        """Return the memory at the peak, in bytes: X'X twice (the factorisation needs a copy) and some float64 rows."""
        return 16 * n_features**2 + 8 * PrimalRidge.BATCH * n_features

    def add(self, x: NDArray[Any], y: F64) -> None:
        """Add rows x [k, d] with whitened targets y [k, 4]."""
        x = np.asarray(x, np.float64)
        self._xty += x.T @ y
        self._yty += y.T @ y
        self._rows.append(x)
        if sum(map(len, self._rows)) >= self.BATCH:
            self._flush()

    def solve(self, ridge_lambda: float) -> tuple[F64, F64]:
        """Solve for all rows added; return W [d, 4] and the residuals' products (Y - XW)'(Y - XW) [4, 4]."""
        self._flush()
        system = self._gram.copy(order="F")
        system.flat[:: len(system) + 1] += ridge_lambda
        factor = scipy.linalg.cho_factor(system, lower=False, overwrite_a=True, check_finite=False)
        w = scipy.linalg.cho_solve(factor, self._xty, check_finite=False)
        # (X'X + lambda I) W = X'Y gives W'X'XW = W'X'Y - lambda W'W
        cross = w.T @ self._xty
        return w, self._yty - cross.T - ridge_lambda * (w.T @ w)

    def _flush(self) -> None:
        if self._rows:
            x = np.concatenate(self._rows)
            self._gram = scipy.linalg.blas.dsyrk(1.0, x.T, beta=1.0, c=self._gram, overwrite_c=1)
            self._rows = []


class RowsRidge:
    """Ridge regression that keeps the rows and iterates by conjugate gradients; for up to 4d rows or so.

    X'X is never formed, and all four targets share one search space (O'Leary's block form). The rows of a class are
    jittered views of few objects, so that X'X has few large eigenvalues and lambda bounds the others from below
    (measured: 22 to 57 steps on features of photographs, 32 on those of benchmarks/bench_ridge, each one pass over the
    rows). It stops at a residual of 1e-8 of X'Y's norm; the solution is then 2.4e-8 from the true one (measured there),
    as near as storing it in float32 leaves it (2.5e-8). What takes more than 300 steps (a tiny lambda) is factorised
    after all.
    """

    _STEPS, _TOLERANCE = 300, 1e-8

    def __init__(self, n_rows: int, n_features: int) -> None:
        self._n_features = n_features
        self._x = np.empty((n_rows, _padded(n_features)), np.float32)  # not zeros, which come in small pages
        self._x[:, n_features:] = 0
        self._y = np.empty((n_rows, 4))
        self._filled = 0

    @staticmethod
    def n_bytes(n_rows: int, n_features: int) -> int:
        """Return the memory at the peak, in bytes, but for a factorisation: the rows in float32 and some vectors."""
        return _padded(n_features) * (4 * n_rows + 8 * 40)

    def add(self, x: NDArray[np.float32], y: F64) -> None:
        """Add rows x [k, d] with whitened targets y [k, 4]."""
        part = slice(self._filled, self._filled + len(x))
        self._x[part, : self._n_features], self._y[part] = x, y
        self._filled += len(x)

    def solve(self, ridge_lambda: float) -> tuple[F64, F64]:
        """Solve for all rows added; return W [d, 4] and the residuals' products (Y - XW)'(Y - XW) [4, 4]."""
        w = self._iterate(ridge_lambda)
        if w is None:
            direct = PrimalRidge(self._n_features)
            for begin in range(0, len(self._x), PrimalRidge.BATCH):
                part = slice(begin, begin + PrimalRidge.BATCH)
                direct.add(self._x[part, : self._n_features], self._y[part])
            return direct.solve(ridge_lambda)
        errors = self._y.copy()
        add_projections(self._x, -w, errors)
        return w[:, : self._n_features].T, errors.T @ errors

    def _iterate(self, ridge_lambda: float) -> F64 | None:
        """Return W' [4, d], a row per target, or None where it does not converge."""
        w = np.zeros((4, self._x.shape[1]))
        residual = np.zeros_like(w)  # (X'Y - (X'X + lambda I) W)'
        add_combinations(self._x, self._y, residual)
        goal = self._TOLERANCE * np.linalg.norm(residual, axis=1)
        direction = _orthonormal(residual)  # well conditioned also where a target has converged
        for _ in range(self._STEPS):
            if (np.linalg.norm(residual, axis=1) <= goal).all():
                return w
            product = ridge_lambda * direction  # of (X'X + lambda I) with each direction
            add_gram_product(self._x, direction, product)
            curvature = direction @ product.T
            step = np.linalg.solve(curvature, direction @ residual.T).T
            w += step @ direction
            residual -= step @ product
            direction = _orthonormal(residual - np.linalg.solve(curvature, product @ residual.T).T @ direction)
        return None


def _padded(n_features: int) -> int:
    """Return n_features rounded up to 16: rows then begin on 64-byte boundaries, and four search directions exist."""
    return -(-n_features // 16) * 16


def _orthonormal(rows: F64) -> F64:
    """Return an orthonormal basis of the rows' span, [4, d], made up with others where the rows are dependent."""
    return np.ascontiguousarray(np.linalg.qr(rows.T)[0].T)
