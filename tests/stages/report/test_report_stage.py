"""The stage from files to page, with a stand-in for the pipeline's context."""

import csv
import json
from types import SimpleNamespace

import pytest
from report_data import data

from cache import Artifact, Payload, Recipe, Store, digest_file
from cache.environment import present
from cache.errors import StageError
from stages.features.settings import FeaturesSettings
from stages.networks.settings import NetworkSettings
from stages.report.settings import ReportSettings
from stages.report.stage import STAGE

_COLUMNS = {
    "pr": "regression,class,score,recall,precision",
    "recall_iou": "class,iou,recall",
    "errors": "regression,class,multiple,right,localisation,similar,other,background",
    "mining": "class_name,images_seen,positives,negatives,objective,regulariser,positive_loss,negative_loss",
    "finetune": "iteration,train_loss,val_loss,val_accuracy",
    "pretrain": "iteration,train_loss,val_loss,val_accuracy",
}


class Context:
    seed = 3

    def __init__(self, root):
        self.root, self.store, self.page, self.messages = root, Store(root / "store"), data(), []
        self.log = SimpleNamespace(info=self.messages.append)
        for name in STAGE.inputs:
            self.input(name).write_bytes(b"")
        self.input("metrics").write_text(json.dumps(self.page.metrics))
        self.input("examples").write_text(json.dumps(self.page.examples))
        points = {"detect": "d", "bbox": self.page.shown_from, "no_bbox": {}}
        self.input("operating_points").write_text(json.dumps(points))
        for name, header in _COLUMNS.items():
            with self.input(name).open("w", newline="") as file:
                writer = csv.DictWriter(file, header.split(","), restval="")
                writer.writeheader()
                writer.writerows(getattr(self.page, name))

    def input(self, name):
        return self.root / f"{name}.in"

    def output(self, name):
        return self.root / f"{name}.out"

    def dataset(self):
        return self.page.dataset

    def artifact(self, name):
        if name in ("features", "proposals"):
            return Artifact(name, 1, {}, {}, (), {})
        assert name == "detections"
        entries = []
        for record in self.page.tested:
            found = self.page.found(record)
            arrays = {"bbox.boxes": found.boxes, "bbox.scores": found.scores, "bbox.labels": found.labels}
            payload = Payload(arrays, {"image": record.file_name, "count": 2}, "hdf5")
            entries.append((record.id, self.store.put(Recipe("detect", 1, {}, {"image": record.id}), payload)))
        return Artifact("detect", 1, {}, {}, tuple(entries), {"classifier": "svm", "regressed": True})

    def settings(self, group):
        assert group in STAGE.groups
        given = {
            "report": ReportSettings(),
            "dataset": "toy",
            "network": NetworkSettings(name="alexnet"),
            "features": FeaturesSettings(),
        }
        return given.get(group, ReportSettings(max_classes=7))

    def timings(self):
        known = {self.artifact("features").digest: {"conv": 0.5, "rest": 0.25, "measured": 1e9}}
        features = {"seconds": 0.0, "per_image": known | {"another's": {"conv": 77.0}}}
        return {"svm": {"seconds": 75.0}, "features": features}

    def image(self, record):
        return self.page.pixels(record)


def test_stage_writes_the_page(tmp_path):
    ctx = Context(tmp_path)
    STAGE.run(ctx)
    html = ctx.output("html").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert digest_file(ctx.input("metrics")) in html
    assert "svm.max_classes" in html
    assert "report.max_classes" not in html
    assert html.count("data:image/jpeg") == 2 + 4
    assert html.count("1 min 15 s") == 2  # svm, and all
    assert "Features of one image: conv 0.5 s, rest 0.25 s; in all 0.75 s" in html  # these features', no others'
    assert len(ctx.messages) == 1
    assert str(present().as_json()["numpy"]) in html.split('id="environments"')[1]
    assert "One environment computed them." in html


def test_a_table_of_another_version_is_named(tmp_path):
    ctx = Context(tmp_path)
    ctx.input("mining").write_text("class,fit\n")
    with pytest.raises(StageError, match=r"mining\.in: lacks the column 'class_name'"):
        STAGE.run(ctx)


def test_operating_points_of_another_form_are_named(tmp_path):
    context = Context(tmp_path)
    context.input("operating_points").write_text(json.dumps({"detect": "d", "bbox": {"cat": "1.0"}, "no_bbox": {}}))
    with pytest.raises(StageError, match=r"operating_points\.in: bbox is not a score for each class"):
        STAGE.run(context)
