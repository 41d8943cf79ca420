"""The evaluation as a whole: metrics document, tables, result files."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manifests.files import why_unsafe
from stages.scoring.evaluation import Evaluation, evaluate
from stages.scoring.files import comp4_lines, comp4_names, comp4_table, voc_image_ids
from stages.scoring.metrics import scores_table
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.proposals import class_coverage, proposal_overlaps
from stages.scoring.settings import EvaluateSettings

CLASSES = ("cat", "dog", "<b>")


def evaluated(seed: int = 21, n_bootstrap: int = 50, classes: Sequence[str] = CLASSES, **case: Any) -> Evaluation:
    truth, found = random_case(seed, **case)
    rng = np.random.default_rng(1)
    plain = FlatDetections(found.image, found.labels, found.boxes + np.float32(4), found.scores)
    proposed = [found.boxes[found.image == i] for i in range(truth.n_images)]
    return evaluate(
        {"bbox": found, "no_bbox": plain},
        truth,
        proposed,
        image_ids=list(range(10, 10 + truth.n_images)),
        classes=classes,
        settings=EvaluateSettings(n_bootstrap=n_bootstrap),
        rng=rng,
    )


def test_metrics_hold_the_keys_that_are_promised() -> None:
    metrics = json.loads(evaluated().files["scores"])
    for part in (metrics, metrics["no_bbox"]):
        values = [part["voc2007"]["mAP"], part["voc2010"]["mAP"], part["coco"]["AP"], part["coco"]["AP50"]]
        assert all(0 < value < 1 for value in values)
        assert list(part["voc2010"]["AP"]) == list(CLASSES)
        assert part["voc2010"]["mAP"] == pytest.approx(np.mean(list(part["voc2010"]["AP"].values())))
        assert part["voc2010"]["mAP_low"] < part["voc2010"]["mAP"] < part["voc2010"]["mAP_high"]
    gain = metrics["bbox_gain"]["voc2010"]
    assert gain["mAP"] == pytest.approx(metrics["voc2010"]["mAP"] - metrics["no_bbox"]["voc2010"]["mAP"])
    assert gain["mAP_low"] <= gain["mAP"] <= gain["mAP_high"]


def test_equal_input_gives_equal_bytes() -> None:
    assert evaluated().files == evaluated().files


def test_a_class_without_objects_is_null_and_said() -> None:
    truth = truth_of([(0, 0, (0, 0, 30, 30)), (0, 1, (0, 0, 30, 30), True)], 1, 3)
    found = detections_of([(0, 0, (0, 0, 30, 30), 1.0), (0, 1, (0, 0, 30, 30), 1.0)])
    result = evaluate(
        {"bbox": found, "no_bbox": found},
        truth,
        [np.zeros((0, 4), np.float32)],
        image_ids=[1],
        classes=CLASSES,
        settings=EvaluateSettings(n_bootstrap=0),
        rng=np.random.default_rng(0),
    )
    metrics = json.loads(result.files["scores"])
    assert metrics["voc2010"]["AP"] == {"cat": 1.0, "dog": None, "<b>": None}
    assert metrics["voc2010"]["mAP"] == 1.0
    assert "mAP_low" not in metrics["voc2010"]
    assert metrics["proposals"]["recall_50"] == 0.0
    table = scores_table(metrics)
    assert "left out of the means: dog, <b>" in table
    assert "IoU >= 0.5" in table
    assert "1 images, 1 objects" in table


def test_no_image_with_objects_gives_null_not_an_error() -> None:
    found = detections_of([(0, 0, (0, 0, 9, 9), 1.0)])
    result = evaluate(
        {"bbox": found, "no_bbox": found},
        truth_of([], 1, 1),
        [np.zeros((0, 4), np.float32)],
        image_ids=[1],
        classes=("cat",),
        settings=EvaluateSettings(n_bootstrap=5),
        rng=np.random.default_rng(0),
    )
    assert result.metrics["voc2010"]["mAP"] is None
    assert result.metrics["coco"]["AP"] is None
    assert "nothing is scored" in scores_table(result.metrics)


def test_pr_table_rebuilds_the_area() -> None:
    result = evaluated()
    rows = list(csv.DictReader(io.StringIO(result.files["pr"])))
    for name in CLASSES:
        points = [
            (float(r["recall"]), float(r["precision"])) for r in rows if (r["regression"], r["class"]) == ("bbox", name)
        ]
        area, last = 0.0, 0.0
        for k, (recall, _) in enumerate(points):
            area, last = area + (recall - last) * max(p for _, p in points[k:]), recall
        assert area == pytest.approx(result.metrics["voc2010"]["AP"][name], abs=1e-12)


def test_comp4_round_trip() -> None:
    _, found = random_case(2, n_images=4)
    names = ["a", "b", "c", "d"]
    rows = []
    for label in range(3):
        for line in comp4_lines(found, label, names).splitlines():
            name, score, x1, y1, x2, y2 = line.split()
            box = (float(x1) - 1, float(y1) - 1, float(x2), float(y2))
            rows.append((names.index(name), label, np.array(box, np.float32), np.float32(score)))
    order = np.lexsort((-found.scores, found.labels))
    assert [r[0] for r in rows] == found.image[order].tolist()
    assert np.array_equal([r[3] for r in rows], found.scores[order])
    assert np.array_equal([r[2] for r in rows], found.boxes[order])


def test_comp4_is_one_based_inclusive() -> None:
    found = detections_of([(0, 0, (0, 0, 500, 375), 0.5)])
    assert comp4_lines(found, 0, ["000001"]) == "000001 0.5 1.0 1.0 500.0 375.0\n"


def test_names_of_classes_and_images_are_safe_in_files() -> None:
    assert comp4_names(["aeroplane", "hot dog"]) == ["comp4_det_test_aeroplane.txt", "comp4_det_test_hot dog.txt"]
    assert comp4_table(["aeroplane", "hot dog"]) is None
    assert "/" not in comp4_names(["../x/y"])[0]
    assert voc_image_ids(["d/a b.jpg", "c.png"]) == ["a%20b", "c"]
    assert voc_image_ids(["x/a.jpg", "y/a.jpg"]) == ["x/a", "y/a"]
    assert voc_image_ids(["a.jpg", "a.png"]) == ["a.jpg", "a.png"]
    assert voc_image_ids(["a%20b.jpg", "c d.jpg"]) == ["a%20b", "c%20d"]
    assert voc_image_ids(["a b.jpg", "a%20b.jpg"]) == ["a%20b", "a%2520b"]


file_names = st.text(st.sampled_from("ab %20/."), min_size=1, max_size=6).filter(lambda name: why_unsafe(name) is None)


@given(st.lists(file_names, max_size=8, unique=True))
def test_ids_of_images_are_unique_and_without_spaces(files: list[str]) -> None:
    ids = voc_image_ids(files)
    assert len(set(ids)) == len(files) and not any(char.isspace() for one in ids for char in one)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300), min_size=1, max_size=6, unique=True))
@example(["狗" * 28, "é" * 41, "x" * 237, "x" * 236 + "y"])
@example(["Dog", "dog", "DOG", "cat"])
@settings(deadline=None)
def test_every_class_has_a_file_of_its_own_and_is_found_by_the_table(classes: list[str]) -> None:
    names = comp4_names(classes)
    assert len({name.casefold() for name in names}) == len(classes)
    assert all(len(name.encode()) <= 143 and "/" not in name and "\0" not in name for name in names)
    table = comp4_table(classes)
    if table is None:
        assert [unquote(name.removeprefix("comp4_det_test_").removesuffix(".txt")) for name in names] == classes
    else:
        assert json.loads(table) == dict(zip(names, classes, strict=True))


def test_thresholds_keep_equal_scores() -> None:
    found = detections_of([(0, 0, (0, 0, 9, 9), 0.5), (0, 1, (0, 0, 9, 9), 0.5), (0, 1, (0, 0, 9, 9), 0.25)])
    kept = found.above(np.array([0.75, 0.5]))
    assert (kept.labels.tolist(), kept.scores.tolist()) == ([1], [0.5])


def test_proposal_recall_leaves_out_difficult_objects() -> None:
    truth = truth_of([(0, 0, (0, 0, 10, 10)), (0, 1, (0, 0, 10, 10), True), (1, 0, (0, 0, 10, 10))], 2, 2)
    boxes = [np.array([[0, 0, 10, 6], [0, 0, 2, 2]], np.float32), np.zeros((0, 4), np.float32)]
    best = proposal_overlaps(truth, boxes)
    assert best == pytest.approx([0.6, 0.6, 0.0])
    overall, each = class_coverage(truth, best)
    assert overall is not None and overall.n_objects == 2
    assert overall.recall[:4] == (0.5, 0.5, 0.5, 0.0)
    assert overall.mean_best_overlap == pytest.approx(0.3)
    assert each[1] is None


def test_flattening_keeps_images_without_objects() -> None:
    class Image:
        def __init__(self, n: int) -> None:
            self.boxes = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
            self.labels, self.difficult, self.crowd = np.ones(n, np.int64), np.zeros(n, bool), np.zeros(n, bool)

    truth = GroundTruth.of([Image(2), Image(0), Image(1)], 2)
    assert truth.image.tolist() == [0, 0, 2]
    assert truth.positives.tolist() == [0, 3]
    assert len(GroundTruth.of([], 2).labels) == 0
    assert len(FlatDetections.of([])) == 0
