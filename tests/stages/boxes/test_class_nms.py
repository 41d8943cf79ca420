"""Batched suppression against torchvision, against a plain version in fractions, and its tie rules."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import nms as torchvision_nms

from stages.boxes.nms import class_nms, exceeds, first_kept

# Tenths, so that "strictly above" is a matter of whole numbers.
THRESHOLDS = {0.3: Fraction(3, 10), 0.5: Fraction(1, 2), 0.7: Fraction(7, 10)}


def scene(seed: int, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole-pixel boxes in a small frame, so that IoU ties at the threshold and equal scores happen."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 20, (n, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 15, (n, 2))], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 8, n).astype(np.float32) / 8, rng.integers(0, n_classes, n)


def tied_scene(rng: np.random.Generator, n: int) -> np.ndarray:
    """Boxes cut off ten columns (or rows) of one rectangle: IoUs of 3/10, 1/2 and 7/10 are frequent."""
    unit = int(rng.integers(1, 12))
    start = rng.integers(0, 4, n)
    along = np.stack([start, start + rng.choice([3, 5, 7, 10], n)], axis=1) * unit
    across = np.tile([[0, int(rng.integers(1, 40))]], (n, 1))
    pairs = (along, across) if rng.random() < 0.5 else (across, along)
    corners = rng.integers(0, 900, 2)
    boxes = np.stack([pairs[0][:, 0], pairs[1][:, 0], pairs[0][:, 1], pairs[1][:, 1]], axis=1)
    return (boxes + np.tile(corners, 2)).astype(np.float32)


def ratio(a: np.ndarray, b: np.ndarray) -> Fraction:
    """The exact IoU of two whole-pixel boxes; 0 where neither has an area."""
    a, b = a.astype(int).tolist(), b.astype(int).tolist()
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    union = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (a, b)) - shared
    return Fraction(shared, union) if union else Fraction(0)


def slow(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, threshold: Fraction, most: int) -> list[int]:
    """Class by class and box by box, in whole numbers."""
    out: list[int] = []
    for j in sorted(set(labels.tolist())):
        kept: list[int] = []
        for row in sorted(np.flatnonzero(labels == j).tolist(), key=lambda row: (-scores[row], row)):
            if all(ratio(boxes[row], boxes[one]) <= threshold for one in kept):
                kept.append(row)
        out += kept[:most]
    return out


@given(
    st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 4), st.sampled_from([*THRESHOLDS, 1.0]), st.integers(1, 9)
)
@settings(deadline=None, max_examples=60)
def test_as_the_slow_version(seed: int, n: int, n_classes: int, threshold: float, most: int) -> None:
    boxes, scores, labels = scene(seed, n, n_classes)
    exact = THRESHOLDS.get(threshold, Fraction(1))
    assert class_nms(boxes, scores, labels, threshold).tolist() == slow(boxes, scores, labels, exact, n)
    assert class_nms(boxes, scores, labels, threshold, most).tolist() == slow(boxes, scores, labels, exact, most)


@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from(list(THRESHOLDS)))
@settings(deadline=None, max_examples=80)
def test_at_ties_with_the_threshold_as_torchvision_in_double(seed: int, n: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    boxes = tied_scene(rng, n)
    scores = rng.permutation(n).astype(np.float32)
    expected = torchvision_nms(torch.from_numpy(boxes).double(), torch.from_numpy(scores).double(), threshold).tolist()
    labels = np.zeros(n, int)
    assert class_nms(boxes, scores, labels, threshold).tolist() == expected
    assert expected == slow(boxes, scores, labels, THRESHOLDS[threshold], n)


def test_ties_with_the_threshold_are_frequent_in_those_scenes() -> None:
    boxes = tied_scene(np.random.default_rng(0), 60)
    found = [ratio(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert min(found.count(exact) for exact in THRESHOLDS.values()) > len(found) // 50


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_no_iou_equal_to_the_threshold_is_above_it(threshold: float) -> None:
    """Whatever the boxes' areas; multiplied out, 0.7 fails for one pair in five."""
    exact = THRESHOLDS[threshold]
    unions = np.arange(1.0, 40_001) * exact.denominator
    shared = unions / exact.denominator * exact.numerator
    assert not exceeds(shared, unions, threshold).any()
    assert exceeds(shared + 1, unions, threshold).all()
    assert (shared > threshold * unions).mean() > 0.1 or threshold != 0.7


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_as_torchvision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 60, (50, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(50).astype(np.float32)  # no ties, which torchvision settles as it likes
    expected = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3).tolist()
    assert class_nms(boxes, scores, np.zeros(50, int), 0.3).tolist() == expected


def test_equal_to_the_threshold_stays_and_of_equal_scores_the_first() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.5, 0.5, 0.5], np.float32)
    assert class_nms(boxes, scores, np.zeros(3, int), 0.5).tolist() == [0, 1]  # IoU 0.5 stays, 1 goes
    assert class_nms(boxes, np.array([1, 2, 3.0]), np.zeros(3, int), 0.49).tolist() == [2]


def test_classes_do_not_meet() -> None:
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (3, 1))
    assert class_nms(boxes, np.array([0.1, 0.9, 0.5]), np.array([4, 4, 2]), 0.3).tolist() == [2, 1]


@pytest.mark.parametrize("most", [None, 0, 3])
def test_nothing(most: int | None) -> None:
    assert class_nms(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.3, most).tolist() == []


def test_boxes_without_area_suppress_nothing() -> None:
    boxes = np.tile(np.array([5, 5, 5, 9], np.float32), (3, 1))
    assert class_nms(boxes, np.arange(3.0), np.zeros(3, int), 0.3).tolist() == [2, 1, 0]


@given(st.integers(0, 10**6), st.integers(0, 200), st.sampled_from([None, 0, 1, 5, 40]), st.sampled_from([0.3, 0.7]))
@settings(deadline=None, max_examples=60)
def test_the_first_kept_are_those_of_one_class(seed: int, n: int, most: int | None, threshold: float) -> None:
    """More than the boxes that are compared at once, and ties with the threshold."""
    boxes = tied_scene(np.random.default_rng(seed), n) if seed % 2 else scene(seed, n, 1)[0]
    falling = -np.arange(n, dtype=float)
    expected = class_nms(boxes, falling, np.zeros(n, int), threshold).tolist()
    assert first_kept(boxes, threshold, most).tolist() == expected[:most]


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7, 0.9]))
@settings(deadline=None, max_examples=10)
def test_many_kept_boxes_as_torchvision(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 300, (1500, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 90, (1500, 2))], axis=1)
    scores = -torch.arange(1500.0, dtype=torch.float64)
    expected = torchvision_nms(torch.from_numpy(boxes), scores, threshold).tolist()
    assert len(expected) > 100
    assert first_kept(boxes, threshold).tolist() == expected
