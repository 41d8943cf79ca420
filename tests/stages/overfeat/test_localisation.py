"""Localisation's guesses and errors, all worked out by hand on a few windows and boxes."""

from dataclasses import replace

import numpy as np
import pytest

from manifests import ImageRecord
from stages.detections.suppression import BoxSet
from stages.overfeat.localisation import (
    Guesses,
    LocalisationErrors,
    Target,
    all_guesses,
    centre_guesses,
    fewer_classes,
    merged_guesses,
    target_of,
)
from stages.overfeat.settings import MergeSettings
from stages.overfeat.windows import EVERY_CLASS, ScoredWindows

WIDTH, HEIGHT = 100, 60


def windows_of(*, per_class: bool = False) -> ScoredWindows:
    """Three windows at 64 px, of which the second is nearest to the centre, and one at 96 px that is nearer still."""
    windows = np.array([[0, 0, 60, 60], [18, 0, 78, 60], [40, 0, 100, 60], [20, 0, 80, 60]], np.float32)
    scores = np.array([[0.1, 0.5, 0.3], [0.4, 0.1, 0.4], [0.2, 0.3, 0.1], [0.1, 0.1, 0.7]], np.float32)
    edges = np.stack([[[label, 5, 90 + 10 * label, 70] for label in range(3)]] * 4).astype(np.float32)
    classes = np.tile(np.arange(3), (4, 1))
    if not per_class:
        edges, classes = edges[:, :1], np.full((4, 1), EVERY_CLASS)
    return ScoredWindows(windows, np.array([64, 64, 64, 96]), np.ones(4, np.bool_), scores, edges, classes)


def test_the_centre_guess_is_the_window_nearest_to_the_centre_at_the_smallest_scale() -> None:
    plain = centre_guesses(windows_of(), WIDTH, HEIGHT, regressed=False)
    assert plain.labels.tolist() == [0, 2, 1]  # of equal ones the first class
    assert plain.boxes.tolist() == [[18, 0, 78, 60]] * 3
    moved = centre_guesses(windows_of(), WIDTH, HEIGHT, regressed=True)
    assert moved.labels.tolist() == [0, 2, 1] and moved.boxes.tolist() == [[0, 5, 90, 60]] * 3  # clipped
    own = centre_guesses(windows_of(per_class=True), WIDTH, HEIGHT, regressed=True)
    assert own.labels.tolist() == [0, 2, 1]
    assert own.boxes.tolist() == [[0, 5, 90, 60], [2, 5, 100, 60], [1, 5, 100, 60]]


def test_of_regressors_by_class_only_those_asked_guess() -> None:
    every = windows_of(per_class=True)
    some = replace(every, edges=every.edges[:, [2, 1]], edge_classes=every.edge_classes[:, [2, 1]])
    found = centre_guesses(some, WIDTH, HEIGHT, regressed=True)
    assert found.labels.tolist() == [2, 1] and found.boxes[0].tolist() == [2, 5, 100, 60]
    assert centre_guesses(some, WIDTH, HEIGHT, regressed=False).labels.tolist() == [0, 2, 1]


