"""Stage ``diagnose``: what it reads of a run, of the root's detector and of another's, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_data import records_of
from evaluation_cases import random_case
from stage_context import StageContext

from cache import Artifact, Payload, Recipe
from cache.errors import StageError
from manifests import Dataset, DatasetError, ImageRecord, save_dataset
from stages.diagnosis.document import diagnosed
from stages.diagnosis.settings import DiagnoseSettings
from stages.graph import ROOT
from stages.scoring.objects import FlatDetections

NAMES = ("a", "b", "c")


class World(StageContext):
    """A run's results on a made-up dataset, whose manifest has a training image before the tested ones."""

    def __init__(self, root: Path, *, kind: str = ROOT, regressed: bool = True, **settings: Any) -> None:
        super().__init__(root, "diagnose", {"diagnose": DiagnoseSettings(**settings)}, kind=kind)
        self.truth, self.found = random_case(4, n_images=20)
        self.tested = records_of(self.truth)
        dataset = Dataset("toy", NAMES, tuple(self.tested))
        for name in ("manifest", "registered"):
            save_dataset(dataset, self.place(name))
        self.place("characteristics").mkdir()
        entries = []
        for i, record in enumerate(self.tested):
            at = self.found.image == i
            arrays: dict[str, Any] = {}
            for prefix, shift in (("bbox", 0.0), ("no_bbox", 4.0)):
                arrays[f"{prefix}.boxes"] = self.found.boxes[at] + np.float32(shift)
                arrays[f"{prefix}.scores"] = self.found.scores[at]
                arrays[f"{prefix}.labels"] = self.found.labels[at]
            key = self.store.put(Recipe("detect", 1, {}, {"image": i}), Payload(arrays, {"count": 1}, "hdf5"))
            entries.append((record.id, key))
        summary = {"thresholds": dict.fromkeys(NAMES), "regressed": regressed, "detector": "small, warp"}
        Artifact("detect", 1, {}, {}, tuple(entries), summary).write(self.place("detections"))

    def figures(self) -> dict[str, Any]:
        self.run()
        found: dict[str, Any] = json.loads(self.output("figures").read_text())
        return found


@pytest.mark.parametrize("kind", [ROOT, "sppnet", "faster"])
def test_it_diagnoses_what_the_run_found(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind=kind)
    figures = world.figures()
    folder = tmp_path / "reports" / ("" if kind == ROOT else kind) / "analysis"
    assert {path.name for path in folder.iterdir()} == {"diagnosis.html", "diagnosis.json"}
    direct = diagnosed(
        "small, warp on toy", world.tested, NAMES, {"bbox": world.found}, {}, DiagnoseSettings()
    ).document()
    assert figures["bbox"] == json.loads(json.dumps(direct["bbox"]))
    assert figures["protocol"] == json.loads(json.dumps(direct["protocol"]))
    assert figures["no_bbox"]["voc2010"] < figures["bbox"]["voc2010"]


def test_boxes_as_proposed_are_one_set(tmp_path: Path) -> None:
    assert "no_bbox" not in World(tmp_path, regressed=False).figures()


def test_its_parameters_are_heard(tmp_path: Path) -> None:
    world = World(tmp_path, regressed=False)
    base = world.figures()
    world.update("diagnose", iou=0.7)
    assert world.figures()["bbox"]["voc2010"] < base["bbox"]["voc2010"]
    world.update("diagnose", iou=0.5, similar_classes=(("a", "b", "c"),))
    assert sum(one["other"] for one in world.figures()["bbox"]["sets"]["all classes"]["detections"]) == 0


def test_a_table_adds_characteristics(tmp_path: Path) -> None:
    world = World(tmp_path, characteristics="mine")
    lines = [f"{number},side.front,{number % 2}" for number in range(1, len(world.truth.labels) + 1)]
    (world.place("characteristics") / "mine.csv").write_text("\n".join(["annotation,name,value", *lines]))
    found = world.figures()["bbox"]["subsets"]["a"]["subsets"]["side.front"]
    members = np.flatnonzero((world.truth.labels == 0) & ~world.truth.ignored)
    assert [found["0"]["n_objects"], found["1"]["n_objects"]] == np.bincount((members + 1) % 2).tolist()
    (world.place("characteristics") / "mine.csv").write_text("annotation,name,value\n999,side,1\n")
    with pytest.raises(DatasetError, match=r"mine\.csv: line 2: annotation '999' is none of the dataset's"):
        world.run()


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"diagnose\.characteristics = 'mine': there is no characteristics/mine\.csv"):
        World(tmp_path, characteristics="mine").run()


def test_images_that_nobody_annotated(tmp_path: Path) -> None:
    world = World(tmp_path)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    bare = [ImageRecord(one.id, one.file_name, 300, 300, one.sha256, "test", *none) for one in world.tested]
    save_dataset(Dataset("toy", NAMES, tuple(bare)), world.place("manifest"))
    again = StageContext(tmp_path, "diagnose", {"diagnose": DiagnoseSettings()})
    with pytest.raises(StageError, match=r"manifest\.test: no object that counts is annotated in the 20 images"):
        again.run()


def test_notes_are_warnings(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    assert all("\n" not in line for line in world.log.warnings)
    assert world.log.infos[-1].startswith("reports/analysis/diagnosis.html: AP VOC 2007 ")


def test_no_detection_at_all(tmp_path: Path) -> None:
    direct = diagnosed("none", World(tmp_path).tested, NAMES, {"bbox": FlatDetections.of([])}, {}, DiagnoseSettings())
    assert direct.first.voc2010 == 0.0 and direct.summary().endswith("; 0 false positives")
