"""What the first false positives are, against counting them one by one, and cases by hand."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of

from stages.diagnosis.analysis import RULES, diagnose_set
from stages.diagnosis.false_positives import (
    FALSE_POSITIVES,
    MULTIPLES,
    Mixture,
    RankedClass,
    detection_mixtures,
    false_positive_mixtures,
    impacts,
    ranked_classes,
    recalls,
)
from stages.diagnosis.settings import DiagnoseSettings
from stages.scoring.mistakes import MIN_CONTACT, Verdict, diagnose, similarity
from stages.scoring.voc import area_ap, curve

R, LOC, SIM, OTH, BG, IGN = Verdict
NAMES = ("a", "b", "c")
SIMILAR = similarity(NAMES, [("a", "b")])


def ranked(*verdicts: Verdict, n_objects: int = 4, repaired: tuple[bool, ...] = ()) -> RankedClass:
    return RankedClass(np.array(verdicts, np.int64), np.array(repaired, bool), n_objects)


def slow_mixture(classes: list[RankedClass], at: float, *, twice: bool, wrong_alone: bool) -> list[int] | None:
    """Take the first of every class, then the second of each ... until there are as many as asked for."""
    counts: Counter[Verdict] = Counter()
    for rank in range(max((len(one.verdicts) for one in classes), default=0)):
        for one in classes:
            if rank < len(one.verdicts):
                verdict = Verdict(one.verdicts[rank])
                counts[R if verdict == IGN else verdict] += 1
        x = sum(counts[kind] for kind in (LOC, SIM, OTH, BG)) + (counts[BG] if twice else 0)
        x += 0 if wrong_alone else counts[R]
        if x >= at:
            return [counts[kind] for kind in (R, LOC, SIM, OTH, BG)]
    return None


def numbers(of: Mixture) -> list[int]:
    return [of.right, of.localisation, of.similar, of.other, of.background]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("twice", [False, True])
def test_mixtures_are_those_of_the_loop(seed: int, twice: bool) -> None:
    rng = np.random.default_rng(seed)
    classes = [
        ranked(*map(Verdict, rng.integers(0, 6, rng.integers(0, 150)).tolist()), n_objects=int(rng.integers(1, 60)))
        for _ in range(rng.integers(1, 4))
    ]
    found = {one.at: numbers(one) for one in false_positive_mixtures(classes, background_twice=twice)}
    for at in FALSE_POSITIVES:
        assert found.get(at) == slow_mixture(classes, at, twice=twice, wrong_alone=True)
    objects = sum(one.n_objects for one in classes)
    unit = int(Fraction(objects, len(classes)) + Fraction(1, 2)) if twice else objects
    found = {one.at: numbers(one) for one in detection_mixtures(classes, background_twice=twice)}
    for multiple in MULTIPLES:
        assert found.get(multiple) == slow_mixture(classes, multiple * unit, twice=twice, wrong_alone=False)


def test_no_false_positives_are_no_mixture() -> None:
    assert false_positive_mixtures([ranked(R, R, IGN)], background_twice=False) == []
    assert false_positive_mixtures([], background_twice=False) == [] == detection_mixtures([], background_twice=True)
    assert detection_mixtures([ranked(BG, n_objects=0)], background_twice=False) == []


def test_what_each_kind_costs_by_hand() -> None:
    """Four objects, of which two are found, after a mistake of each kind."""
    of = ranked(LOC, SIM, R, IGN, OTH, BG, R, repaired=(True, False, True, False, False, True))
    found = impacts(of)
    assert found is not None
    # precision is 1/3 at the first, 2/6 at the second
    assert found["all"] == pytest.approx((1 / 3 + 1 / 3) / 4)
    assert found["no_localisation"] == pytest.approx((1 / 2 + 2 / 5) / 4)
    assert found["no_background"] == pytest.approx((2 / 5 + 2 / 5) / 4)
    assert found["no_background_or_other"] == pytest.approx((1 / 2 + 1 / 2) / 4)
    assert found["only_similar"] == pytest.approx((2 / 3 + 2 / 3) / 4)
    assert found["only_background"] == pytest.approx((1 + 2 / 3) / 4)
    assert found["repaired_localisation"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    assert impacts(ranked(BG, n_objects=0)) is None


def test_recall_by_hand() -> None:
    of = ranked(BG, R, R, R, n_objects=4, repaired=(False, True, True))
    at = dict(zip(MULTIPLES, recalls(of), strict=True))
    assert at[1 / 8] == (0.0, 0.0)  # one detection at least
    assert at[1 / 2] == (0.25, 0.25) and at[1] == (0.75, 0.5) and at[8] == (0.75, 0.5)
    assert recalls(ranked(BG, n_objects=0))[0] == (None, None)
    assert set(recalls(ranked(n_objects=3))) == {(0.0, 0.0)}  # nothing detected: nothing found


@pytest.mark.parametrize("matching", ["voc", "hoiem"])
@pytest.mark.parametrize("seed", range(5))
def test_ap_is_that_of_the_curve_and_repair_drops_duplicates(seed: int, matching: str) -> None:
    truth, found = random_case(seed, n_images=30)
    rule = RULES[matching]
    matches = rule(found, truth, 0.5)
    verdicts = diagnose(found, matches, truth, SIMILAR)
    weak = rule(found, truth, MIN_CONTACT)
    for label, one in enumerate(ranked_classes(matches, weak, verdicts, truth)):
        drawn, aps = curve(found, matches, truth, label), impacts(one)
        assert drawn is not None and aps is not None
        assert aps["all"] == pytest.approx(area_ap(drawn.recall, drawn.precision))
        kept = []
        for d in weak.ranked(label).tolist():
            if weak.right[d] or (not weak.ignored[d] and weak.overlap[d] < MIN_CONTACT):
                kept.append(bool(weak.right[d]))
        assert one.repaired.tolist() == kept


def test_confusions_are_of_the_best_detections_alone() -> None:
    box, far = [0, 0, 10, 10], [40, 40, 50, 50]
    truth = truth_of([(0, 0, box), (1, 1, box), (2, 2, box)], 3, 3)
    found = detections_of([(0, 0, far, 0.1), (1, 0, box, 0.9), (2, 0, box, 0.5)])
    of = diagnose_set(found, truth, NAMES, [], DiagnoseSettings(similar_classes=(("a", "b"),))).confusions
    assert of == {"a": {"b": 1}, "b": {}, "c": {}}
