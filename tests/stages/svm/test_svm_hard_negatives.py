"""Near duplicates among the negatives: against a loop over all pairs, class by class, and in the mining."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_context import Messages

from stages.boxes.geometry import iou
from stages.svm.hard_negatives import distinct_negatives, first_of_equal
from stages.svm.mining import train_svms
from stages.svm.settings import SvmSettings


def by_loop(boxes, is_gt, negative, most_iou):
    """Class by class, row by row: kept unless it overlaps one that was kept before it."""
    kept = np.zeros_like(negative)
    overlaps = iou(boxes, boxes)
    for j in range(negative.shape[1]):
        for i in range(len(boxes)):
            if negative[i, j]:
                earlier = [k for k in range(i) if kept[k, j]]
                kept[i, j] = is_gt[i] or not any(overlaps[i, k] > most_iou for k in earlier)
    return kept


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 63, 64, 65, 130]), st.floats(0.05, 0.95))
def test_the_same_as_a_loop_over_all_pairs(seed, classes, most_iou):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 40))
    corner = rng.integers(0, 12, (n, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 12, (n, 2))], 1).astype(np.float32)
    is_gt = np.arange(n) < 4
    negative = rng.random((n, classes)) < 0.8
    expected = by_loop(boxes, is_gt, negative, most_iou)
    found = distinct_negatives(boxes, is_gt, negative, most_iou)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


# IoU of neighbours (shifted by 1 of 10 px) 9/11 = .82, of next neighbours 8/12 = .67.
ROW = np.array([[x, 0, x + 10, 10] for x in range(5)], np.float32)


def test_only_what_is_kept_drops_others():
    kept = distinct_negatives(ROW, np.zeros(5, bool), np.ones((5, 1), bool), 0.7)[:, 0]
    assert kept.tolist() == [True, False, True, False, True]


def test_classes_do_not_see_each_other_and_ground_truth_stays():
    negative = np.ones((5, 2), bool)
    negative[0, 1] = False  # too near an object of the second class: it drops none of that class's
    kept = distinct_negatives(ROW, np.zeros(5, bool), negative, 0.7)
    assert kept.T.tolist() == [[True, False, True, False, True], [False, True, False, True, False]]
    objects = np.arange(5) < 2
    assert distinct_negatives(ROW, objects, negative, 0.7)[:, 0].tolist() == [True, True, False, True, False]


def test_an_overlap_of_exactly_the_limit_stays():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    assert distinct_negatives(boxes, np.zeros(2, bool), np.ones((2, 1), bool), 0.5).all()
    assert not distinct_negatives(boxes, np.zeros(2, bool), np.ones((2, 1), bool), 0.49)[1, 0]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_of_equal_features_the_first_as_a_loop_over_all_pairs(seed, classes):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 30))
    features = rng.integers(0, 2, (n, 3)).astype(np.float16)
    is_gt = np.arange(n) < 4
    negative = rng.random((n, classes)) < 0.7
    found = first_of_equal(features, is_gt, negative)
    for j in range(classes):
        for i in range(n):
            earlier = [k for k in range(i) if negative[k, j] and (features[k] == features[i]).all()]
            assert found[i, j] == (negative[i, j] and (is_gt[i] or not earlier))


class Image:
    """Two objects of a class each, then pairs of equal boxes with unlike features: the second of a pair is dropped."""

    def __init__(self, image_id: int) -> None:
        rng = np.random.default_rng(image_id)
        self.image_id = image_id
        corner = np.repeat(rng.uniform(0, 200, (15, 2)), 2, axis=0)
        pairs = np.concatenate([corner, corner + 20], 1)
        self.boxes = np.concatenate([[[300, 0, 340, 40], [300, 60, 340, 100]], pairs]).astype(np.float32)
        self.is_gt = np.arange(32) < 2
        self.gt_class = np.where(self.is_gt, np.arange(32), -1)
        self.overlaps = np.eye(32, 2, dtype=np.float32)
        self.features = rng.random((32, 6)).astype(np.float16)


@pytest.mark.parametrize("solver", ["dual", "liblinear"])
def test_mining_sees_the_distinct_negatives_only(solver):
    images = [Image(i) for i in range(3)]
    options = SvmSettings(solver=solver, margin=-1e6, evict_below=-1e6)
    all_of_them, records = train_svms(images, ("a", "b"), 1.0, options, 0, Messages())
    assert {record.negatives for record in records if record.images_seen == 3} == {3 * 31}
    limited = options.model_copy(update={"duplicate_iou": 0.7})
    distinct, records = train_svms(images, ("a", "b"), 1.0, limited, 0, Messages())
    for image in images:  # the same by hand: what is dropped is no negative of either class
        expected = by_loop(image.boxes, image.is_gt, image.overlaps < 0.3, 0.7)
        image.overlaps = np.where(expected, image.overlaps, 1).astype(np.float32)
    by_hand, expected_records = train_svms(images, ("a", "b"), 1.0, options, 0, Messages())
    np.testing.assert_array_equal(distinct.weights, by_hand.weights)
    assert [r.negatives for r in records] == [r.negatives for r in expected_records]
    assert max(r.negatives for r in records) < 3 * 20
    assert not np.array_equal(distinct.weights, all_of_them.weights)


def test_mining_drops_equal_features_where_asked():
    images = [Image(i) for i in range(3)]
    for image in images:
        image.features[3::2] = image.features[2::2]  # of each pair of boxes
    options = SvmSettings(margin=-1e6, evict_below=-1e6)
    _, every = train_svms(images, ("a", "b"), 1.0, options, 0, Messages())
    _, distinct = train_svms(images, ("a", "b"), 1.0, options.model_copy(update={"drop_equal": True}), 0, Messages())
    counts = [{r.negatives for r in records if r.images_seen == 3} for records in (every, distinct)]
    assert counts == [{3 * 31}, {3 * 16}]


def test_the_limit_is_checked():
    for wrong in (0, 1, -0.1):
        with pytest.raises(ValueError, match="duplicate_iou"):
            SvmSettings(duplicate_iou=wrong)
