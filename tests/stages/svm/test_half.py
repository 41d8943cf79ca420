"""The float16 table against numpy's conversion, for every value there is."""

import numpy as np
import pytest

from stages.common.half import as_float32


@pytest.mark.parametrize("copies", [0, 1, 2], ids=["empty", "numpy's", "table"])
def test_every_float16(copies: int) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)[:-1]  # one fewer is below the table's threshold
    values = np.tile(every, (copies, 1))
    result = as_float32(values)
    assert result.dtype == np.float32 and result.shape == values.shape
    np.testing.assert_array_equal(result.view(np.uint32), values.astype(np.float32).view(np.uint32))


def test_strided_and_float32_input() -> None:
    values = np.random.default_rng(0).normal(size=(600, 400)).astype(np.float16)
    np.testing.assert_array_equal(as_float32(values[::2, ::-1]), values[::2, ::-1].astype(np.float32))
    single = values.astype(np.float32)
    assert as_float32(single) is single
