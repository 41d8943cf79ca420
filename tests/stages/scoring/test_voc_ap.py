"""VOC matching and AP against a hand-computed case and against the devkit's loops written out."""

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, slow_aps, slow_voc_flags, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from stages.scoring.matching import match
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.voc import Curve, area_ap, best_f1_score, curve, eleven_point_ap, mean_ap

A, B, FAR = (0, 0, 10, 10), (20, 20, 40, 40), (60, 60, 80, 80)


def ap_of(found: FlatDetections, truth: GroundTruth, label: int = 0) -> tuple[float, float]:
    one = curve(found, match(found, truth, 0.5), truth, label)
    assert one is not None
    return area_ap(one.recall, one.precision), eleven_point_ap(one.recall, one.precision)


def test_hand_computed_case_with_difficult_duplicate_and_exact_half() -> None:
    truth = truth_of(
        [(0, 0, A), (0, 0, B), (0, 0, (100, 0, 110, 10), True), (1, 0, A), (1, 1, B)], n_images=2, n_classes=2
    )
    found = detections_of(
        [
            (0, 0, (0, 0, 10, 5), 0.9),  # IoU exactly 1/2: right
            (0, 0, A, 0.8),  # the same object again: wrong, although it fits better
            (0, 0, (100, 0, 110, 10), 0.7),  # difficult: ignored
            (0, 0, (101, 0, 110, 10), 0.65),  # difficult again: ignored again
            (0, 0, FAR, 0.5),  # nothing there: wrong
            (1, 0, A, 0.6),  # right
            (1, 0, B, 0.4),  # an object of another class: wrong
        ]
    )
    matches = match(found, truth, 0.5)
    assert matches.right.tolist() == [True, False, False, False, False, True, False]
    assert matches.ignored.tolist() == [False, False, True, True, False, False, False]
    # Ranked: right, wrong, (ignored x2), right, wrong, wrong. Recall 1/3 at precision 1, 2/3 at 2/3.
    area, eleven = ap_of(found, truth)
    assert area == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert eleven == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


def test_just_below_half_is_wrong() -> None:
    """(8193 * 8193 - 1) / 2 = 8192 * 4097: an IoU that is less than one half, but not after rounding to float32."""
    truth = truth_of([(0, 0, (0, 0, 8193, 8193))], 1, 1)
    found = detections_of([(0, 0, (0, 0, 8192, 4097), 1.0)])
    matches = match(found, truth, 0.5)
    assert np.float32(matches.overlap[0]) == 0.5
    assert not matches.right.any()


def test_only_the_nearest_object_counts() -> None:
    """VOCevaldet never falls back to the second-best object, unlike COCO's matching."""
    truth = truth_of([(0, 0, (0, 0, 10, 10)), (0, 0, (3, 0, 13, 10))], 1, 1)
    found = detections_of([(0, 0, (0, 0, 10, 10), 0.9), (0, 0, (1, 0, 11, 10), 0.8)])
    assert match(found, truth, 0.5).right.tolist() == [True, False]


def test_equal_scores_keep_input_order() -> None:
    truth = truth_of([(0, 0, A), (1, 0, A)], 2, 1)
    first_right = detections_of([(0, 0, A, 0.5), (1, 0, FAR, 0.5)])
    first_wrong = detections_of([(0, 0, FAR, 0.5), (1, 0, A, 0.5)])
    assert ap_of(first_right, truth)[0] == pytest.approx(0.5)
    assert ap_of(first_wrong, truth)[0] == pytest.approx(0.25)


def test_eleven_points_take_equal_ratios_as_equal() -> None:
    recall = np.arange(1, 11) / 10  # 3/10 < 0.30000000000000004, the devkit's third step
    precision = np.linspace(1, 0.1, 10)
    assert eleven_point_ap(recall, precision) == pytest.approx((precision.sum() + 1) / 11)


@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 0.75]))
@settings(deadline=None, max_examples=25)
def test_equals_the_devkits_loops(seed: int, min_iou: float) -> None:
    truth, found = random_case(seed, crowd=0.05)
    matches = match(found, truth, min_iou)
    for label in range(truth.n_classes):
        order, flags = slow_voc_flags(truth, found, label, min_iou)
        ranked = matches.ranked(label)
        assert ranked.tolist() == order
        assert ["ignored" if matches.ignored[i] else "tp" if matches.right[i] else "fp" for i in ranked] == flags
        one = curve(found, matches, truth, label)
        n_objects = int(truth.positives[label])
        if not n_objects:
            assert one is None
            continue
        assert one is not None
        area, eleven = slow_aps(flags, n_objects)
        assert area_ap(one.recall, one.precision) == pytest.approx(area, abs=1e-12)
        assert eleven_point_ap(one.recall, one.precision) == pytest.approx(eleven, abs=1e-12)


def test_long_lists_are_matched_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = random_case(5, n_images=40)
    whole = match(found, truth, 0.5)
    monkeypatch.setattr("stages.scoring.matching._PAIRS_AT_ONCE", 3)
    parts = match(found, truth, 0.5)
    assert np.array_equal(whole.nearest, parts.nearest)
    assert np.array_equal(whole.overlap, parts.overlap)
    assert np.array_equal(whole.right, parts.right)


def test_perfect_nothing_and_no_objects() -> None:
    truth = truth_of([(0, 0, A), (1, 0, B)], 2, 2)
    perfect = detections_of([(0, 0, A, 0.1), (1, 0, B, 0.9)])
    nothing = detections_of([])
    assert ap_of(perfect, truth) == pytest.approx((1.0, 1.0))
    assert ap_of(nothing, truth) == (0.0, 0.0)
    assert curve(perfect, match(perfect, truth, 0.5), truth, 1) is None
    assert mean_ap([None, 0.5, None]) == 0.5
    assert mean_ap([None]) is None


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_best_f1_is_that_of_scikit_learn(right: list[bool], missed: int) -> None:
    scores = np.linspace(2, -1, len(right))
    flags, n_objects = np.array(right, bool), sum(right) + missed
    found = np.cumsum(flags)
    one = Curve(scores, found / max(n_objects, 1), found / np.arange(1, len(flags) + 1), flags, n_objects)
    is_object = np.concatenate([flags, np.ones(missed, bool)])
    kept = np.concatenate([scores, np.full(missed, -np.inf)])  # a missed object is kept at no score
    f1 = [f1_score(is_object, kept >= score, zero_division=0) for score in scores]
    if not flags.any():
        assert best_f1_score(one) is None
    else:
        assert f1[scores.tolist().index(best_f1_score(one))] == pytest.approx(max(f1))
