"""Boxes and objects assigned to each other, against the whole matrix of IoUs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.boxes.assignment import assign
from stages.boxes.geometry import iou


def boxes_of(rng: np.random.Generator, n: int, whole: bool) -> np.ndarray:
    """Boxes in a frame so small that ties happen where they are whole pixels; some have no area."""
    corner = rng.uniform(0, 20, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 15, (n, 2))], axis=1)
    return (np.floor(boxes) if whole else boxes).astype(np.float32)


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 8), st.booleans())
@settings(deadline=None, max_examples=80)
def test_as_the_matrix_says(seed: int, n: int, m: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    boxes, objects = boxes_of(rng, n, whole), boxes_of(rng, m, whole)
    found = assign(boxes, objects)
    matrix = np.concatenate([iou(boxes, objects), np.zeros((n, 1))], axis=1) if m else np.zeros((n, 1))
    np.testing.assert_array_equal(found.overlaps, matrix.max(axis=1))
    np.testing.assert_array_equal(found.objects[found.overlaps > 0], matrix.argmax(axis=1)[found.overlaps > 0])
    assert not found.objects[found.overlaps == 0].any()
    best = matrix[:, :m].max(axis=0, initial=0)
    np.testing.assert_array_equal(found.best, best)
    np.testing.assert_array_equal(found.is_best, ((matrix[:, :m] == best) & (best > 0)).any(axis=1))


def test_ties_and_objects_that_nothing_meets() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 5, 10], [50, 50, 60, 60]], float)
    found = assign(boxes, np.array([[0, 0, 10, 10], [200, 200, 210, 210]], float))
    assert found.overlaps.tolist() == [1, 1, 0.5, 0]
    assert found.best.tolist() == [1, 0]
    assert found.is_best.tolist() == [True, True, False, False]  # of the second object none, though all tie at 0


@pytest.mark.parametrize("order", [np.array([2, 0, 1]), np.array([1, 2, 0])])
def test_an_equal_overlap_goes_to_the_first_object(order: np.ndarray) -> None:
    objects = np.array([[0, 0, 5, 10], [5, 0, 10, 10], [0, 0, 10, 5]], float)[order]
    assert assign(np.array([[0, 0, 10, 10]], float), objects).objects.tolist() == [0]
