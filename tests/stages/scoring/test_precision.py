"""Precision by score, read off the file of the curves, beside counting."""

import csv
import io

import numpy as np
import pytest
from evaluation_cases import random_case
from numpy.typing import NDArray

from stages.detections.precise import Precise
from stages.detections.suppression import Detection
from stages.scoring.files import pr_csv
from stages.scoring.matching import match
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.precision import PrecisionCurve, precision_curves
from stages.scoring.voc import Curve, curve

CLASSES = ("a", "b", "c")


def curves_of(truth: GroundTruth, found: FlatDetections) -> tuple[list[Curve | None], dict[str, PrecisionCurve]]:
    """The curves themselves, and what is read of their file."""
    matches = match(found, truth, 0.5)
    curves = [curve(found, matches, truth, j) for j in range(3)]
    rows = list(csv.DictReader(io.StringIO(pr_csv({"bbox": curves, "no_bbox": [None] * 3}, CLASSES))))
    assert precision_curves(rows, "no_bbox") == {}
    return curves, precision_curves(rows, "bbox")


def counted(one: Curve, score: float) -> float:
    """The precision down to the last right detection of a score, by counting; or to the last of all, if it has it."""
    told = one.right | (np.arange(len(one.right)) == len(one.right) - 1)
    last = np.flatnonzero(told & (one.scores == score))[-1]
    return float(one.right[: last + 1].mean())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_right_detections_have_exactly_their_precision(seed: int, ties: bool) -> None:
    curves, read = curves_of(*random_case(seed, ties=ties))
    for name, one in zip(CLASSES, curves, strict=True):
        if one is None or not len(one.scores):
            assert name not in read
            continue
        asked = one.scores[one.right]
        expected = np.array([counted(one, s) for s in asked])
        np.testing.assert_allclose(read[name].at(asked), expected, rtol=1e-9)
        all_at_least = np.array([one.right[one.scores >= s].mean() for s in asked])
        assert (read[name].at(asked) >= all_at_least - 1e-9).all()
        if not ties:
            np.testing.assert_allclose(expected, all_at_least, rtol=1e-9)


def test_wrong_ones_of_a_right_one_s_score_count_before_it_and_not_behind_it() -> None:
    """Score 3: right, wrong. Score 2: wrong, right. Score 1: right, wrong, the last of all."""
    right = np.array([True, False, False, True, True, False])
    found = np.cumsum(right)
    one = Curve(np.array([3.0, 3, 2, 2, 1, 1]), found / 3, found / np.arange(1, 7), right, 3)
    rows = list(csv.DictReader(io.StringIO(pr_csv({"bbox": [one, None, None]}, CLASSES))))
    assert precision_curves(rows, "bbox")["a"].at([3, 2, 1]) == pytest.approx([1, 2 / 4, 3 / 6])


@pytest.mark.parametrize("seed", range(6))
def test_wrong_ones_lie_between_their_neighbours(seed: int) -> None:
    curves, read = curves_of(*random_case(seed, ties=False))
    for name, one in zip(CLASSES, curves, strict=True):
        if one is None or not len(one.scores):
            continue
        rights = np.flatnonzero(one.right)
        for i in np.flatnonzero(~one.right).tolist():
            value = float(read[name].at(one.scores[[i]])[0])
            earlier, later = rights[rights < i], rights[rights > i]
            high = one.precision[earlier[-1]] if len(earlier) else 0.0
            low = one.precision[later[0] - 1] if len(later) else one.precision[-1]
            assert low - 1e-9 <= value <= high + 1e-9


def by_hand() -> PrecisionCurve:
    """Right at 4, wrong at 3 and 2, right at 1, wrong at 0."""
    rows = [
        {"regression": "bbox", "class": "a", "score": s, "recall": r, "precision": p}
        for s, r, p in (("4", "0.5", "1.0"), ("1", "1.0", "0.5"), ("0", "1.0", "0.4"))
    ]
    return precision_curves(rows, "bbox")["a"]


def test_a_curve_by_hand() -> None:
    asked = np.array([[9.0, 4.0, 2.5], [1.0, 0.0, -0.1]])
    np.testing.assert_allclose(by_hand().at(asked), [[1, 1, 1 - (1 - 1 / 3) / 2], [0.5, 0.4, 0]])


def test_what_is_better_than_a_best_one_that_is_wrong() -> None:
    rows = [
        {"regression": "bbox", "class": "a", "score": s, "recall": r, "precision": p}
        for s, r, p in (("3", "1.0", "0.5"), ("1", "1.0", "0.25"))
    ]
    np.testing.assert_allclose(precision_curves(rows, "bbox")["a"].at([9, 3]), [0, 0.5])
    nothing = [{"regression": "bbox", "class": "a", "score": "3", "recall": "0.0", "precision": "0.0"}]
    assert precision_curves(nothing, "bbox")["a"].at([9, 3, 1]).tolist() == [0, 0, 0]


def boxes(labels: str, scores: NDArray[np.float64] | list[float]) -> list[Detection]:
    return [Detection(label, float(score), (0, 0, 1, 1)) for label, score in zip(labels, scores, strict=True)]


def test_detections_are_chosen_by_their_precision_and_have_it() -> None:
    shown = Precise({"a": by_hand()})(boxes("aaabaa", [1.0, 2.5, 4.0, 9.0, 0.5, -3.0]))
    assert [(d.label, round(d.score, 3)) for d in shown] == [("a", 1.0), ("a", 0.667)]
    assert [round(d.score, 3) for d in Precise({"a": by_hand()}, 0.45)(boxes("aaa", [0.5, 1.0, 4.0]))] == [
        1.0,
        0.5,
        0.5,
    ]
