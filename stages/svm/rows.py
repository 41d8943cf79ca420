"""The rows that a class is trained on, read in place as they are stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.kernels.float16 import as_bits, widen

_MATH = {"reassoc", "contract"}  # lets the compiler sum in vector registers, in one fixed order


@dataclass(frozen=True)
class Rows:
    """The p + n rows that one class is trained on, read where they lie.

    Attributes:
        positives: float16 or float32 [p, d], as stored.
        values: [slots, d], as stored; it holds rows of other classes too.
        slots: int64 [n], which rows of ``values`` are the class's negatives.
        norms: float64 [p + n], each row's squared length, unscaled, positives first.
        scale: a solver sees ``scale`` times a row.
    """

    positives: NDArray[Any]
    values: NDArray[Any]
    slots: NDArray[np.int64]
    norms: NDArray[np.float64]
    scale: float

    def negatives(self) -> NDArray[Any]:
        """Return a copy of the negatives, [n, d], as stored."""
        return self.values[self.slots]


def squared_norms(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the squared length of each row [k, d], float64 [k]."""
    out = np.empty(len(rows))
    _norms(as_bits(rows), out)
    return out


def copy_rows(
    source: NDArray[Any], rows: NDArray[np.int64], target: NDArray[Any], slots: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Set ``target[slots] = source[rows]`` and return the rows' squared lengths, float64 [k]."""
    out = np.empty(len(rows))
    _copy(as_bits(source), rows, as_bits(target), slots, out)  # one pass over memory in place of three
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
