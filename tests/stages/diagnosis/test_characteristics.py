"""Which subset an object is in: five bins as MATLAB makes them, the manifest's flags, a table's values."""

import math
from typing import Any

import numpy as np
import pytest
from evaluation_cases import truth_of
from hypothesis import given
from hypothesis import strategies as st

from stages.diagnosis.characteristics import five_bins, from_boxes, from_manifest, from_table


def slow_bins(values: list[float]) -> list[int]:
    """``sa(round([1/10 3/10 7/10 9/10]*n))``, and a value's bin is the number of edges that it is above."""
    ranked = sorted(values)
    edges = []
    for share in (0.1, 0.3, 0.7, 0.9):
        at = share * len(values)
        place = math.floor(at) + (at - math.floor(at) >= 0.5)  # half away from zero
        edges.append(ranked[max(place, 1) - 1])
    return [sum(value > edge for edge in edges) for value in values]


@given(st.lists(st.integers(0, 30).map(float), min_size=1, max_size=60))
def test_five_bins(values: list[float]) -> None:
    assert five_bins(np.array(values)).tolist() == slow_bins(values)


def test_a_hundred_different_values_fill_the_bins() -> None:
    assert np.bincount(five_bins(np.arange(100.0))).tolist() == [10, 20, 40, 20, 10]


def test_equal_values_are_in_one_bin() -> None:
    assert set(five_bins(np.full(7, 3.0))) == {0}


def test_area_and_aspect_are_the_box_s_and_binned_by_class() -> None:
    rows = [(0, k % 2, [0, 0, 10 * (k + 1), 5]) for k in range(20)]
    truth = truth_of(rows, 1, 2)
    area, aspect = from_boxes(truth)
    assert area.numbers is not None and aspect.numbers is not None
    assert area.numbers[3] == 200 and aspect.numbers[3] == 8
    even = np.flatnonzero(truth.labels == 0)
    assert np.bincount(area.of(even)).tolist() == [1, 2, 4, 2, 1]


def test_what_the_manifest_says() -> None:
    details: list[dict[str, Any]] = [
        {"occluded": 1, "pose": "Left", "hidden": 0.0},
        {"occluded": 0, "pose": "Unspecified", "hidden": 0.05},
        {"pose": "Frontal", "hidden": 0.15},
        {"hidden": 0.2},
        {},
    ]
    found = {one.name: one for one in from_manifest(np.array([0, 1, 0, 0, 0], bool), details)}
    rows = np.arange(5)
    assert found["truncated"].of(rows).tolist() == [0, 1, 0, 0, 0]
    assert found["occluded"].of(rows).tolist() == [1, 0, -1, -1, -1]
    assert found["pose"].subsets == ("Frontal", "Left")
    assert found["pose"].of(rows).tolist() == [1, -1, 0, -1, -1]
    assert found["hidden"].subsets == ("none", "low", "moderate", "high")
    assert found["hidden"].of(rows).tolist() == [0, 1, 2, 3, -1]


def test_what_the_manifest_does_not_say_is_no_characteristic() -> None:
    assert from_manifest(np.zeros(2, bool), [{}, {"pose": ""}]) == []


@pytest.mark.parametrize(
    ("values", "subsets", "of"),
    [
        ({0: "10", 1: "9", 2: "9"}, ("9", "10"), [1, 0, 0, -1]),  # numbers in their order
        ({0: "b", 3: "a"}, ("a", "b"), [1, -1, -1, 0]),
        ({0: "10", 1: "b"}, ("10", "b"), [0, 1, -1, -1]),
        ({0: "nan", 1: "1"}, ("1", "nan"), [1, 0, -1, -1]),  # a word
        ({0: "01", 1: "1.0", 2: "1", 3: "2.50"}, ("1", "2.50"), [0, 0, 0, 1]),  # one number, however it is written
        ({0: "-0", 1: "0", 2: "1e1", 3: "10"}, ("0", "10"), [0, 0, 1, 1]),
        ({0: "01", 1: "1", 2: "x"}, ("01", "1", "x"), [0, 1, 2, -1]),  # words
        ({0: "1_0", 1: "10"}, ("10", "1_0"), [1, 0, -1, -1]),  # Python's 1_0 is no number
        ({0: "12345678.123", 1: "2.5e-07"}, ("2.5e-07", "12345678.123"), [1, 0, -1, -1]),  # as they were written
    ],
)
def test_few_values_of_a_table_are_taken_as_they_are(
    values: dict[int, str], subsets: tuple[str, ...], of: list[int]
) -> None:
    (one,) = from_table({"kind": values}, 4)
    assert one.subsets == subsets and one.of(np.arange(4)).tolist() == of


def test_one_number_written_in_many_ways_is_few_numbers() -> None:
    (one,) = from_table({"kind": {row: "0" * row + "7" for row in range(20)}}, 20)
    assert one.subsets == ("7",) and set(one.of(np.arange(20)).tolist()) == {0}


def test_many_numbers_of_a_table_become_bins_of_each_class() -> None:
    (one,) = from_table({"depth.m": {row: str(row / 2) for row in range(30)}}, 31)
    assert one.group == "depth" and one.subsets[0] == "lowest"
    assert one.of(np.arange(10, 20)).tolist() == slow_bins([row / 2 for row in range(10, 20)])
    assert one.of(np.array([30])).tolist() == [-1]
