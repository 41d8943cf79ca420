"""The rows of a class, read in place as they are stored, and what compiled code does with them.

Here are all of the dual solver's compiled functions, since numba's cache on disk of one does not see a change made to
another in a different module.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.kernels.float16 import as_bits, widen

_MATH = {"reassoc", "contract"}  # lets the compiler sum in vector registers, in one fixed order


@dataclass(frozen=True)
class Rows:
    """The p + n rows of one class, read where they lie: ``positives`` [p, d], then ``values[slots]`` (slots int64 [n]).

    ``norms`` float64 [p + n]: each row's squared length, unscaled (:func:`squared_norms`).
    """

    positives: NDArray[Any]
    values: NDArray[Any]
    slots: NDArray[np.int64]
    norms: NDArray[np.float64]


def squared_norms(rows: NDArray[Any]) -> NDArray[np.float64]:
    """[k, d] as stored -> float64 [k]."""
    out = np.empty(len(rows))
    _norms(as_bits(rows), out)
    return out


def copy_rows(
    source: NDArray[Any], rows: NDArray[np.int64], target: NDArray[Any], slots: NDArray[np.int64]
) -> NDArray[np.float64]:
    """``target[slots] = source[rows]``; float64 [k], the rows' squared lengths. One pass over memory, not three."""
    out = np.empty(len(rows))
    _copy(as_bits(source), rows, as_bits(target), slots, out)
    return out


@njit(cache=True, nogil=True, fastmath=_MATH)
def _square(x: Any) -> float:
    total = np.float32(0)
    for k in range(x.size):
        value = widen(x[k])
        total += value * value
    return float(total)


@njit(cache=True, nogil=True)
def _norms(rows: Any, out: Any) -> None:
    for i in range(rows.shape[0]):
        out[i] = _square(rows[i])


@njit(cache=True, nogil=True, fastmath=_MATH)
def _copy(source: Any, rows: Any, target: Any, slots: Any, norms: Any) -> None:
    for i in range(rows.size):
        row, slot, total = source[rows[i]], target[slots[i]], np.float32(0)
        for k in range(row.size):
            slot[k] = row[k]
            value = widen(row[k])
            total += value * value
        norms[i] = total


@njit(cache=True, nogil=True, fastmath=_MATH)
def _dot(x: Any, weights: Any) -> float:
    total = np.float32(0)
    for k in range(x.size):
        total += widen(x[k]) * weights[k]
    return float(total)


@njit(cache=True, nogil=True, fastmath=_MATH)
def _add(x: Any, factor: Any, weights: Any) -> None:
    for k in range(x.size):
        weights[k] += factor * widen(x[k])


@njit(cache=True, nogil=True)
def sum_rows(positives: Any, values: Any, slots: Any, multipliers: Any, scale: float, w: Any) -> None:
    """w float64 [d] += scale * sum_i a_i y_i x_i."""
    p = len(positives)
    for i in range(multipliers.size):
        if multipliers[i] != 0:
            if i < p:
                _add(positives[i], multipliers[i] * scale, w)
            else:
                _add(values[slots[i - p]], -multipliers[i] * scale, w)


@njit(cache=True, nogil=True)
def find_slack(positives: Any, values: Any, slots: Any, rows: Any, weights: Any, b: float, slack: Any) -> None:
    """g_i = 1 - y_i (x_i @ weights + b) of some rows."""
    p = len(positives)
    for i in rows:
        if i < p:
            slack[i] = 1 - (_dot(positives[i], weights) + b)
        else:
            slack[i] = 1 + (_dot(values[slots[i - p]], weights) + b)


@njit(cache=True, nogil=True)
def visit(
    positives: Any, values: Any, slots: Any, order: Any, multipliers: Any, upper: Any, curvature: Any,
    weights: Any, w_bias: Any, scale: float, bias: float, slack: Any,
) -> float:  # fmt: skip
    """Visit each row in ``order``: its multiplier to the best value, ``weights`` (scale * w) and bias with it."""
    p, gap = len(positives), 0.0
    for i in order:
        x, y = (positives[i], 1.0) if i < p else (values[slots[i - p]], -1.0)
        a = multipliers[i]
        g = 1 - y * (_dot(x, weights) + bias * w_bias[0])
        slack[i] = g
        gap += upper[i] * max(0.0, g) - a * g
        best = min(max(a + g / curvature[i], 0.0), upper[i])
        if best != a:
            _add(x, np.float32((best - a) * y * scale * scale), weights)
            w_bias[0] += (best - a) * y * bias
            multipliers[i] = best
    return gap
