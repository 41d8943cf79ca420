"""ILSVRC's average precision beside a slow version of the devkit's rules, and its form of results read back."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of
from numpy.typing import NDArray
from plain_arrays import as_boxes, as_labels

from manifests import ImageRecord
from stages.scoring.evaluation import evaluate
from stages.scoring.files import ilsvrc_lines
from stages.scoring.ilsvrc import ilsvrc_scores, least_ious, unscored_pairs
from stages.scoring.metrics import protocol_lines
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.settings import EvaluateSettings
from stages.scoring.unfound import match_unfound

NONE = np.zeros((0, 2), np.int64)
Row = tuple[int, int, float, Sequence[float]]  # image, label, score, 1-based inclusive corners


def rows_of(found: FlatDetections) -> list[Row]:
    boxes = found.boxes.astype(np.float64) + np.array([1, 1, 0, 0])
    return [
        (int(i), int(c), float(s), box.tolist())
        for i, c, s, box in zip(found.image, found.labels, found.scores, boxes, strict=True)
    ]


def devkit_ap(rows: Iterable[Row], truth: GroundTruth, unscored: set[tuple[int, int]], label: int) -> float | None:
    """AP of a class by loops: pixels are inclusive, widths have one more; unscored pairs are passed over."""
    objects: dict[int, list[Any]] = {}
    for image, own, box in zip(truth.image.tolist(), truth.labels.tolist(), truth.boxes.tolist(), strict=True):
        if own == label and (image, own) not in unscored:
            corners = [box[0] + 1, box[1] + 1, box[2], box[3]]
            w, h = corners[2] - corners[0] + 1, corners[3] - corners[1] + 1
            objects.setdefault(image, []).append([corners, min(0.5, w * h / ((w + 10) * (h + 10))), False])
    total = sum(map(len, objects.values()))
    if not total:
        return None
    hits: list[bool] = []
    for image, own, _, box in sorted(rows, key=lambda row: -row[2]):
        if own != label or (image, own) in unscored:
            continue
        best, taken = -1.0, None
        for one in objects.get(image, []):
            other = one[0]
            w = min(box[2], other[2]) - max(box[0], other[0]) + 1
            h = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if one[2] or w <= 0 or h <= 0:
                continue
            areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
            overlap = w * h / (sum(areas) - w * h)
            if overlap >= one[1] and overlap > best:
                best, taken = overlap, one
        hits.append(taken is not None)
        if taken is not None:
            taken[2] = True
    precisions = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    return sum(max(precisions[k:]) / total for k, hit in enumerate(hits) if hit)


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_devkits(seed: int) -> None:
    truth, found = random_case(seed, difficult=0.0)
    rng = np.random.default_rng(seed)
    pairs = np.unique(np.stack([rng.integers(0, 12, 6), rng.integers(0, 3, 6)], axis=1), axis=0)
    scores = ilsvrc_scores(found, truth, ("a", "b", "c"), pairs)
    out = {(int(i), int(c)) for i, c in pairs}
    expected = [devkit_ap(rows_of(found), truth, out, label) for label in range(3)]
    assert list(scores["AP"].values()) == pytest.approx(expected)
    some = [ap for ap in expected if ap is not None]
    assert (scores["mAP"], scores["median"]) == pytest.approx((np.mean(some), np.median(some)))


@pytest.mark.parametrize("seed", range(4))
def test_results_read_back_give_the_same(seed: int) -> None:
    truth, found = random_case(seed, difficult=0.0)
    numbers, ids = [10 * i + 7 for i in range(12)], (4, 2, 9)
    rows: list[Row] = []
    for line in ilsvrc_lines(found, numbers, ids):
        image, label, score, *box = line.split()
        rows.append((numbers.index(int(image)), ids.index(int(label)), float(score), [float(v) for v in box]))
    rounded = FlatDetections(
        found.image, found.labels, found.boxes, np.round(found.scores.astype(float), 3).astype("f")
    )
    scores = ilsvrc_scores(rounded, truth, ("a", "b", "c"), NONE)
    for number, ap in enumerate(scores["AP"].values()):
        assert devkit_ap(rows, truth, set(), number) == pytest.approx(ap, abs=0.02)


def test_a_line_of_results() -> None:
    found = detections_of([(0, 1, (0, 0.5, 20.25, 30), 0.12345)])
    assert list(ilsvrc_lines(found, [17], (3, 200))) == ["17 200 0.123 1.00 1.50 20.25 30.00\n"]


def test_small_objects_have_a_lower_limit() -> None:
    boxes = as_boxes([[0, 0, 10, 10], [5, 5, 25, 25], [0, 0, 500, 300], [0, 0, 1, 1]])
    np.testing.assert_allclose(least_ious(boxes), [0.25, 4 / 9, 0.5, 1 / 121])
    truth = truth_of([(0, 0, (5, 5, 15, 15))], 1, 1)
    found = detections_of([(0, 0, (0, 0, 20, 20), 1.0)])  # IoU 0.25: as the devkit's readme has it
    assert ilsvrc_scores(found, truth, ("a",), NONE)["mAP"] == 1
    found = detections_of([(0, 0, (0, 0, 20, 21), 1.0)])
    assert ilsvrc_scores(found, truth, ("a",), NONE)["mAP"] == 0


def test_the_second_detection_takes_the_other_object() -> None:
    truth = truth_of([(0, 0, (0, 0, 100, 100)), (0, 0, (20, 0, 120, 100))], 1, 1)
    found = detections_of([(0, 0, (0, 0, 100, 100), 2.0), (0, 0, (5, 0, 105, 100), 1.0)])
    assert ilsvrc_scores(found, truth, ("a",), NONE)["mAP"] == 1


def test_each_object_has_its_own_limit() -> None:
    truth = truth_of([(0, 0, (0, 0, 100, 100)), (1, 0, (0, 0, 100, 100))], 2, 1)
    found = detections_of([(0, 0, (0, 0, 60, 100), 1.0), (1, 0, (0, 0, 60, 100), 1.0)])
    assert match_unfound(found, truth, np.array([0.5, 0.7])).right.tolist() == [True, False]
    assert match_unfound(found, truth, 0.5).right.tolist() == [True, True]


def test_no_class_is_left() -> None:
    truth = truth_of([(0, 0, (0, 0, 9, 9))], 1, 2)
    scores = ilsvrc_scores(detections_of([]), truth, ("a", "b"), np.array([[0, 0]]))
    assert scores == {"mAP": None, "median": None, "AP": {"a": None, "b": None}}


def test_pairs_of_records() -> None:
    images = [
        ImageRecord(i, f"{i}.jpg", 9, 9, "0" * 64, "test", as_boxes([]), as_labels([]), unscored=own)
        for i, own in ((5, ()), (6, (2, 0)))
    ]
    assert unscored_pairs(images).tolist() == [[1, 2], [1, 0]]
    assert unscored_pairs([]).shape == (0, 2)


def evaluated(ilsvrc: bool, unscored: NDArray[np.int64] | None = None) -> Any:
    truth, found = random_case(3, difficult=0.0)
    return evaluate(
        {"bbox": found, "no_bbox": found},
        truth,
        [found.boxes[found.image == i] for i in range(12)],
        image_ids=list(range(12)),
        classes=("a", "b", "c"),
        settings=EvaluateSettings(ilsvrc=ilsvrc, n_bootstrap=0),
        rng=np.random.default_rng(0),
        unscored=unscored,
    )


def test_the_parameter_adds_and_changes_nothing() -> None:
    plain, both = evaluated(False).metrics, evaluated(True).metrics
    assert "ilsvrc" not in plain and "ilsvrc" not in plain["no_bbox"]
    assert set(both["ilsvrc"]) == {"mAP", "median", "AP"} == set(both["no_bbox"]["ilsvrc"])
    assert {key: both[key] for key in plain if key != "no_bbox"} == {k: v for k, v in plain.items() if k != "no_bbox"}
    assert any("By ILSVRC's rules: mean AP" in line for line in protocol_lines(both))
    assert not any("ILSVRC" in line for line in protocol_lines(plain))
    assert evaluated(True, np.array([[0, 0], [1, 1], [2, 2], [3, 0]])).metrics["ilsvrc"] != both["ilsvrc"]
