"""The stage from files to page."""

import csv
import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from report_data import data
from stage_context import StageContext

from cache import Artifact, Payload, Recipe, digest_file
from cache.environment import present
from cache.errors import StageError
from manifests import ImageRecord, save_dataset
from stages.graph import REPORT
from stages.networks.settings import NetworkSettings
from stages.svm.settings import SvmSettings

_COLUMNS = {
    "pr": "regression,class,score,recall,precision",
    "recall_iou": "class,iou,recall",
    "errors": "regression,class,multiple,right,localisation,similar,other,background",
    "mining": "class_name,images_seen,positives,negatives,objective,regulariser,positive_loss,negative_loss",
    "finetune": "iteration,train_loss,val_loss,val_accuracy",
    "pretrain": "iteration,train_loss,val_loss,val_accuracy",
}


class Context(StageContext):
    """Every input of the page, and times of two stages. ``lacks``: optional inputs that the node is not given."""

    def __init__(self, root: Path, lacks: Collection[str] = frozenset()) -> None:
        groups = {"network": NetworkSettings(name="alexnet"), "svm": SvmSettings(C=77)}
        super().__init__(root, "report", groups, seed=3)
        given = {name: path for name, path in self.node.inputs.items() if name not in lacks}
        self.node = dataclasses.replace(self.node, inputs=given)
        self.page = data()
        save_dataset(self.page.dataset, self.place("manifest"))
        points = {"detect": "d", "bbox": self.page.shown_from, "no_bbox": {}}
        documents = {"scores": self.page.metrics, "examples": self.page.examples, "operating_points": points}
        for name, document in documents.items():
            self.place(name).write_text(json.dumps(document))
        for name, header in _COLUMNS.items():
            if name in given:
                with self.place(name).open("w", newline="") as file:
                    writer = csv.DictWriter(file, header.split(","), restval="")
                    writer.writeheader()
                    writer.writerows(getattr(self.page, name))
        entries = []
        for record in self.page.tested:
            found = self.page.found(record)
            arrays: dict[str, NDArray[Any]] = {
                "bbox.boxes": found.boxes,
                "bbox.scores": found.scores,
                "bbox.labels": found.labels,
            }
            payload = Payload(arrays, {"image": record.file_name, "count": 2}, "hdf5")
            entries.append((record.id, self.store.put(Recipe("detect", 1, {}, {"image": record.id}), payload)))
        summary = {"classifier": "svm", "regressed": True}
        Artifact("detect", 1, {}, {}, tuple(entries), summary).write(self.place("detections"))
        self.features = Artifact("features", 1, {}, {}, (), {})
        for name in {"proposals", "features", "svm", "bbox"} & given.keys():
            self.features.write(self.place(name))

    def timings(self) -> dict[str, Any]:
        known = {self.features.digest: {"conv": 0.5, "rest": 0.25, "measured": 1e9}}
        features = {"seconds": 0.0, "per_image": known | {"another's": {"conv": 77.0}}}
        return {"svm": {"seconds": 75.0}, "features": features}

    def image(self, record: ImageRecord) -> Any:
        return self.page.pixels(record)


def test_stage_writes_the_page(tmp_path: Path) -> None:
    ctx = Context(tmp_path)
    ctx.run()
    html = ctx.output("html").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert digest_file(ctx.input("scores")) in html
    assert "svm.C" in html and "77" in html
    assert "report.max_classes" not in html
    assert html.count("data:image/jpeg") == 2 + 4 + 2
    assert html.count("1 min 15 s") == 2  # svm, and all
    assert "Features of one image: conv 0.5 s, rest 0.25 s; in all 0.75 s" in html  # these features', no others'
    assert len(ctx.log.infos) == 1
    assert str(present().as_json()["numpy"]) in html.split('id="environments"')[1]
    assert "One environment computed them." in html


def test_a_page_of_a_detector_without_features_svms_and_training(tmp_path: Path) -> None:
    ctx = Context(tmp_path, lacks=REPORT.optional)
    ctx.run()
    html = ctx.output("html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg") == 2 + 4 + 2
    assert "Features of one image" not in html


def test_a_table_of_another_version_is_named(tmp_path: Path) -> None:
    ctx = Context(tmp_path)
    ctx.input("mining").write_text("class,fit\n")
    with pytest.raises(StageError, match=r"mining\.csv: lacks the column 'class_name'"):
        ctx.run()


def test_operating_points_of_another_form_are_named(tmp_path: Path) -> None:
    context = Context(tmp_path)
    context.input("operating_points").write_text(json.dumps({"detect": "d", "bbox": {"cat": "1.0"}, "no_bbox": {}}))
    with pytest.raises(StageError, match=r"operating_points\.json: bbox is not a score for each class"):
        context.run()
