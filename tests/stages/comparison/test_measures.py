"""Every number is the one that a detector's own evaluation writes; differences are paired."""

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from comparison_data import CLASSES, NOTHING, data, detector, without_objects
from evaluation_cases import random_case, resample
from torchvision.ops import box_iou

from cache.documents import json_text
from stages.comparison.inputs import Compared, ComparisonData, NodeCost
from stages.comparison.measures import HEADLINES, compare, document, region_recall, seconds_per_image
from stages.comparison.settings import CompareSettings
from stages.scoring.bootstrap import image_weights, interval, resampling
from stages.scoring.evaluation import Evaluation, evaluate
from stages.scoring.metrics import score
from stages.scoring.objects import GroundTruth
from stages.scoring.settings import EvaluateSettings


def evaluated(given: ComparisonData, one: Compared) -> Evaluation:
    """What the evaluate stage writes for this detector alone."""
    return evaluate(
        one.found,
        GroundTruth.of(given.tested, len(CLASSES)),
        one.proposals or [np.zeros((0, 4), np.float32)] * len(given.tested),
        image_ids=[record.id for record in given.tested],
        classes=CLASSES,
        settings=given.scoring.model_copy(update={"n_bootstrap": given.settings.n_bootstrap}),
        rng=resampling(given.seed),
    )


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("seed", [5, 6])
def test_every_number_is_the_evaluations(seed: int) -> None:
    given = data(4, seed=seed, scoring=EvaluateSettings(voc_iou=0.45, similar_classes=(("cat", "dog"),)))
    found = document(given, compare(given))
    for one in given.detectors:
        alone, here = evaluated(given, one), found["detectors"][one.name]
        for part in ("voc2007", "voc2010", "coco"):
            for name, value in alone.metrics[part].items():  # the interval of the VOC 2010 mAP, too
                assert here[part][name] == value, (part, name)
        assert here["no_bbox"] == alone.metrics["no_bbox"]
        assert here["best_f1"] == alone.best_f1["bbox"]
        for row in rows(alone.files["errors"]):
            if row["regression"] == "bbox" and float(row["multiple"]) == 1.0:
                assert here["mistakes"][row["class"]] == {k: int(row[k]) for k in here["mistakes"][row["class"]]}
        if one.proposals is not None:
            recalls = [float(row["recall"]) for row in rows(alone.files["recall_iou"]) if not row["class"]]
            assert list(here["regions"]["recall_iou"].values()) == recalls
            for name in ("recall_50", "recall_70"):
                assert here["regions"]["recall_number"]["all"][name] == alone.metrics["proposals"][name]
            assert here["regions"]["mean_best_overlap"] == alone.metrics["proposals"]["mean_best_overlap"]
            assert here["regions"]["per_image"] == alone.metrics["proposals"]["per_image"]
    assert {row["class"] for row in rows(alone.files["errors"])} == set(here["mistakes"]) == set(CLASSES[:3])


def mean_of(metrics: dict[str, Any], part: str, what: str) -> float:
    return float(metrics[part][what])


def test_intervals_of_differences_are_those_of_a_loop_over_resamples() -> None:
    given = data(3, settings=CompareSettings(n_bootstrap=12))
    truth = GroundTruth.of(given.tested, len(CLASSES))
    weights = image_weights(truth.n_images, 12, resampling(given.seed))
    none = np.zeros((0, truth.n_images), np.int64)
    slow: dict[tuple[str, str, str], list[float]] = {}
    for row in weights:
        drawn = np.repeat(np.arange(truth.n_images), row).tolist()
        for one in given.detectors:
            again, found = resample(truth, one.found["bbox"], drawn)
            metrics = score(found, again, CLASSES, 0.5, none).metrics
            for part, what, _ in HEADLINES:
                slow.setdefault((one.name, part, what), []).append(mean_of(metrics, part, what))
    for figures in compare(given).figures:
        for part, what, _ in HEADLINES:
            own, first = np.array(slow[figures.name, part, what]), np.array(slow["d0", part, what])
            bounds = figures.scores[part][f"{what}_low"], figures.scores[part][f"{what}_high"]
            assert bounds == pytest.approx(interval(own), abs=1e-12)
            if figures.difference:
                bounds = figures.difference[part][f"{what}_low"], figures.difference[part][f"{what}_high"]
                assert bounds == pytest.approx(interval(own - first), abs=1e-12)


def test_a_difference_is_that_of_the_means_and_a_twin_has_none() -> None:
    given = data(2)
    twin = replace(given.detectors[0], name="twin")
    first, second, third = compare(replace(given, detectors=[*given.detectors, twin])).figures
    assert first.difference == {}
    for part, what, _ in HEADLINES:
        assert second.difference[part][what] == second.scores[part][what] - first.scores[part][what]
        assert {third.difference[part][k] for k in (what, f"{what}_low", f"{what}_high")} == {0.0}


