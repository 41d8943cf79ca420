"""Conversion of float16 features to float32 in compiled code.

numpy's conversion takes ten times as long as what is then done with the values. Compiled code elsewhere contains
:func:`widen`, and numba's cache on disk does not see a change made here: after one, delete the ``*.nbi`` files under
``stages/``.
"""

import os
import platform
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

_SMALL = 1 << 16  # values; below, the compiled loop gains nothing
_REBIAS = np.float32(2.0**112)  # a float16's exponent counts from 15, a float32's from 127
_MAGNITUDE, _SIGN, _INFINITE = np.uint32(0x7FFF), np.uint32(0x8000), np.uint32(0x7C00)
_INFINITE32, _SHIFT = np.uint32(0x7F800000), np.uint32(13)


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert an array of any shape to float32, exactly; one that is float32 comes back itself.

    (Measured: 0.2 ns per value into memory that is in use already; numpy 5 ns.)
    """
    if values.dtype != np.float16 or values.size < _SMALL:
        return np.asarray(values, np.float32)
    contiguous = np.ascontiguousarray(values)
    out = np.empty(contiguous.shape, np.float32)
    _widen_all(contiguous.view(np.uint16).reshape(-1), out.reshape(-1))
    return out


def as_bits(values: NDArray[Any]) -> NDArray[Any]:
    """View features in the form that compiled code, which knows no float16, reads by :func:`widen`.

    Returns:
        A view of float16 ``values`` as uint16; float32 ``values`` themselves.

    Raises:
        TypeError: any other dtype.
    """
    if values.dtype not in (np.float16, np.float32):
        raise TypeError(f"features are float16 or float32, not {values.dtype}")
    return values.view(np.uint16) if values.dtype == np.float16 else values


def widen(value: Any) -> Any:
    """Return the float32 that an element of :func:`as_bits` stands for; in compiled code alone."""
    raise NotImplementedError("for compiled code only")


@overload(widen)
def _widen(value):  # type: ignore[no-untyped-def]  # numba wants the signature of what it returns
    if isinstance(value, types.Integer):
        if _converts_float16():
            return lambda value: _by_the_processor(value)  # noqa: PLW0108  # numba wants a function of that argument's name
        return lambda value: _by_bits(value)  # noqa: PLW0108
    return lambda value: value


@cache
def _converts_float16() -> bool:
    """Return whether the processor that numba compiles for converts float16 itself: x86 since 2012, 64-bit ARM."""
    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):  # for another processor than this
        return False
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    try:
        return bool(binding.get_host_cpu_features().get("f16c"))
    except RuntimeError:  # LLVM cannot tell
        return False


def _extend(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


_by_the_processor: Any = intrinsic(_extend)


@njit
def _by_bits(bits: Any) -> Any:
    word = np.uint32(bits)
    shifted = ((word & _MAGNITUDE) << _SHIFT) | ((word & _SIGN) << np.uint32(16))
    if word & _INFINITE == _INFINITE:
        return np.uint32(shifted | _INFINITE32).view(np.float32)
    return np.uint32(shifted).view(np.float32) * _REBIAS


@njit(cache=True, nogil=True)
def _widen_all(bits: Any, out: Any) -> None:
    for i in range(bits.size):
        out[i] = widen(bits[i])
