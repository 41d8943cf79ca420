"""Kinds of false positives, hand-made, and the examples chosen for the report."""

from collections.abc import Sequence

import numpy as np
from evaluation_cases import detections_of, random_case, truth_of

from stages.scoring.examples import examples
from stages.scoring.matching import Matches, match
from stages.scoring.mistakes import Diagnosis, Verdict, count_errors, diagnose, similarity
from stages.scoring.objects import FlatDetections, GroundTruth

CAT, DOG, CAR = 0, 1, 2
CLASSES = ("cat", "dog", "car")
TRUTH = truth_of(
    [
        (0, CAT, (0, 0, 10, 10)),
        (0, DOG, (50, 50, 60, 60)),
        (0, CAR, (80, 80, 90, 90)),
        (0, CAT, (20, 80, 30, 90), True),
        (1, CAT, (0, 0, 40, 40)),
    ],
    n_images=2,
    n_classes=3,
)
FOUND = detections_of(
    [
        (0, CAT, (0, 0, 10, 10), 0.9),  # right
        (0, CAT, (0, 0, 10, 9), 0.8),  # duplicate
        (0, CAT, (0, 0, 10, 2), 0.7),  # IoU 0.2: poorly localised
        (0, CAT, (50, 50, 60, 60), 0.6),  # a dog
        (0, CAT, (80, 80, 90, 90), 0.5),  # a car
        (0, CAT, (200, 200, 210, 210), 0.4),  # nothing
        (0, CAT, (20, 80, 30, 90), 0.3),  # difficult
        (0, CAT, (80, 80, 90, 80.5), 0.2),  # IoU 0.05 with a car: nothing
    ]
)


def diagnosed(
    truth: GroundTruth = TRUTH, found: FlatDetections = FOUND, sets: Sequence[Sequence[str]] = (("cat", "dog"),)
) -> tuple[Matches, Diagnosis]:
    matches = match(found, truth, 0.5)
    return matches, diagnose(found, matches, truth, similarity(CLASSES, sets))


def test_every_kind_is_told_apart() -> None:
    _, diagnosis = diagnosed()
    assert [Verdict(k).name for k in diagnosis.verdict] == [
        "RIGHT",
        "LOCALISATION",
        "LOCALISATION",
        "SIMILAR",
        "OTHER",
        "BACKGROUND",
        "IGNORED",
        "BACKGROUND",
    ]
    assert diagnosis.confused.tolist() == [-1, -1, -1, DOG, CAR, -1, -1, -1]


def test_unknown_names_make_nothing_similar() -> None:
    _, diagnosis = diagnosed(sets=(("cat", "tiger"),))
    assert Verdict.SIMILAR not in diagnosis.verdict
    assert diagnosis.verdict[3] == Verdict.OTHER


def test_counts_are_of_the_best_detections_without_ignored_ones() -> None:
    matches, diagnosis = diagnosed()
    cats = [c for c in count_errors(matches, TRUTH, diagnosis) if c.label == CAT]
    assert [(c.multiple, c.ranked) for c in cats] == [(0.25, 1), (0.5, 1), (1.0, 2), (2.0, 4), (4.0, 7)]
    last = cats[-1]
    assert (last.right, last.localisation, last.similar, last.other, last.background) == (1, 2, 1, 1, 2)


def test_counts_add_up_on_random_cases() -> None:
    truth, found = random_case(8, n_images=30)
    matches, diagnosis = diagnosed(truth, found)
    rows = list(count_errors(matches, truth, diagnosis))
    assert {c.label for c in rows} == {0, 1, 2}
    for c in rows:
        assert c.right + c.localisation + c.similar + c.other + c.background == c.ranked
    assert sum(c.right for c in rows if c.multiple == 4.0) <= matches.right.sum()


def test_examples_show_best_worst_and_missed() -> None:
    matches, diagnosis = diagnosed()
    coverage = np.array([0.9, 0.1, 0.2, 0.3, 0.45])
    shown = examples(FOUND, matches, TRUTH, diagnosis, coverage, [17, 18], CLASSES, limit=2)
    assert [e["score"] for e in shown["cat"]["right"]] == [np.float32(0.9)]
    assert [(e["kind"], e["image"]) for e in shown["cat"]["wrong"]] == [("localisation", 17)] * 2
    assert shown["cat"]["missed"] == [{"image": 18, "box": [0, 0, 40, 40], "proposal_iou": 0.45}]
    assert shown["dog"]["missed"][0]["image"] == 17
    assert shown["dog"]["wrong"] == []


def test_examples_take_other_images_first() -> None:
    truth = truth_of([(0, 0, (0, 0, 9, 9))], 3, 3)
    far = (50, 50, 60, 60)
    found = detections_of([(0, 0, far, 0.9), (0, 0, far, 0.8), (1, 0, far, 0.7), (2, 0, far, 0.6)])
    matches, diagnosis = diagnosed(truth, found)
    shown = examples(found, matches, truth, diagnosis, np.zeros(1), [5, 6, 7], CLASSES, limit=3)
    assert [e["image"] for e in shown["cat"]["wrong"]] == [5, 6, 7]
