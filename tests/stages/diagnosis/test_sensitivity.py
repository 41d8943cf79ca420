"""Subsets of objects, against leaving detections out one by one; lowest and highest by hand."""

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of

from stages.diagnosis.characteristics import Characteristic, from_boxes, from_table
from stages.diagnosis.sensitivity import ClassSubsets, Sensitivity, class_subsets, mean_subset, sensitivities
from stages.scoring.matching import match
from stages.scoring.normalised import NormalisedAP, normalised_ap, wrong_above
from stages.scoring.unfound import match_unfound


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rule", [match, match_unfound])
def test_a_subset_s_other_objects_are_neither_right_nor_wrong(seed: int, rule: object) -> None:
    assert callable(rule)
    truth, found = random_case(seed, n_images=25)
    rng = np.random.default_rng(seed)
    kinds = {row: "xyz"[rng.integers(3)] for row in range(len(truth.labels)) if rng.random() < 0.8}
    characteristics = [*from_table({"kind": kinds}, len(truth.labels)), *from_boxes(truth)]
    matches = rule(found, truth, 0.5)
    for label in range(3):
        got = class_subsets(matches, truth, label, characteristics, 7.5)
        assert got is not None
        for one in characteristics:
            members = np.flatnonzero((truth.labels == label) & ~truth.ignored)
            subset = dict(zip(members.tolist(), one.of(members).tolist(), strict=True))
            for j, name in enumerate(one.subsets):
                flags = []
                for d in matches.ranked(label).tolist():
                    if matches.right[d] and subset[matches.nearest[d]] == j:
                        flags.append(True)
                    elif not matches.right[d] and not matches.ignored[d]:
                        flags.append(False)
                size = sum(of == j for of in subset.values())
                assert got.subsets[one.name][name] == normalised_ap(wrong_above(np.array(flags, bool)), size, 7.5)


def test_a_class_without_objects_and_a_characteristic_that_is_not_known_of_it() -> None:
    truth = truth_of([(0, 0, [0, 0, 9, 9], True), (0, 1, [0, 0, 9, 9])], 1, 2)
    matches = match(detections_of([(0, 0, [0, 0, 9, 9], 1.0)]), truth, 0.5)
    of_first = Characteristic("kind", ("x",), np.array([0, -1]))
    assert class_subsets(matches, truth, 0, [of_first], 1.0) is None
    other = class_subsets(matches, truth, 1, [of_first], 1.0)
    assert other is not None and other.whole.ap == 0.0 and other.subsets == {}


def ap(value: float, n_objects: int, error: float = 0.0) -> NormalisedAP:
    return NormalisedAP(value, error, n_objects, 1)


def test_lowest_and_highest_are_of_subsets_with_five_objects() -> None:
    first = ClassSubsets(
        ap(0.5, 20), {"part.a": {"0": ap(0.1, 4), "1": ap(0.4, 5)}, "part.b": {"0": ap(0.7, 9), "1": None}}
    )
    second = ClassSubsets(ap(0.9, 20), {"part.a": {"0": ap(0.2, 5), "1": ap(0.8, 15)}, "side": {"0": ap(0.3, 2)}})
    groups = {"part.a": "part", "part.b": "part", "side": "side"}
    found = sensitivities([first, second], groups)
    assert list(found) == ["part"]  # no subset of side is large enough
    got = found["part"]
    assert (got.low, got.high, got.whole, got.n_classes) == pytest.approx(((0.4 + 0.2) / 2, 0.75, 0.7, 2))
    assert sensitivities([], groups) == {}
    assert isinstance(got, Sensitivity)


def test_the_mean_of_a_subset_is_over_classes_that_have_it() -> None:
    classes = [
        ClassSubsets(ap(0.5, 20), {"kind": {"x": ap(0.2, 10, 0.3)}}),
        ClassSubsets(ap(0.5, 20), {"kind": {"x": ap(0.6, 10, 0.4)}}),
        ClassSubsets(ap(0.5, 20), {"kind": {"x": ap(1.0, 4, 9.0)}}),
        ClassSubsets(ap(0.5, 20), {}),
    ]
    assert mean_subset(classes, "kind", "x") == pytest.approx((0.4, 0.25))
    assert mean_subset(classes[2:], "kind", "x") is None
