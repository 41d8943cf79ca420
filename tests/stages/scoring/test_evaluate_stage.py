"""The stage from store to files."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_cases import random_case, slow_aps, slow_voc_flags
from plain_arrays import as_boxes, as_labels
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from stage_context import StageContext

from cache import Artifact, Payload, Recipe
from cache.errors import StageError
from manifests import Dataset, ImageRecord, save_dataset
from manifests.select import DUPLICATES
from stages.scoring.metrics import has_ground_truth, scores_table
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.reading import evaluated_images, thresholds
from stages.scoring.settings import EvaluateSettings

CLASSES = ("cat", "hot dog", "a/b")
UNMARKED: dict[str, Any] = dict.fromkeys(("difficult", "truncated", "crowd"), None) | {"details": ()}


class Context(StageContext):
    """Eight test images of random detections."""

    def __init__(self, root: Path, limits: dict[str, Any] | None = None, annotated: bool = True) -> None:
        super().__init__(root, "evaluate", {"evaluate": EvaluateSettings(n_bootstrap=20)}, seed=3)
        truth, found = random_case(7, n_images=8, difficult=0.0)
        images = [self._image(truth, i) for i in range(8)]
        if not annotated:
            images = [replace(image, boxes=as_boxes([]), labels=as_labels([]), **UNMARKED) for image in images]
        untested = ImageRecord(99, "train.jpg", 400, 400, "1" * 64, "train", as_boxes([]), as_labels([]))
        self.data = Dataset("toy", CLASSES, (untested, *images), (4, 2, 9))
        save_dataset(self.data, self.place("manifest"))
        summary = {"thresholds": limits or dict.fromkeys(CLASSES)}
        self._list("detections", "detect", images, lambda i: self._found(found, i), summary)
        self._list("proposals", "proposals", images[1:], lambda i: {"boxes": found.boxes[found.image == i]}, {})

    def _image(self, truth: GroundTruth, i: int) -> ImageRecord:
        at = truth.image == i
        return ImageRecord(10 + i, f"im {i}.jpg", 400, 400, "0" * 64, "test", truth.boxes[at], truth.labels[at])

    def _found(self, found: FlatDetections, i: int) -> dict[str, np.ndarray]:
        at = found.image == i
        arrays = {"boxes": found.boxes[at], "scores": found.scores[at], "labels": found.labels[at]}
        return {f"{prefix}.{name}": array for prefix in ("bbox", "no_bbox") for name, array in arrays.items()}

    def _list(
        self,
        name: str,
        stage: str,
        images: list[ImageRecord],
        arrays: Callable[[int], dict[str, np.ndarray]],
        summary: dict[str, Any],
    ) -> None:
        entries = []
        for image in images:
            payload = Payload(arrays(image.id - 10), {"image": image.file_name, "count": 1}, "hdf5")
            entries.append((image.id, self.store.put(Recipe(stage, 1, {}, {"image": image.id}), payload)))
        Artifact(stage, 1, {}, {}, tuple(entries), summary).write(self.place(name))


def test_stage_writes_every_output_and_a_table(tmp_path: Path) -> None:
    ctx = Context(tmp_path)
    ctx.run()
    assert all(ctx.output(name).exists() for name in ctx.node.outputs)
    metrics = json.loads(ctx.output("scores").read_text())
    assert metrics["protocol"]["images"] == 8
    assert any(f"{100 * metrics['voc2010']['mAP']:.1f}" in line for line in ctx.log.infos)
    headline = json.loads(ctx.output("metrics").read_text())
    assert headline == {
        protocol: {name: metrics[protocol][name] for name in names}
        for protocol, names in (("voc2007", ("mAP",)), ("voc2010", ("mAP",)), ("coco", ("AP", "AP50")))
    }
    names = {path.relative_to(ctx.output("results")).as_posix() for path in ctx.output("results").rglob("*.*")}
    assert names == {"coco_bbox.json", "coco_no_bbox.json"} | {
        f"{folder}comp4_det_test_{name}.txt" for folder in ("", "no_bbox/") for name in ("cat", "hot dog", "a%2Fb")
    }


def test_voc_ap_is_at_the_overlap_asked_for(tmp_path: Path) -> None:
    ctx = Context(tmp_path)
    truth, found = random_case(7, n_images=8, difficult=0.0)
    for min_iou in (0.5, 0.8):
        ctx.change(evaluate=EvaluateSettings(n_bootstrap=0, voc_iou=min_iou))
        ctx.run()
        metrics = json.loads(ctx.output("scores").read_text())
        for label, name in enumerate(CLASSES):
            flags = slow_voc_flags(truth, found, label, min_iou)[1]
            area, points = slow_aps(flags, (truth.labels == label).sum())
            assert metrics["voc2010"]["AP"][name] == pytest.approx(area)
            assert metrics["voc2007"]["AP"][name] == pytest.approx(points)
        assert metrics["protocol"]["voc_iou"] == min_iou


def test_results_and_manifest_give_pycocotools_the_same_score(tmp_path: Path) -> None:
    ctx = Context(tmp_path)
    ctx.run()
    metrics = json.loads(ctx.output("scores").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(ctx.input("manifest")))
        evaluation = COCOeval(coco, coco.loadRes(str(ctx.output("results") / "coco_bbox.json")), "bbox")
        evaluation.params.imgIds = [record.id for record in ctx.data.split("test")]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert metrics["coco"]["AP"] == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert metrics["coco"]["AP50"] == pytest.approx(evaluation.stats[1], abs=1e-12)


def test_without_annotations_the_results_are_the_same_and_every_score_is_null(tmp_path: Path) -> None:
    """What a server asks for is written as ever; metrics.json says why it holds nothing."""
    both = {}
    for name in ("annotated", "not"):
        (tmp_path / name).mkdir()
        both[name] = ctx = Context(tmp_path / name, annotated=name == "annotated")
        ctx.run()
        assert all(ctx.output(output).exists() for output in ctx.node.outputs)
    results = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
        for folder in (ctx.output("results") for ctx in both.values())
    ]
    assert results[0] == results[1]
    assert any(b"im%20" in text for name, text in results[0].items() if name.suffix == ".txt")
    ctx = both["not"]
    assert json.loads(ctx.output("metrics").read_text()) == {
        "ground_truth": "none: no test image is annotated",
        "voc2007": {"mAP": None},
        "voc2010": {"mAP": None},
        "coco": {"AP": None, "AP50": None},
    }
    assert "ground_truth" not in json.loads(both["annotated"].output("metrics").read_text())
    (line,) = ctx.log.warnings
    assert line.startswith("no object of the 8 test images is annotated") and "reports/results: comp4_det_test" in line
    scores = json.loads(ctx.output("scores").read_text())
    assert scores_table(scores) == "No object of the 8 test images is annotated, so nothing is scored."
    assert json.loads(ctx.output("operating_points").read_text())["bbox"] == {}


@pytest.mark.parametrize("kind", ["objects", "difficult", "crowd"])
def test_any_annotated_object_is_ground_truth(kind: str) -> None:
    none = dict.fromkeys(("objects", "difficult", "crowd"), 0)
    assert not has_ground_truth(none)
    assert has_ground_truth(none | {kind: 1})


def test_two_runs_give_equal_bytes(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ctx = Context(tmp_path / name)
        ctx.run()
        texts.append([ctx.output(n).read_bytes() for n in ctx.node.outputs if n != "results"])
    assert texts[0] == texts[1]


def test_thresholds_of_the_summary_are_applied(tmp_path: Path) -> None:
    ctx = Context(tmp_path, {"cat": 1.0, "hot dog": None, "a/b": 1e9})
    ctx.run()
    results = json.loads((ctx.output("results") / "coco_bbox.json").read_text())
    scores = {c: [r["score"] for r in results if r["category_id"] == c] for c in (4, 2, 9)}
    assert min(scores[4]) >= 1.0
    assert min(scores[2]) < 1.0
    assert scores[9] == []


def test_detections_of_another_dataset_are_refused(tmp_path: Path) -> None:
    ctx = Context(tmp_path)
    with pytest.raises(StageError, match="image 12, which it does not have"):
        evaluated_images(Dataset("toy", CLASSES, ctx.data.images[:3]), ctx.artifact("detections"))
    with pytest.raises(StageError, match="no image was searched"):
        evaluated_images(ctx.data, Artifact("detect", 1, {}, {}, (), {}))
    with pytest.raises(StageError, match=r"summary\.thresholds does not name"):
        thresholds({"thresholds": {"cat": 1.0}}, CLASSES)


def test_duplicates_are_left_out_of_every_score_but_the_one_that_says_so(tmp_path: Path) -> None:
    """The scores are those of a test set without them, and beside them those of the whole one."""
    whole, ctx, without = Context(tmp_path / "whole"), Context(tmp_path / "both"), Context(tmp_path / "without")
    dropped = {11, 14}
    marked = [
        replace(image, splits=("test", DUPLICATES)) if image.id in dropped else image for image in ctx.data.images
    ]
    save_dataset(replace(ctx.data, images=tuple(marked)), ctx.place("manifest"))
    detect = Artifact.read(without.place("detections"))
    kept = tuple(entry for entry in detect.entries if entry[0] not in dropped)
    replace(detect, entries=kept).write(without.place("detections"))
    documents = []
    for one in (whole, ctx, without):
        one.run()
        documents.append({name: json.loads(one.output(name).read_text()) for name in ("metrics", "scores", "examples")})
    both = documents[1]["metrics"].pop("with_duplicates")
    assert both.pop("images") == 8 and both == documents[0]["metrics"]
    assert documents[1]["metrics"] == documents[2]["metrics"] != documents[0]["metrics"]
    assert documents[1]["scores"].pop("with_duplicates")["voc2010"] == both["voc2010"]
    assert documents[1]["scores"] == documents[2]["scores"] and documents[1]["examples"] == documents[2]["examples"]
    for name in ("pr", "recall_iou", "errors"):
        assert ctx.output(name).read_bytes() == without.output(name).read_bytes()
    results = (ctx.output("results") / "coco_bbox.json").read_bytes()
    assert results == (whole.output("results") / "coco_bbox.json").read_bytes()
    line = next(line for line in ctx.log.infos if "manifest.drop_duplicates" in line)
    assert line.startswith("2 duplicates") and f"VOC 2010 mAP {100 * both['voc2010']['mAP']:.1f}" in line
