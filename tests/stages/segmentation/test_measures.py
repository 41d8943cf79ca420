"""Confusion and IoU against scikit-learn; the oracle and the filled boxes by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, jaccard_score

from stages.segmentation.measures import confusion, filled_boxes, image_iou, measures, oracle


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(1, 6))
def test_confusion_and_figures_are_scikit_learns(seed: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes + 1, (20, 30)).astype(np.uint8)
    result = np.where(rng.random((20, 30)) < 0.6, truth, rng.integers(0, n_classes + 1, (20, 30))).astype(np.uint8)
    truth[rng.random((20, 30)) < 0.2] = 255
    cared = truth != 255
    counts = confusion(truth, result, n_classes)
    labels = np.arange(n_classes + 1)
    assert np.array_equal(counts, confusion_matrix(truth[cared], result[cared], labels=labels))
    found = measures(counts)
    there = np.unique(np.concatenate([truth[cared], result[cared]]))
    each = jaccard_score(truth[cared], result[cared], labels=there, average=None)
    np.testing.assert_allclose([found.iou[c] for c in there], each)
    assert found.mean_iou == pytest.approx(each.mean())
    assert found.pixel_accuracy == pytest.approx(accuracy_score(truth[cared], result[cared]))
    if set(np.unique(result[cared])) <= set(np.unique(truth[cared])):
        expected = balanced_accuracy_score(truth[cared], result[cared])
        assert found.mean_class_accuracy == pytest.approx(expected)


def test_a_class_that_neither_map_has_counts_nowhere() -> None:
    truth, result = np.array([[0, 1, 255]], np.uint8), np.array([[0, 3, 2]], np.uint8)
    found = measures(confusion(truth, result, 3))
    assert found.iou == (1.0, 0.0, None, 0.0)
    assert found.mean_iou == pytest.approx(1 / 3)
    assert found.mean_class_accuracy == 0.5
    assert image_iou(confusion(truth, result, 3)) == 0.0


def test_an_image_that_is_all_void_has_no_figure() -> None:
    counts = confusion(np.full((2, 2), 255, np.uint8), np.ones((2, 2), np.uint8), 1)
    found = measures(counts)
    assert not counts.any()
    assert (found.iou, found.mean_iou, found.pixel_accuracy) == ((None, None), None, None)
    assert image_iou(counts) is None


def test_maps_that_do_not_fit_are_refused() -> None:
    one = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="of shape"):
        confusion(one, np.zeros((2, 3), np.uint8), 1)
    with pytest.raises(ValueError, match="above 1"):
        confusion(one, one + 2, 1)


def test_the_oracle_averages_objects_then_classes() -> None:
    best = [np.array([0.5, 0.7]), np.zeros(0), np.array([0.9])]
    labels = [np.array([0, 2]), np.zeros(0, np.int64), np.array([0])]
    mean, each = oracle(best, labels, 3)
    assert each[1] is None
    assert [each[0], each[2]] == pytest.approx([0.7, 0.7])
    assert mean == pytest.approx(0.7)
    assert oracle([], [], 2) == (None, (None, None))


def test_the_better_box_is_filled_over_the_worse() -> None:
    boxes = np.array([[0.5, 0, 2, 2], [1, 1, 9, 9], [-3, 3, 1, 4]], np.float32)
    drawn = filled_boxes(boxes, np.array([0.9, 0.5, 0.7], np.float32), np.array([0, 4, 1]), (4, 4))
    assert drawn.tolist() == [[1, 1, 0, 0], [1, 1, 5, 5], [0, 5, 5, 5], [2, 5, 5, 5]]
