"""Numbers and flags as tools write them."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.values import read_flag, read_integer, read_number


@given(st.floats())
def test_every_number_that_python_writes_is_read_back(value: float) -> None:
    read = read_number(f" {value!r} ")
    assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("+1.", 1), (".5", 0.5), ("1E-2", 0.01), ("-0", 0)])
def test_numbers(text: str, value: float) -> None:
    assert read_number(text) == value


@pytest.mark.parametrize("text", ["", "ten", "1_5", "1,5", "0x10", "1 2", "--1", "1e", "12px", "."])
def test_no_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        read_number(text)
    if text == "1,5":
        with pytest.raises(ValueError, match="decimal comma"):
            read_number(text)


NO_INTEGERS: tuple[Any, ...] = (True, None, 1.5, "1.5", "a", "", [1], {}, math.nan, math.inf, 1e300, "1_0", "9" * 400)
INTEGERS: list[tuple[Any, int | None]] = [
    *[(3, 3), (2**70, 2**70), (1.0, 1), ("1", 1), (" 12 ", 12), ("0.0", 0), ("1e2", 100), ("-1", -1), ("007", 7)],
    *((value, None) for value in NO_INTEGERS),
]


@pytest.mark.parametrize(("value", "integer"), INTEGERS)
def test_integers(value: Any, integer: int | None) -> None:
    assert read_integer(value) == integer


@pytest.mark.parametrize("value", [1, 1.0, True, "1", " TRUE ", "yes", "Y", "1.0", "0.0597", 0.3])
def test_flags_that_are_set(value: float | bool | str) -> None:
    assert read_flag(value) is True


@pytest.mark.parametrize("value", [0, 0.0, False, None, "", "0", "no", "False", "Unspecified", "unknown", "0.0", " "])
def test_flags_that_are_not(value: float | bool | str | None) -> None:
    assert read_flag(value) is False


@pytest.mark.parametrize("value", [2, -1, "2", "maybe", [], {}, math.nan, "nan", "1.5"])
def test_no_flags(value: str | list[Any] | dict[str, Any] | float) -> None:
    with pytest.raises(ValueError, match="not 0 or 1"):
        read_flag(value)
