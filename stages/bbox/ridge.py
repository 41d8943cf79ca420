"""Ridge regression of whitened box transforms: the authors' solution, by their Cholesky form or iteratively."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg
from numba import njit
from numpy.typing import NDArray

DECORRELATION_EPS = 0.001  # added to the covariance's eigenvalues (rcnn_train_bbox_regressor.m)

_COLUMNS = 512  # of some vectors at a time, so that they stay in the innermost cache

F64 = NDArray[np.float64]


def decorrelate(targets: F64) -> tuple[F64, F64, F64]:
    """Centre and whiten targets [n, 4] -> (mean [4], T [4, 4], T_inv [4, 4]); whitened = (targets - mean) @ T.

    With S = Y'Y / n = V D V' of the centred targets, T = V (D + .001)^-1/2 V' and T_inv = V (D + .001)^1/2 V'.
    """
    mean = targets.mean(axis=0)
    centred = targets - mean
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(targets))
    root = np.sqrt(np.maximum(eigenvalues, 0) + DECORRELATION_EPS)
    return mean, (vectors / root) @ vectors.T, (vectors * root) @ vectors.T


class PrimalRidge:
    """Accumulates X'X and X'Y in float64; solves (X'X + lambda I) W = X'Y. For many more rows than features."""

    _BATCH = 2048  # rows per rank-k update: few, so that the buffer is small beside X'X, many, so that BLAS is fast

    def __init__(self, n_features: int) -> None:
        # Fortran order and one triangle: dsyrk then updates in place, at half the arithmetic
        self._gram = np.zeros((n_features, n_features), order="F")
        self._xty = np.zeros((n_features, 4))
        self._yty = np.zeros((4, 4))
        self._rows: list[NDArray[Any]] = []

    @staticmethod
    def n_bytes(n_features: int) -> int:
        """Bytes at the peak: X'X twice (the factorisation needs a copy) and a buffer of rows in float64."""
        return 16 * n_features**2 + 8 * PrimalRidge._BATCH * n_features

    def add(self, x: NDArray[Any], y: F64) -> None:
        """Rows x [k, d], whitened targets y [k, 4]."""
        x = np.asarray(x, np.float64)
        self._xty += x.T @ y
        self._yty += y.T @ y
        self._rows.append(x)
        if sum(map(len, self._rows)) >= self._BATCH:
            self._flush()

    def solve(self, ridge_lambda: float) -> tuple[F64, F64]:
        """(W [d, 4], residual covariance sum (Y - XW)'(Y - XW) [4, 4])."""
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
    """Keeps the rows; solves the same system by conjugate gradients, which never form X'X. For up to 4d rows or so.

    All four targets share one search space (O'Leary's block form). The rows of a class are jittered views of few
    objects, so that X'X has few large eigenvalues and lambda bounds the others from below: [M] 22 to 57 steps on
    features of photographs, each two passes over the rows. Stops at a residual of 1e-9 of X'Y's norm; where
    that takes more than 300 steps (a tiny lambda), the system is factorised after all.
    """

    _STEPS, _TOLERANCE = 300, 1e-9
    _BATCH = 32  # rows at a time: they stay in the cache for both products

    def __init__(self, n_rows: int, n_features: int) -> None:
        self._x = np.empty((n_rows, n_features), np.float32)
        self._y = np.empty((n_rows, 4))
        self._filled = 0

    @staticmethod
    def n_bytes(n_rows: int, n_features: int) -> int:
        """Bytes at the peak (but for a factorisation): the rows in float32 and some vectors."""
        return 4 * n_rows * n_features + 8 * 32 * n_features

    def add(self, x: NDArray[np.float32], y: F64) -> None:
        """Rows x [k, d], whitened targets y [k, 4]."""
        part = slice(self._filled, self._filled + len(x))
        self._x[part], self._y[part] = x, y
        self._filled += len(x)

    def solve(self, ridge_lambda: float) -> tuple[F64, F64]:
        """(W [d, 4], residual covariance sum (Y - XW)'(Y - XW) [4, 4])."""
        w = self._iterate(ridge_lambda)
        if w is None:
            direct = PrimalRidge(self._x.shape[1])
            for part in self._parts():
                direct.add(self._x[part], self._y[part])
            return direct.solve(ridge_lambda)
        covariance = np.zeros((4, 4))
        for part in self._parts():
            residual = self._y[part] - _project(self._x[part], w)
            covariance += residual.T @ residual
        return w.T, covariance

    def _iterate(self, ridge_lambda: float) -> F64 | None:
        """W', or None where it does not converge. A row each: the targets, and what is searched."""
        if self._x.shape[1] < 4:
            return None  # no four directions to search
        residual = np.zeros((4, self._x.shape[1]))  # (X'Y - (X'X + lambda I) W)'
        for part in self._parts():
            _spread(self._x[part], self._y[part], residual)
        w = np.zeros_like(residual)
        goal = self._TOLERANCE * np.linalg.norm(residual, axis=1)
        direction = _orthonormal(residual)  # well conditioned also where a target has converged
        for _ in range(self._STEPS):
            if (np.linalg.norm(residual, axis=1) <= goal).all():
                return w
            image = ridge_lambda * direction
            for part in self._parts():
                _spread(self._x[part], _project(self._x[part], direction), image)
            curvature = direction @ image.T
            w += np.linalg.solve(curvature, direction @ residual.T).T @ direction
            residual -= np.linalg.solve(curvature, direction @ residual.T).T @ image
            direction = _orthonormal(residual - np.linalg.solve(curvature, image @ residual.T).T @ direction)
        return None

    def _parts(self) -> Iterator[slice]:
        return (slice(begin, begin + self._BATCH) for begin in range(0, len(self._x), self._BATCH))


def _orthonormal(rows: F64) -> F64:
    """An orthonormal basis of the rows' span, and of more where they depend on each other: [4, d] -> [4, d]."""
    return np.ascontiguousarray(np.linalg.qr(rows.T)[0].T)


@njit(cache=True, nogil=True)
def _project(x: Any, vectors: Any) -> Any:
    """x float32 [k, d] times vectors float64 [4, d]: float64 [k, 4], added up in float64."""
    out = np.zeros((len(x), 4))
    for begin in range(0, x.shape[1], _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        for i in range(len(x)):
            _dot(x[i, part], vectors[0, part], vectors[1, part], vectors[2, part], vectors[3, part], out[i])
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _dot(x: Any, a: Any, b: Any, c: Any, d: Any, out: Any) -> None:
    """Add x's products with four vectors to out [4]; fastmath lets the sums be vectorised."""
    with_a, with_b, with_c, with_d = 0.0, 0.0, 0.0, 0.0
    for j in range(len(x)):
        value = np.float64(x[j])
        with_a += value * a[j]
        with_b += value * b[j]
        with_c += value * c[j]
        with_d += value * d[j]
    out[0] += with_a
    out[1] += with_b
    out[2] += with_c
    out[3] += with_d


@njit(cache=True, nogil=True)
def _spread(x: Any, factors: Any, out: Any) -> None:
    """Add factors float64 [k, 4], transposed, times x float32 [k, d] to out float64 [4, d]; four rows at a time."""
    whole = len(x) // 4 * 4
    for begin in range(0, x.shape[1], _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        for i in range(0, whole, 4):
            for m in range(4):
                _add(x[i, part], x[i + 1, part], x[i + 2, part], x[i + 3, part], factors[i : i + 4, m], out[m, part])
        for i in range(whole, len(x)):
            for m in range(4):
                for j in range(begin, min(begin + _COLUMNS, x.shape[1])):
                    out[m, j] += np.float64(x[i, j]) * factors[i, m]


@njit(cache=True, nogil=True, fastmath=True)
def _add(a: Any, b: Any, c: Any, d: Any, factors: Any, out: Any) -> None:
    """Add four rows times their factors [4] to out."""
    for_a, for_b, for_c, for_d = factors[0], factors[1], factors[2], factors[3]
    for j in range(len(out)):
        out[j] += a[j] * for_a + b[j] * for_b + c[j] * for_c + d[j] * for_d
