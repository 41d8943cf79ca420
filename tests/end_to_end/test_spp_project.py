"""The whole pipeline with features.method: spp: a network with a pyramid from scratch, and one with a new head."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import yaml

from cache import Artifact, Store
from manifests import load_dataset

Rcnn = Callable[..., "CompletedProcess[str]"]
LEVELS = [1, 2, 3]


@pytest.fixture
def spp_project(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> Path:
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text())
    params["network"]["pyramid"] = LEVELS
    params["features"]["method"] = "spp"
    params["features"]["spp"] = {"scales_px": [200, 320], "levels": LEVELS, "pooling": "max", "target_side_px": 64}
    put_params(project, params)
    run_rcnn(
        project, "run", "pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate", "report"
    )
    return project


def test_every_stage_and_the_detector_on_an_image_file(spp_project: Path) -> None:
    from rcnn import Detector

    artifact = Artifact.read(spp_project / "artifacts/features/manifest.json")
    assert artifact.summary["layers"] == {"fc6": 512, "fc7": 512, "pool5": 64 * 14}
    assert "mAP" in json.loads((spp_project / "reports/scores.json").read_text())["voc2010"]
    dataset = load_dataset(spp_project / "artifacts/manifest/manifest.json")
    store = Store(spp_project / "artifacts")
    detected = Artifact.read(spp_project / "artifacts/detect/manifest.json")
    detector = Detector.load(spp_project)
    for record in dataset.split("test")[:2]:
        stored = store.get("detect", detected.keys[record.id]).arrays
        found = detector(spp_project / "artifacts/datasets/scenes" / record.file_name, min_score=-np.inf)
        order = np.argsort(-stored["bbox.scores"], kind="stable")
        assert len(order) > 0
        np.testing.assert_allclose([d.score for d in found], stored["bbox.scores"][order], atol=1e-5)


def test_fine_tuning_leaves_the_convolutions_and_keeps_its_maps(
    spp_project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]
) -> None:
    from safetensors.numpy import load_file

    before, after = (load_file(spp_project / f"artifacts/{s}/weights.safetensors") for s in ("pretrain", "finetune"))
    moved = {name.split(".")[0] for name, value in before.items() if value.tobytes() != after[name].tobytes()}
    assert moved == {"classifier"}
    maps = Artifact.read(spp_project / "artifacts/finetune/manifest.json")
    store = Store(spp_project / "artifacts")
    assert not store.missing("finetune", maps.keys.values())
    params = yaml.safe_load((spp_project / "params.yaml").read_text())
    params["finetune"]["lr"] *= 0.5
    put_params(spp_project, params)
    done = run_rcnn(spp_project, "run", "finetune", "features")
    assert [line for line in done.stderr.splitlines() if "images computed" in line] == [
        f"finetune: 0 images computed, {len(maps.entries)} found in the store",
        "features: 15 images computed, 0 found in the store",  # fc6 and fc7 are other ones
    ]
    assert Artifact.read(spp_project / "artifacts/finetune/manifest.json").keys == maps.keys
    assert not maps.unfinished
    assert not [ref for ref in store.references().values() if ref.unfinished]


def test_squeezenets_weights_with_a_new_head(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> None:
    import torch
    from safetensors.torch import save_file

    from stages.networks.network import build

    plain = build("squeezenet1_0", 10, generator=torch.Generator().manual_seed(0)).trunk.state_dict()
    save_file(plain, project / "sq.safetensors")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["network"].update(name="squeezenet1_0", weights="sq.safetensors", pyramid=[1, 2], fc=[16, 8])
    params["features"].update(
        method="spp", spp={"scales_px": [200], "levels": [1, 2], "pooling": "max", "target_side_px": 224}
    )
    params["finetune"].update(bg_iou_low=0.1, bg_per_batch=4, iterations=2, mirror=True)
    params["svm"]["duplicate_iou"] = 0.7
    put_params(project, params)
    done = run_rcnn(project, "run", "pretrain", "finetune", "features", "svm", "bbox", "detect")
    assert "pretrain: fc6, fc7 and fc8 of squeezenet1_0 are new and random" in done.stderr
    artifact = Artifact.read(project / "artifacts/features/manifest.json")
    assert artifact.summary["layers"] == {"fc6": 16, "fc7": 8, "pool5": 512 * 5}


def test_what_does_not_fit_is_one_line(project: Path, run_rcnn: Rcnn, put_params: Callable[..., None]) -> None:
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text())
    params["features"]["method"] = "spp"
    put_params(project, params)
    done = run_rcnn(project, "run", "finetune", check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "features.method" in line]
    assert "fc6 of small takes 1024 values, the pyramid [1, 2, 3, 6] gives 3200" in line
    done = run_rcnn(project, "run", "features", check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "features.layers" in line]
    assert "fc6 of small takes 1024 values, the pyramid [1, 2, 3, 6] gives 3200" in line
    assert "Traceback" not in done.stderr