def test_merged_guesses_are_each_classes_best_box() -> None:
    boxes = np.arange(20, dtype=np.float32).reshape(5, 4)
    found = BoxSet(boxes, np.array([0.9, 0.2, 1.5, 1.2, 0.9], np.float32), np.array([0, 0, 2, 2, 3]))
    guesses = merged_guesses(found)
    assert guesses.labels.tolist() == [2, 0, 3]
    np.testing.assert_array_equal(guesses.boxes, boxes[[2, 0, 4]])
    empty = BoxSet(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert merged_guesses(empty).labels.tolist() == []


def test_the_smallest_scales_merge_by_themselves() -> None:
    """Class 1 wins at 64 px with .5 + .1 + .3; class 2 with all windows, .3 + .4 + .1 + .7."""
    found = all_guesses(windows_of(), (1, 2, 9), MergeSettings(t=0.5, score_floor=0), WIDTH, HEIGHT)
    assert list(found) == ["centre_window", "centre_regressed", "merged_1", "merged_2", "merged_9", "merged"]
    assert found["merged_1"].labels.tolist() == [1, 2, 0] and found["merged_2"].labels.tolist() == [2, 1, 0]
    assert found["merged_9"].labels.tolist() == found["merged_2"].labels.tolist()
    assert found["merged"].labels.tolist() == found["merged_2"].labels.tolist()
    np.testing.assert_array_equal(found["merged"].boxes, found["merged_2"].boxes)


def test_only_the_best_classes_of_each_scale_merge() -> None:
    """At 64 px class 1's .5 is the best, at 96 px class 2's .7, so that class 0, of .4, is never guessed with k 1."""
    every = MergeSettings(t=0.5, score_floor=0)
    few = fewer_classes(every, 1)
    found = all_guesses(windows_of(), (1,), few, WIDTH, HEIGHT)
    assert found["merged_1"].labels.tolist() == [1] and found["merged"].labels.tolist() == [1, 2]
    for own, k, kept in ((2, 5, 2), (7, 5, 5), (7, None, 7)):
        assert fewer_classes(every.model_copy(update={"k": own}), k).k == kept
    assert fewer_classes(every, None).k is None


def record_of(labels: list[int], difficult: list[bool], crowd: list[bool]) -> ImageRecord:
    boxes = np.array([[10 * k, 0, 10 * k + 8, 8] for k in range(len(labels))], np.float32).reshape(-1, 4)
    return ImageRecord(
        1,
        "1.png",
        WIDTH,
        HEIGHT,
        "0" * 64,
        "test",
        boxes,
        np.array(labels, np.int64),
        difficult=np.array(difficult, bool),
        crowd=np.array(crowd, bool),
    )


@pytest.mark.parametrize(
    ("labels", "difficult", "crowd", "wanted"),
    [
        ([2, 2], [False, False], [False, False], (2, [0, 10])),
        ([2, 1], [False, False], [False, False], None),
        ([2, 1], [False, True], [False, False], (2, [0])),
        ([2, 1], [False, False], [True, False], (1, [10])),
        ([2, 2], [True, False], [False, True], None),
        ([], [], [], None),
    ],
)
def test_an_image_shows_a_class_where_all_that_counts_is_of_it(
    labels: list[int], difficult: list[bool], crowd: list[bool], wanted: tuple[int, list[float]] | None
) -> None:
    target = target_of(record_of(labels, difficult, crowd))
    assert (None if target is None else (target.label, target.boxes[:, 0].tolist())) == wanted


def test_errors_by_hand() -> None:
    """Five images are right at once, of a wrong box, right at the second guess, at the third, and never guessed."""
    target = Target(1, np.array([[0, 0, 10, 10], [50, 0, 60, 10]], np.float32))
    right, wrong = [50, 0, 60, 5], [0, 0, 9, 5]  # IoU .5 with an object, and .45
    errors = LocalisationErrors(0.5)
    for labels, box in (([1, 0], right), ([1, 0], wrong), ([0, 1], right), ([0, 2, 1], right), ([0, 2], right)):
        errors.add(Guesses(np.array(labels), np.array([box] * len(labels), np.float32)), target)
    assert errors.rates(2, 4) == {
        "images": 5,
        "top1_error": 80.0,
        "topn_error": 60.0,
        "class_error": 60.0,
        "class_topn_error": 40.0,
    }
    assert errors.rates(3, 4)["topn_error"] == 40.0 and errors.rates(3, 4)["class_topn_error"] == 20.0
    trivial = errors.rates(4, 4)  # all classes could be guessed
    assert trivial["topn_error"] is trivial["class_topn_error"] is None and trivial["top1_error"] == 80.0
    assert LocalisationErrors(0.5).rates(5, 20)["topn_error"] is None