def test_precision_is_the_best_at_each_recall_or_above() -> None:
    given = data(2)
    for one, figures in zip(given.detectors, compare(given).figures, strict=True):
        points = [row for row in rows(evaluated(given, one).files["pr"]) if row["regression"] == "bbox"]
        for name in CLASSES[:3]:
            curve = [(float(row["recall"]), float(row["precision"])) for row in points if row["class"] == name]
            expected = [max((p for r, p in curve if r >= at), default=None) for at in np.linspace(0, 1, 101)]
            assert figures.precision[name] == [value for value in expected if value is not None]
        assert set(figures.precision) == {"", *CLASSES[:3]}
        assert np.mean(figures.precision[""]) == pytest.approx(figures.scores["coco"]["AP50"], abs=0.02)


def test_recall_by_number_of_regions_is_that_of_a_loop() -> None:
    truth, found = random_case(11, n_images=20, crowd=0.1)
    rng = np.random.default_rng(0)
    regions = [found.boxes[rng.permutation(len(found))[: rng.integers(0, 90)]] for _ in range(20)]
    got = region_recall(truth, regions)
    for number, at_most in (("10", 10), ("30", 30), ("100", 100), ("300", 300), ("1000", 1000), ("all", None)):
        best = []
        for k in np.flatnonzero(~truth.ignored):
            boxes = torch.from_numpy(regions[truth.image[k]][:at_most]).double()
            overlaps = box_iou(torch.from_numpy(truth.boxes[k : k + 1]).double(), boxes)
            best.append(float(overlaps.max()) if len(boxes) else 0.0)
        expected = {f"recall_{t}": np.mean([value >= t / 100 for value in best]) for t in (50, 70)}
        assert got["recall_number"][number] == pytest.approx(expected)
    assert got["mean_best_overlap"] == pytest.approx(np.mean(best))
    assert list(got["recall_iou"]) == [f"{step / 100:.2f}" for step in range(50, 101, 5)]


def test_equal_regions_are_told_by_their_boxes() -> None:
    given = data(4)
    copy = replace(given.detectors[1], proposals=[boxes.copy() for boxes in given.detectors[1].proposals or ()])
    given = replace(given, detectors=[given.detectors[0], copy, *given.detectors[2:]])
    assert [one.same_regions for one in compare(given).figures] == ["d0", "d0", "d2", "d3"]
    regions = [one["regions"] for one in document(given, compare(given))["detectors"].values()]
    assert regions[3] is None
    assert [one["same_as"] for one in regions[:3]] == ["d0", "d0", "d2"]


def test_seconds_are_split_as_far_as_they_are_known() -> None:
    one = data(1).detectors[0]
    assert seconds_per_image(one) == {"proposals": 2.0, "conv": 0.5, "fc": 0.1, "rest": 0.05, "detect": 0.25}
    assert compare(data(1)).figures[0].cost == {
        "seconds_per_image": seconds_per_image(one),
        "total_seconds_per_image": pytest.approx(2.9),
        "training_seconds": 75.0,
        "disk_bytes": 2048,
        "peak_mb": 900.0,
    }
    half = replace(one, costs={"proposals": NodeCost(8.0, None, 0), "detect": NodeCost(2.0, None, 8)})
    assert seconds_per_image(half) == {"proposals": None, "features": None, "detect": 0.25}
    given = replace(data(1), detectors=[half])
    assert compare(given).figures[0].cost["total_seconds_per_image"] is None
    assert seconds_per_image(replace(one, test_nodes=())) == {}
    twice = {"a": NodeCost(1, None, 1, {"conv": 1.0}), "b": NodeCost(1, None, 1, {"conv": 2.0})}
    assert seconds_per_image(replace(one, costs=twice, test_nodes=("a", "b"))) == {"conv": 1.0, "b conv": 2.0}


def test_nothing_found_and_nothing_to_find_have_their_numbers() -> None:
    images = [record.sha256 for record in data(1).tested]
    nothing = detector("none", NOTHING, images)
    given = data(1)
    one = compare(replace(given, detectors=[*given.detectors, nothing])).figures[1]
    assert one.scores["voc2010"]["mAP"] == one.scores["voc2010"]["mAP_high"] == 0.0
    assert one.scores["voc2010"]["AP"]["never"] is None
    assert one.best_f1 == {}
    nowhere = without_objects(data(2))
    first, second = compare(nowhere).figures
    assert first.scores["voc2010"]["mAP"] is None and "mAP_low" not in first.scores["voc2010"]
    assert second.difference["coco"] == {"AP": None, "AP50": None}
    assert json_text(document(nowhere, compare(nowhere)))


def test_the_document_is_deterministic_and_json() -> None:
    given = data(3)
    found = document(given, compare(given))
    assert json_text(found) == json_text(document(given, compare(given)))
    assert list(found["detectors"]) == ["d0", "d1", "d2"]
    other = replace(given, seed=4)
    drawn = [one["detectors"]["d1"]["voc2010"] for one in (found, document(other, compare(other)))]
    assert drawn[0]["mAP"] == drawn[1]["mAP"] and drawn[0]["mAP_low"] != drawn[1]["mAP_low"]
    off = replace(given, settings=CompareSettings(n_bootstrap=0))
    assert set(document(off, compare(off))["detectors"]["d1"]["difference"]["voc2010"]) == {"mAP"}
