"""Matching by the best object not yet found, against one loop over the detections."""

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of

from stages.boxes.geometry import iou
from stages.scoring.matching import match
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.unfound import match_unfound

RIGHT, WRONG, IGNORED = 1, -1, 0


def slow_labels(truth: GroundTruth, found: FlatDetections, min_iou: float) -> tuple[list[int], list[int]]:
    """One detection after the other: its label, and the object that it takes, -1 for none."""
    taken: set[int] = set()
    labels, objects = [WRONG] * len(found), [-1] * len(found)
    for d in sorted(range(len(found)), key=lambda i: -float(found.scores[i])):  # stable
        best, which = 0.0, -1
        for k in range(len(truth.labels)):
            same = truth.labels[k] == found.labels[d] and truth.image[k] == found.image[d]
            if not same or (k in taken and not truth.crowd[k]):
                continue
            overlap = float(iou(found.boxes[d : d + 1], truth.boxes[k : k + 1])[0, 0])
            if overlap >= min_iou and overlap > best:
                best, which = overlap, k
        if which >= 0:
            taken.add(which)
            objects[d] = which
            labels[d] = IGNORED if truth.ignored[which] else RIGHT
    return labels, objects


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("min_iou", [0.1, 0.5])
def test_the_rounds_end_as_the_loop_does(seed: int, min_iou: float) -> None:
    truth, found = random_case(seed, crowd=0.1)
    double = np.concatenate([np.arange(len(found)), np.arange(0, len(found), 2)])  # duplicates, with equal scores
    double = double[np.argsort(found.image[double], kind="stable")]
    found = FlatDetections(found.image[double], found.labels[double], found.boxes[double], found.scores[double])
    labels, objects = slow_labels(truth, found, min_iou)
    got = match_unfound(found, truth, min_iou)
    np.testing.assert_array_equal(np.where(got.right, RIGHT, np.where(got.ignored, IGNORED, WRONG)), labels)
    took = np.array(objects) >= 0
    np.testing.assert_array_equal(got.nearest[took], np.array(objects)[took])
    np.testing.assert_array_equal(got.overlap, match(found, truth, min_iou).overlap)


def test_a_chain_of_detections_each_of_which_drives_out_the_next() -> None:
    """Twenty objects in a row, and detections between them, the worst first in the file."""
    boxes = [[10 * k, 0, 10 * k + 20, 10] for k in range(20)]
    truth = truth_of([(0, 0, box) for box in boxes], 1, 1)
    rows = [(0, 0, [10 * k + 1, 0, 10 * k + 21, 10], float(k)) for k in range(19)]
    found = detections_of([*rows, (0, 0, boxes[18], 50.0), (0, 0, boxes[17], 40.0)])
    labels, objects = slow_labels(truth, found, 0.3)
    got = match_unfound(found, truth, 0.3)
    np.testing.assert_array_equal(got.right, np.array(labels) == RIGHT)
    took = np.array(objects) >= 0
    np.testing.assert_array_equal(got.nearest[took], np.array(objects)[took])


def test_the_second_detection_of_an_object_may_take_another() -> None:
    truth = truth_of([(0, 0, [0, 0, 10, 10]), (0, 0, [2, 0, 12, 10])], 1, 1)
    found = detections_of([(0, 0, [0, 0, 10, 10], 2.0), (0, 0, [0.5, 0, 10.5, 10], 1.0)])
    assert match_unfound(found, truth, 0.5).right.tolist() == [True, True]
    assert match(found, truth, 0.5).right.tolist() == [True, False]


def test_the_second_detection_of_a_difficult_object_is_wrong_here() -> None:
    truth = truth_of([(0, 0, [0, 0, 10, 10], True)], 1, 1)
    found = detections_of([(0, 0, [0, 0, 10, 10], 2.0), (0, 0, [0, 0, 10, 10], 1.0)])
    mine, devkit = match_unfound(found, truth, 0.5), match(found, truth, 0.5)
    assert mine.ignored.tolist() == [True, False] and devkit.ignored.tolist() == [True, True]
    assert not mine.right.any()


def test_a_crowd_region_is_taken_by_all() -> None:
    truth = truth_of([(0, 0, [0, 0, 10, 10], False, True)], 1, 1)
    found = detections_of([(0, 0, [0, 0, 10, 10], 2.0), (0, 0, [0, 0, 10, 10], 1.0)])
    assert match_unfound(found, truth, 0.5).ignored.tolist() == [True, True]


@pytest.mark.parametrize("rows", [[], [(0, 0, [0, 0, 10, 10], 1.0)]])
def test_nothing_to_take(rows: list[tuple[int, int, list[int], float]]) -> None:
    got = match_unfound(detections_of(rows), truth_of([], 1, 2), 0.5)
    assert not got.right.any() and not got.ignored.any() and (got.nearest == -1).all()


def test_of_two_objects_that_overlap_equally_the_first_is_taken() -> None:
    """As MATLAB's max: it decides which object is found, and so the subsets; a second detection takes the other."""
    box = np.array([[0, 0, 10, 10], [10, 0, 20, 10]], np.float32)
    none = np.zeros(2, np.bool_)
    for order in ([0, 1], [1, 0]):
        truth = GroundTruth(np.zeros(2, np.int64), np.zeros(2, np.int64), box[order], none, none, 1, 1)
        between = np.array([[5, 0, 15, 10]] * 2, np.float32)
        found = FlatDetections(np.zeros(2, np.int64), np.zeros(2, np.int64), between, np.array([2, 1], np.float32))
        assert match_unfound(found, truth, 0.3).nearest.tolist() == [0, 1]
        assert match(found, truth, 0.3).nearest.tolist() == [0, 0]
        assert match(found, truth, 0.3).right.tolist() == [True, False]
