"""The whole diagnosis against the figures of Hoiem et al.'s program and of tidecv, on VOC 2007's test set."""

from collections.abc import Mapping

import numpy as np
import pytest
from hoiem import DETAILED, FOLDER, Hoiem, read_hoiem

from stages.diagnosis.analysis import DiagnosisOfSet
from stages.diagnosis.document import Diagnosed, diagnosed
from stages.diagnosis.false_positives import Mixture
from stages.diagnosis.sensitivity import sensitivities
from stages.diagnosis.settings import DiagnoseSettings
from stages.scoring.matching import match
from stages.scoring.mistakes import Verdict, diagnose, similarity
from stages.scoring.objects import GroundTruth
from stages.scoring.settings import VOC_SIMILAR
from stages.scoring.unfound import match_unfound

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/golden/hoiem"),
]


@pytest.fixture(scope="module")
def hoiem() -> Hoiem:
    return read_hoiem()


@pytest.fixture(scope="module", params=["voc", "hoiem"])
def made(hoiem: Hoiem, request: pytest.FixtureRequest) -> Diagnosed:
    settings = DiagnoseSettings(matching=request.param, background_twice=True)
    dataset = hoiem.dataset
    return diagnosed("golden", dataset.images, dataset.classes, {"bbox": hoiem.detections}, hoiem.table, settings)


@pytest.fixture(scope="module")
def one(made: Diagnosed) -> DiagnosisOfSet:
    return made.first


def test_what_is_read_is_all_of_it(hoiem: Hoiem) -> None:
    truth = GroundTruth.of(hoiem.dataset.images, 20)
    assert (truth.n_images, int(truth.positives.sum()), int(truth.difficult.sum())) == (4952, 12032, 2944)
    assert len(hoiem.detections) == 24778


def test_average_precision(one: DiagnosisOfSet) -> None:
    assert one.voc2007 == pytest.approx(0.7761, abs=5e-5)
    assert one.voc2010 == pytest.approx(0.8064, abs=5e-5)
    assert one.normalised == pytest.approx(0.8271, abs=5e-5)


@pytest.mark.parametrize(
    ("group", "at", "shares"),
    [
        ("animals", 25, [41, 41, 5, 14]),
        ("animals", 1600, [18, 63, 3, 16]),
        ("vehicles", 3200, [28, 27, 12, 33]),
        ("furniture", 3200, [20, 25, 25, 30]),
    ],
)
def test_shares_of_false_positives(one: DiagnosisOfSet, group: str, at: int, shares: list[int]) -> None:
    found = next(mixture for mixture in one.sets[group].false_positives if mixture.at == at)
    assert percents(found) == shares


def percents(of: Mixture) -> list[int]:
    counts = np.array([of.localisation, of.similar, of.other, of.background])
    return [round(100 * count / counts.sum()) for count in counts.tolist()]


@pytest.mark.parametrize(
    ("group", "low", "high"),
    [
        ("occlusion", 0.481, 0.887),
        ("truncated", 0.756, 0.849),
        ("area", 0.506, 0.938),
        ("aspect", 0.703, 0.878),
        ("side", 0.667, 0.903),
        ("part", 0.671, 0.862),
    ],
)
def test_sensitivity_of_the_seven_classes(
    made: Diagnosed, one: DiagnosisOfSet, group: str, low: float, high: float
) -> None:
    groups: Mapping[str, str] = {characteristic.name: characteristic.group for characteristic in made.characteristics}
    found = sensitivities([one.subsets[name] for name in DETAILED], groups)[group]
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)
    assert found.whole == pytest.approx(0.817, abs=5e-4) and found.n_classes == 7


def test_tide_is_tidecv(one: DiagnosisOfSet) -> None:
    """tidecv 1.0.1, difficult objects as regions to ignore."""
    found = one.tide
    assert found is not None
    percent = {"AP": found.ap, **found.gains, "FP": found.false_positives, "FN": found.false_negatives}
    assert {name: round(100 * value, 2) for name, value in percent.items()} == {
        "AP": 80.44,
        "Cls": 1.48,
        "Loc": 6.31,
        "Both": 0.67,
        "Dupe": 0.0,
        "Bkg": 1.80,
        "Miss": 4.70,
        "FP": 6.69,
        "FN": 11.09,
    }


def test_the_two_matchings_differ_in_four_second_finds_of_difficult_objects(hoiem: Hoiem) -> None:
    truth = GroundTruth.of(hoiem.dataset.images, 20)
    similar = similarity(hoiem.dataset.classes, VOC_SIMILAR)
    verdicts = [
        diagnose(hoiem.detections, rule(hoiem.detections, truth, 0.5), truth, similar).verdict
        for rule in (match, match_unfound)
    ]
    differ = np.flatnonzero(verdicts[0] != verdicts[1])
    assert len(differ) == 4
    assert set(verdicts[0][differ]) == {Verdict.IGNORED} and set(verdicts[1][differ]) == {Verdict.LOCALISATION}
