"""OverFeat's detector: a tiny project, and what runs again when. All runs are of one server."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_project import StageServer, change, computed, done

from cache import Artifact, Store
from cache.errors import StageError
from manifests import load_dataset
from rcnn import Detector
from stages.graph import KINDS

NAME = "dense"  # of the detector in ``finished_regions``
NODES = [one.name for one in KINDS["overfeat"].places]
TRAININGS = ("pretrain", "finetune_dense", "regress")


def run(server: StageServer, project: Path, *nodes: str) -> dict[str, int]:
    return computed(done(server.run(project, "-d", NAME, "run", *(nodes or NODES))))


def weights(project: Path, node: str) -> bytes:
    return (project / "artifacts/detectors" / NAME / node / "weights.safetensors").read_bytes()


def listed(project: Path, node: str) -> Artifact:
    return Artifact.read(project / "artifacts/detectors" / NAME / node / "manifest.json")


@pytest.fixture
def project(finished_regions: Path, tmp_path: Path) -> Path:
    """A copy of the finished project."""
    return Path(shutil.copytree(finished_regions, tmp_path / "project"))


def test_from_the_dataset_to_the_report(finished_regions: Path) -> None:
    reports = finished_regions / "reports" / NAME
    assert 0 <= json.loads((reports / "scores.json").read_text())["voc2010"]["mAP"] <= 1
    page = (reports / "index.html").read_text(encoding="utf-8")
    assert "From windows to boxes" in page and "The box regressor" in page
    localisation = json.loads((reports / "localisation.json").read_text())
    assert "merged" in localisation
    assert len(listed(finished_regions, "merge").keys) == 3  # the test images
    assert len(listed(finished_regions, "slide").keys) == 4  # and one of training, held out


def test_a_second_run_computes_and_trains_nothing(server: StageServer, project: Path) -> None:
    before = [weights(project, node) for node in TRAININGS]
    counts = run(server, project)
    assert set(counts) >= {*TRAININGS, "maps", "slide", "merge"} and not any(counts.values()), counts
    assert before == [weights(project, node) for node in TRAININGS]


@pytest.mark.parametrize(
    ("group", "values", "again"),
    [
        ("merge", {"t": 0.7}, {"merge": 3}),
        ("merge", {"method": "nms"}, {"merge": 3}),
        ("merge", {"k": 1}, {"merge": 3}),
        ("slide", {"stride": "coarse"}, {"slide": 4, "merge": 3}),
        ("regress", {"lr": 0.001}, {"regress": 1, "slide": 4, "merge": 3}),
        ("regress", {"per_class": True}, {"regress": 1, "slide": 4, "merge": 3}),
        ("finetune_dense", {"context": True}, {"finetune_dense": 1, "slide": 4, "merge": 3}),
        ("maps", {"scales_px": [232]}, {"maps": 7, "finetune_dense": 1, "regress": 1, "slide": 4, "merge": 3}),
    ],
)
def test_a_change_runs_what_it_reaches_and_no_more(
    server: StageServer, project: Path, group: str, values: dict[str, Any], again: dict[str, int]
) -> None:
    change(project, NAME, group, **values)
    counts = run(server, project)
    assert {node: count for node, count in counts.items() if count} == again
    compared(project)


def test_one_more_test_image_is_computed_alone(server: StageServer, project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["scenes"]["n_test"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    done(server.run(project, "run", "scenes", "manifest", "proposals"))
    counts = run(server, project)
    assert {node: count for node, count in counts.items() if count} == {"maps": 1, "slide": 1, "merge": 1}


def compared(project: Path) -> None:
    """Hold that the detector, loaded, finds what the pipeline found."""
    found, store = listed(project, "merge"), Store(project / "artifacts")
    detector = Detector.load(project, name=NAME)
    for record in load_dataset(project / "artifacts/manifest/manifest.json").split("test"):
        stored = store.get(found.stage, found.keys[record.id]).arrays
        here = detector(project / "artifacts/datasets/scenes" / record.file_name, min_score=-np.inf)
        order = np.argsort(-stored["bbox.scores"], kind="stable")
        assert len(here) == len(order)
        np.testing.assert_allclose([d.score for d in here], stored["bbox.scores"][order], rtol=1e-6)
        np.testing.assert_allclose(np.reshape([d.box for d in here], (-1, 4)), stored["bbox.boxes"][order], atol=1e-4)


def test_a_detector_of_new_images_finds_what_the_pipeline_found(finished_regions: Path) -> None:
    compared(finished_regions)


@pytest.mark.parametrize("node", ["finetune_dense", "regress"])
def test_a_training_killed_in_the_midst_ends_with_the_same_bits(
    server: StageServer, finished_regions: Path, project: Path, node: str
) -> None:
    shutil.rmtree(project / "artifacts/objects" / node)
    checkpoints = project / f"artifacts/detectors/{NAME}/checkpoints/{node}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    killed = server.run(project, "-d", NAME, "run", node, root=checkpoints, kill_at=25)  # in a later checkpoint
    assert killed.status == -9 and list(checkpoints.glob("*.safetensors"))
    said = done(server.run(project, "-d", NAME, "run", node))
    assert "going on from the checkpoint at iteration" in said
    assert weights(project, node) == weights(finished_regions, node)
    assert not list(checkpoints.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("group", "values", "nodes", "said"),
    [
        ("maps", {"scales_px": [40, 72]}, ["maps"], "maps.scales_px: 40 px is less than a window's 64; leave it out"),
        ("maps", {"scales_px": [72, 72]}, ["maps"], "maps.scales_px: an entry is listed twice"),
        ("merge", {"t": 3}, ["merge"], "merge.t = 3"),
        ("merge", {"k": 0}, ["merge"], "merge.k = 0"),
        ("finetune_dense", {"fg_iou": 0.99}, ["finetune_dense"], "finetune_dense"),
        ("finetune_dense", {"held_out_fraction": 0}, ["slide", "merge"], "merge.t"),
        ("finetune_dense", {"iterations": 0}, ["finetune_dense"], "does not say what its outputs are"),
        (
            "slide",
            {"stride": "coarse"},
            ["slide", "localisation"],
            "merged from other windows or with other parameters",
        ),
        ("slide", {"stride": "coarse"}, ["slide", "report"], "merged from other windows; run `dvc repro`"),
        ("merge", {"t": 0.9}, ["localisation"], "or with other parameters; run `dvc repro`"),
        ("maps", {"scales_px": [72]}, ["maps", "finetune_dense"], "add scales to maps.scales_px, such as"),
    ],
)
def test_what_does_not_fit_is_one_line(
    server: StageServer, project: Path, group: str, values: dict[str, Any], nodes: list[str], said: str
) -> None:
    change(project, NAME, group, **values)
    answer = server.run(project, "-d", NAME, "run", *nodes)
    assert answer.status == 2, answer.said
    assert said in answer.said.splitlines()[-1] and "Traceback" not in answer.said


def test_what_is_no_image_or_too_long_is_named_and_the_others_are_done(
    server: StageServer, finished_regions: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    good = next((finished_regions / "artifacts/datasets/scenes/images").glob("test_*.jpg"))
    shutil.copyfile(good, folder / "b.jpg")
    (folder / "a.jpg").write_bytes(b"xx")
    Image.fromarray(np.zeros((4000, 20, 3), np.uint8)).save(folder / "c.png")
    answer = server.run(finished_regions, "-d", NAME, "detect", str(folder), "--out", str(tmp_path / "found"))
    assert answer.status == 2 and "Traceback" not in answer.said, answer.said
    assert "a.jpg: " in answer.said and "c.png: 20 x 4000 px would be" in answer.said
    assert (tmp_path / "found/b.jpg").exists()


def test_an_image_without_pixels_is_refused(finished_regions: Path) -> None:
    with pytest.raises(StageError, match="must have pixels"):
        Detector.load(finished_regions, name=NAME)(np.zeros((0, 5, 3), np.uint8))
