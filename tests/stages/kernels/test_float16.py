"""float16 as float32 against numpy's conversion, for every value there is."""

import numpy as np
import pytest
from numba import njit

from stages.kernels import float16
from stages.kernels.float16 import as_bits, as_float32


def assert_same(result: np.ndarray, values: np.ndarray) -> None:
    expected = values.astype(np.float32)
    assert result.dtype == np.float32 and result.shape == values.shape
    numbers = ~np.isnan(expected)  # of a NaN the processor may set the bit that makes it quiet
    np.testing.assert_array_equal(np.isnan(result), ~numbers)
    np.testing.assert_array_equal(result.view(np.uint32)[numbers], expected.view(np.uint32)[numbers])


@pytest.mark.parametrize("copies", [0, 1, 2], ids=["empty", "numpy's", "compiled"])
def test_every_float16(copies: int) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)[
        :-1
    ]  # one fewer is below the compiled loop's threshold
    values = np.tile(every, (copies, 1))
    assert_same(as_float32(values), values)


@pytest.mark.parametrize("convert", ["_by_bits", "_by_the_processor"])
def test_both_ways_in_compiled_code(convert: str) -> None:
    if convert == "_by_the_processor" and not float16._converts_float16():
        pytest.skip("this processor has no instruction for it")
    one = getattr(float16, convert)

    @njit
    def all_of(bits, out):  # type: ignore[no-untyped-def]
        for i in range(bits.size):
            out[i] = one(bits[i])

    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    out = np.empty(values.size, np.float32)
    all_of(as_bits(values), out)
    assert_same(out, values)


def test_strided_and_float32_input() -> None:
    values = np.random.default_rng(0).normal(size=(600, 400)).astype(np.float16)
    np.testing.assert_array_equal(as_float32(values[::2, ::-1]), values[::2, ::-1].astype(np.float32))
    single = values.astype(np.float32)
    assert as_float32(single) is single
