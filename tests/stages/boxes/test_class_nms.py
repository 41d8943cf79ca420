"""Batched suppression against torchvision, against the plain version, and its tie rules."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import nms as torchvision_nms

from stages.boxes.nms import class_nms, nms


def scene(seed: int, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole-pixel boxes in a small frame, so that IoU ties at the threshold and equal scores happen."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 20, (n, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 15, (n, 2))], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 8, n).astype(np.float32) / 8, rng.integers(0, n_classes, n)


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 5), st.sampled_from([0.3, 0.5, 1 / 3, 1.0]))
@settings(deadline=None, max_examples=60)
def test_each_class_as_the_plain_version(seed: int, n: int, n_classes: int, threshold: float) -> None:
    boxes, scores, labels = scene(seed, n, n_classes)
    expected = []
    for j in range(n_classes):
        rows = np.flatnonzero(labels == j)
        expected += rows[nms(boxes[rows], scores[rows], threshold)].tolist()
    assert class_nms(boxes, scores, labels, threshold).tolist() == expected


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_as_torchvision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 60, (50, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(50).astype(np.float32)  # no ties, which torchvision settles as it likes
    expected = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3).tolist()
    assert class_nms(boxes, scores, np.zeros(50, int), 0.3).tolist() == expected


def test_equal_to_the_threshold_stays_and_ties_keep_input_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.5, 0.5, 0.5], np.float32)
    assert class_nms(boxes, scores, np.zeros(3, int), 0.5).tolist() == [0, 1]  # IoU 0.5 stays, 1 goes


def test_classes_do_not_meet() -> None:
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (3, 1))
    assert class_nms(boxes, np.array([0.1, 0.9, 0.5]), np.array([4, 4, 2]), 0.3).tolist() == [2, 1]


def test_nothing() -> None:
    assert class_nms(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.3).tolist() == []
