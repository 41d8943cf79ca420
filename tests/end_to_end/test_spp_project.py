"""The whole pipeline with features.method: spp and a network that has a pyramid, trained from scratch."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import yaml

from cache import Artifact, Store
from manifests import Dataset

Rcnn = Callable[..., "CompletedProcess[str]"]
LEVELS = [1, 2, 3]


@pytest.fixture
def spp_project(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> Path:
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text())
    params["network"]["pyramid"] = LEVELS
    params["features"]["method"] = "spp"
    params["features"]["spp"] = {"scales_px": [200, 320], "levels": LEVELS, "target_side_px": 64}
    put_params(project, params)
    run_rcnn(
        project, "run", "pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate", "report"
    )
    return project


def test_every_stage_and_the_detector_on_an_image_file(spp_project: Path) -> None:
    from pipeline import Detector

    artifact = Artifact.read(spp_project / "artifacts/features/manifest.json")
    assert artifact.summary["layers"] == {"fc6": 512, "fc7": 512, "pool5": 64 * 14}
    assert "mAP" in json.loads((spp_project / "reports/metrics.json").read_text())["voc2010"]
    dataset = Dataset.load(spp_project / "artifacts/manifest/manifest.json")
    store = Store(spp_project / "artifacts")
    detected = Artifact.read(spp_project / "artifacts/detect/manifest.json")
    detector = Detector.load(spp_project)
    for record in dataset.split("test")[:2]:
        stored = store.get("detect", detected.keys[record.id]).arrays
        found = detector(spp_project / "artifacts/datasets/scenes" / record.file_name, min_score=-np.inf)
        order = np.argsort(-stored["bbox.scores"], kind="stable")
        assert len(order) > 0
        np.testing.assert_allclose([d.score for d in found], stored["bbox.scores"][order], atol=1e-5)


def test_what_does_not_fit_is_one_line(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> None:
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text())
    params["features"]["method"] = "spp"
    put_params(project, params)
    done = run_rcnn(project, "run", "features", check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "features.layers" in line]
    assert "fc6 of small takes 1024 values, the pyramid [1, 2, 3, 6] gives 3200" in line
    assert "Traceback" not in done.stderr
