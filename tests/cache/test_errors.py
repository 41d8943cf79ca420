"""The lines of an error: each once, in the order of the numbers in them."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from cache.errors import DatasetError

LINES = ["a.txt: line 10: x", "a.txt: line 2: x", "a.txt: line 2: x", "a.txt: line 6: y", "a.txt: is bad", "B: line 1"]


def test_lines_are_in_the_order_of_their_numbers_and_stand_once() -> None:
    error = DatasetError(LINES, "hint")
    expected = ["B: line 1", "a.txt: is bad", "a.txt: line 2: x", "a.txt: line 6: y", "a.txt: line 10: x"]
    assert error.problems == expected and str(error).splitlines() == [*expected, "hint"]
    assert pickle.loads(pickle.dumps(error)).problems == expected


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_lines_that_differ_in_a_number_alone_are_sorted_by_it(numbers: list[int]) -> None:
    problems = DatasetError([f"f: line {number}: is wrong" for number in numbers]).problems
    assert problems == [f"f: line {number}: is wrong" for number in sorted(numbers)]


def test_a_number_of_thousands_of_digits_is_no_hindrance() -> None:
    assert len(DatasetError(["9" * 10_000, "8" * 10_000, "1"]).problems) == 3
