"""The whole pipeline on a small built-in dataset, and what must not be computed again."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from waiting import wait_until

from cache import Artifact, Store
from cache.errors import StageError
from manifests import load_dataset
from pipeline.detector_runs import detector_runs

ROOT = Path(__file__).parents[2]
IMAGE_STAGES = ("proposals", "features", "detect")
Rcnn = Callable[..., subprocess.CompletedProcess[str]]


def computed(project: Path, *stages: str) -> dict[str, int]:
    """Objects that each stage's last run computed, from what it says on stderr."""
    timings = json.loads((project / "reports/timings.json").read_text())
    return {stage: timings[stage]["computed"] for stage in stages}


def objects(project: Path) -> set[Path]:
    return set((project / "artifacts/objects").glob("*/*/*"))


def params_of(project: Path) -> dict[str, Any]:
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text())
    return params


def test_every_result_is_there(finished: Path) -> None:
    metrics = json.loads((finished / "reports/scores.json").read_text())
    for tree in (metrics, metrics["no_bbox"]):
        values = [tree["voc2007"]["mAP"], tree["voc2010"]["mAP"], tree["coco"]["AP"], tree["coco"]["AP50"]]
        assert all(0 <= v <= 1 for v in values)
        assert len(tree["voc2010"]["AP"]) == 10
    assert (finished / "reports/index.html").read_text().lower().startswith("<!doctype html>")
    assert (finished / "reports/results/coco_bbox.json").exists()
    assert not list(finished.rglob(".partial"))
    assert not list((finished / "artifacts/tmp").iterdir())


