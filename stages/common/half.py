"""float16 features as float32, by a table: numpy's own conversion takes ten times as long as what is done with them."""

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SMALL = 1 << 16  # values; below, the compiled loop gains nothing


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """The same numbers in float32, exactly; float32 comes back as it is. [M] 0.5 ns per value, numpy 5."""
    if values.dtype != np.float16 or values.size < _SMALL:
        return np.asarray(values, np.float32)
    contiguous = np.ascontiguousarray(values)
    out = np.empty(contiguous.shape, np.float32)
    _look_up(contiguous.view(np.uint16).reshape(-1), _table(), out.reshape(-1))
    return out


@cache
def _table() -> NDArray[np.float32]:
    """Every float16 there is, by its bits: float32 [65536]."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


@njit(cache=True, nogil=True)
def _look_up(bits: Any, table: Any, out: Any) -> None:
    for i in range(bits.size):
        out[i] = table[bits[i]]
