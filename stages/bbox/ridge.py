"""Ridge regression of whitened box transforms, from blocks of rows (the authors' solve_robust / Cholesky form)."""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

DECORRELATION_EPS = 0.001  # added to the covariance's eigenvalues (rcnn_train_bbox_regressor.m)

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
    """Accumulates X'X and X'Y in float64; solves (X'X + lambda I) W = X'Y. For more rows than features."""

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

    def add(self, x: F64, y: F64) -> None:
        """Rows x [k, d], whitened targets y [k, 4]."""
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


class DualRidge:
    """Keeps the rows; solves (XX' + lambda I) A = Y, W = X'A: the same W. For fewer rows than features."""

    def __init__(self) -> None:
        self._x: list[F64] = []
        self._y: list[F64] = []

    @staticmethod
    def n_bytes(n_rows: int, n_features: int) -> int:
        """Bytes at the peak: rows in float64 twice (blocks, then one array), and XX' twice."""
        return 16 * n_rows * (n_features + n_rows)

    def add(self, x: F64, y: F64) -> None:
        """Rows x [k, d], whitened targets y [k, 4]."""
        self._x.append(x)
        self._y.append(y)

    def solve(self, ridge_lambda: float) -> tuple[F64, F64]:
        """(W [d, 4], residual covariance sum (Y - XW)'(Y - XW) [4, 4])."""
        x, y = np.concatenate(self._x), np.concatenate(self._y)
        system = x @ x.T
        system.flat[:: len(system) + 1] += ridge_lambda
        factor = scipy.linalg.cho_factor(system, overwrite_a=True, check_finite=False)
        alpha = scipy.linalg.cho_solve(factor, y, check_finite=False)
        residual = ridge_lambda * alpha  # Y - XX'A = lambda A
        return x.T @ alpha, residual.T @ residual