@pytest.mark.parametrize("entry", yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"], ids=lambda e: next(iter(e)))
def test_plots_name_columns_and_templates_that_exist(finished: Path, entry: dict[str, dict[str, Any]]) -> None:
    ((path, plot),) = entry.items()
    with (finished / path).open(newline="") as file:
        header = set(next(csv.reader(file)))
    y = plot["y"] if isinstance(plot["y"], list) else [plot["y"]]
    assert {plot["x"], *y} <= header
    if "template" in plot:
        template = (ROOT / ".dvc" / "plots" / f"{plot['template']}.json").read_text()
        named = set(re.findall(r'"field": "(\w+)"', template))
        assert len(named) > 1
        assert named <= header | {"rev"}


def test_what_the_features_of_an_image_cost_is_told(finished: Path) -> None:
    made = Artifact.read(finished / "artifacts/features/manifest.json").digest
    cost = json.loads((finished / "reports/timings.json").read_text())["features"]["per_image"][made]
    assert set(cost) == {"conv", "fc", "rest", "measured"}
    assert all(seconds > 0 for seconds in cost.values())
    assert "Features of one image: conv " in (finished / "reports/index.html").read_text()


def test_a_second_run_computes_nothing_and_changes_no_bit(project: Path, run_rcnn: Rcnn) -> None:
    before = objects(project)
    metrics = (project / "reports/scores.json").read_bytes()
    manifests = {s: (project / f"artifacts/{s}/manifest.json").read_bytes() for s in IMAGE_STAGES}
    models = {s: (project / f"artifacts/{s}/model.h5").read_bytes() for s in ("svm", "bbox")}
    out = run_rcnn(project, "run", "proposals", "features", "svm", "bbox", "detect", "combine", "evaluate").stderr
    assert out.count(": 0 images computed") == 3
    assert objects(project) == before
    assert (project / "reports/scores.json").read_bytes() == metrics
    assert manifests == {s: (project / f"artifacts/{s}/manifest.json").read_bytes() for s in IMAGE_STAGES}
    assert models == {s: (project / f"artifacts/{s}/model.h5").read_bytes() for s in ("svm", "bbox")}


def test_another_c_computes_no_feature(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> None:
    params = params_of(project)
    params["svm"]["C"] = 0.01
    put_params(project, params)
    before = {p for p in objects(project) if p.parts[-3] in ("features", "proposals")}
    model = (project / "artifacts/svm/model.h5").read_bytes()
    run_rcnn(project, "run", "proposals", "features", "svm", "bbox", "detect")
    assert {p for p in objects(project) if p.parts[-3] in ("features", "proposals")} == before
    assert (project / "artifacts/svm/model.h5").read_bytes() != model


def test_one_more_image_costs_one_image(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> None:
    params = params_of(project)
    params["scenes"]["n_train"] += 1
    put_params(project, params)
    weights = (project / "artifacts/finetune/weights.safetensors").read_bytes()
    before = objects(project)
    run_rcnn(project, "run", "scenes", "manifest", "proposals")
    assert computed(project, "proposals") == {"proposals": 1}
    # Fine-tuning sees the new image, so its weights would change; with given weights they do not.
    run_rcnn(project, "run", "features")
    assert (project / "artifacts/finetune/weights.safetensors").read_bytes() == weights
    assert computed(project, "features") == {"features": 1}
    assert len(objects(project) - before) == 2


def test_a_killed_run_goes_on_where_it_was(project: Path, finished: Path, run_rcnn: Rcnn) -> None:
    shutil.rmtree(project / "artifacts/objects/features")
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "-C", str(project), "run", "features"]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    there = project / "artifacts/objects"
    wait_until(lambda: child.poll() is not None or any(there.glob("features/*/*")), "a first object", poll_s=0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = len(list((project / "artifacts/objects").glob("features/*/*")))
    assert left > 0
    run_rcnn(project, "run", "features", "svm", "bbox", "detect", "combine", "evaluate")
    if child.returncode == -signal.SIGKILL and left < 15:  # else it was through before the signal came
        assert computed(project, "features") == {"features": 15 - left}
    for path in ("reports/scores.json", "artifacts/features/manifest.json", "artifacts/svm/model.h5"):
        assert (project / path).read_bytes() == (finished / path).read_bytes()


def test_a_flipped_bit_is_named_and_mended(project: Path, run_rcnn: Rcnn) -> None:
    key = Artifact.read(project / "artifacts/features/manifest.json").entries[0][1]
    folder = Store(project / "artifacts").path("features", key)
    chunk = max(folder.rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    chunk.chmod(0o644)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)
    found = run_rcnn(project, "cache", "verify", check=False)
    assert found.returncode == 2
    assert key in found.stdout
    assert run_rcnn(project, "cache", "verify", "--quarantine", check=False).returncode == 2
    run_rcnn(project, "run", "features")
    assert computed(project, "features") == {"features": 1}
    assert run_rcnn(project, "cache", "verify").returncode == 0


def test_export_writes_every_region(project: Path, run_rcnn: Rcnn, tmp_path: Path) -> None:
    said = run_rcnn(project, "features", "export", "--npy", str(tmp_path / "x.npy"), "--split", "test").stdout
    matrix = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert f"{matrix.shape[0]} regions x {matrix.shape[1]} units of fc7" in said
    with np.load(tmp_path / "x.regions.npz") as index:
        dataset = load_dataset(project / "artifacts/manifest/manifest.json")
        assert set(index["image_id"].tolist()) == {record.id for record in dataset.split("test")}
        assert len(index["row"]) == len(matrix)


def test_the_detector_gives_what_the_pipeline_gave(finished: Path) -> None:
    from rcnn import Detector

    dataset = load_dataset(finished / "artifacts/manifest/manifest.json")
    artifact = Artifact.read(finished / "artifacts/detect/manifest.json")
    store = Store(finished / "artifacts")
    detector = Detector.load(finished)
    for record in dataset.split("test")[:3]:
        stored = store.get("detect", artifact.keys[record.id]).arrays
        for prefix, regression in (("bbox", True), ("no_bbox", False)):
            path = finished / "artifacts/datasets/scenes" / record.file_name
            found = detector(path, min_score=-np.inf, box_regression=regression)
            order = np.argsort(-stored[f"{prefix}.scores"], kind="stable")
            np.testing.assert_allclose([d.score for d in found], stored[f"{prefix}.scores"][order], atol=1e-5)
            np.testing.assert_allclose(
                sorted(d.box for d in found), sorted(map(tuple, stored[f"{prefix}.boxes"].tolist())), atol=0.05
            )


def test_the_detector_refuses_parts_that_were_not_made_together(
    project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]
) -> None:
    from rcnn import Detector

    detector = Detector.load(project)
    points = json.loads((project / "reports/operating_points.json").read_text())
    assert points["bbox"]
    assert dict(detector.shown_from()) == dict.fromkeys(detector.classes, 0.0) | points["bbox"]
    assert dict(detector.shown_from(box_regression=False)) == dict.fromkeys(detector.classes, 0.0) | points["no_bbox"]
    params = params_of(project)
    params["svm"]["C"] = 0.01
    put_params(project, params)
    run_rcnn(project, "run", "svm")
    with pytest.raises(StageError, match=r"svm/model\.h5: not the one that artifacts/detect was made with"):
        Detector.load(project)
    run_rcnn(project, "run", "detect")
    assert set(Detector.load(project).shown_from().values()) == {0.0}  # nobody has evaluated this one
    put_params(project, params | {"seed": 4})
    run_rcnn(project, "run", "proposals")
    with pytest.raises(StageError, match=r"proposals/manifest\.json: not the one that artifacts/features"):
        Detector.load(project)


def test_softmax_classifier(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> None:
    params = params_of(project)
    params["svm"]["classifier"] = "softmax"
    params["bbox"]["enabled"] = False
    put_params(project, params)
    run_rcnn(project, "run", "svm", "bbox", "detect", "combine", "evaluate", "report")
    metrics = json.loads((project / "reports/scores.json").read_text())
    assert metrics["voc2010"]["mAP"] == metrics["no_bbox"]["voc2010"]["mAP"]


def test_what_each_part_of_a_new_image_costs_is_known_after_a_run(finished: Path) -> None:
    """Selective search, too, which is a node of the project and not of the detector."""
    (run,) = detector_runs(finished, ["rcnn"], Store(finished / "artifacts"))
    assert list(run.test_nodes) == ["proposals", "features", "detect"]
    assert all(run.timings[node]["computed"] == 15 for node in ("proposals", "features"))
    assert run.timings["detect"]["computed"] == 5
