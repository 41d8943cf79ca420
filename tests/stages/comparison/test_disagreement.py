"""Which images detectors disagree on, against a loop over images."""

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of

from stages.comparison.disagreement import disagreement, image_f1, most_disputed, worth_keeping
from stages.scoring.matching import match

CLASSES = ("cat", "dog", "cow")


@pytest.mark.parametrize("seed", range(4))
def test_f1_is_that_of_a_loop_over_images(seed: int) -> None:
    truth, found = random_case(seed, n_images=25, crowd=0.1)
    matches = match(found, truth, 0.5)
    kept = worth_keeping(found, {"cat": 0.5, "cow": -0.25}, CLASSES)
    assert kept.tolist() == [
        bool((label == 0 and score >= 0.5) or (label == 2 and score >= -0.25))
        for label, score in zip(found.labels, found.scores, strict=True)
    ]
    got = image_f1(found, matches, truth, kept)
    for i in range(25):
        shown = [d for d in np.flatnonzero(found.image == i) if kept[d] and not matches.ignored[d]]
        objects = int((~truth.ignored & (truth.image == i)).sum())
        right = sum(bool(matches.right[d]) for d in shown)
        recall, precision = right / (objects or 1), right / (len(shown) or 1)
        expected = 2 * recall * precision / (recall + precision) if right else float(not objects and not shown)
        assert got[i] == pytest.approx(expected)


def test_an_image_with_nothing_to_find_is_right_when_nothing_is_found() -> None:
    truth = truth_of([(2, 0, (0, 0, 9, 9), True)], 3, 1)  # image 2: a difficult object, found
    found = detections_of([(1, 0, (0, 0, 9, 9), 1.0), (2, 0, (0, 0, 9, 9), 1.0)])
    f1 = image_f1(found, match(found, truth, 0.5), truth, np.ones(2, bool))
    assert f1.tolist() == [1.0, 0.0, 1.0]


def test_the_most_disputed_come_first_and_equals_by_id() -> None:
    f1 = np.array([[1.0, 0.5, 2 / 3, 0.2], [0.0, 0.5, 1 / 3, 0.2 + 1 / 3]])
    assert disagreement(f1).tolist() == pytest.approx([1, 0, 1 / 3, 1 / 3], abs=1e-9)
    assert most_disputed(f1, [9, 8, 7, 6], 10) == [0, 3, 2, 1]
    assert most_disputed(f1, [9, 8, 6, 7], 3) == [0, 2, 3]
    assert most_disputed(f1[:1], [3, 1, 2, 0], 2) == [3, 1]  # one detector: by id
    assert most_disputed(np.ones((2, 0)), [], 5) == []
