"""The short form of bit_flips.py, and what a stage does that meets a damaged object."""

import random
from pathlib import Path

import pytest
from bit_flips import flip, flip_and_verify
from tiny_project import (
    CLASSIFICATION_STAGE_NAMES,
    TRAINING,
    StageServer,
    forget,
    list_file,
    node_of,
    results,
    run_of,
    tiny_params,
)

from cache import Artifact, Store
from manifests import load_dataset
from stages.training.held_out import held_out


def damage(project: Path, node: str, file: str, index: int = 0) -> str:
    """Flip a bit in the middle of a file of one of a node's objects; the object's key."""
    listed = Artifact.read(project / list_file(node))
    key = listed.entries[index][1]
    path = Store(project / "artifacts").path(listed.stage, key) / file
    flip(path, 8 * (path.stat().st_size // 2))
    return key


def test_verify_finds_every_flipped_bit(project: Path) -> None:
    assert flip_and_verify(Store(project / "artifacts"), 100, random.Random(0)).total() == 100


@pytest.mark.parametrize(
    ("damaged", "files", "reader"),
    [
        ("proposals", "data.h5", "finetune"),
        ("proposals", "data.h5", "features"),
        ("features", "data.zarr/fc7/c/0/0", "svm"),
        ("features", "data.zarr/pool5/c/0/0", "bbox"),
        ("detect", "data.h5", "evaluate"),
    ],
)
def test_a_stage_that_reads_a_damaged_object_says_so_and_the_run_ends_as_it_should(
    project: Path, undisturbed: Path, server: StageServer, damaged: str, files: str, reader: str
) -> None:
    key = damage(project, damaged, files)
    manifest = (project / f"artifacts/{damaged}/manifest.json").stat()
    forget(project, reader)
    run = server.run(project, "run", reader)
    assert run.status == 0, run.said
    assert f"{reader}: warning: {damaged} object {key} was damaged and is in quarantine; computing again" in run.said
    assert f"{damaged}: 1 images computed" in run.said
    assert [path.name.split("-")[1] for path in (project / "artifacts/quarantine").iterdir()] == [key]
    after = (project / f"artifacts/{damaged}/manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (manifest.st_ino, manifest.st_mtime_ns)
    assert server.run(project, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(project) == results(undisturbed)


def test_a_stage_that_meets_damage_of_its_own_computes_it_again(
    project: Path, undisturbed: Path, server: StageServer
) -> None:
    keys = [damage(project, "proposals", "data.h5", index) for index in (0, 1)]
    again = server.run(project, "run", "proposals")
    assert again.status == 0, again.said
    for key in keys:
        assert f"proposals object {key} was damaged and is in quarantine; computing it again" in again.said
    assert server.run(project, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(project) == results(undisturbed)


@pytest.mark.parametrize("stage", TRAINING)
def test_a_damaged_trained_object_is_trained_again(
    project: Path, undisturbed: Path, server: StageServer, stage: str
) -> None:
    key = damage(project, stage, "data.h5")
    again = server.run(project, "run", stage)
    assert again.status == 0, again.said
    assert f"{stage} object {key} was damaged and is in quarantine; computing it again" in again.said
    assert "taken from the store" not in again.said
    assert server.run(project, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(project) == results(undisturbed)
    assert "taken from the store" in server.run(project, "run", stage).said


@pytest.mark.parametrize("stage", CLASSIFICATION_STAGE_NAMES)
def test_a_classification_stage_that_meets_damage_computes_it_again(
    classifying: Path, classified: Path, server: StageServer, stage: str
) -> None:
    key = damage(classifying, stage, "data.h5")
    again = server.run(classifying, "run", stage)
    assert again.status == 0, again.said
    assert f"{stage} object {key} was damaged and is in quarantine; computing it again" in again.said
    assert server.run(classifying, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(classifying) == results(classified)


@pytest.mark.parametrize("stage", ["svr", "paste"])  # the others read none of their own
def test_a_segmentation_stage_that_meets_damage_of_its_own_computes_it_again(
    segmenting: Path, segmented: Path, server: StageServer, stage: str
) -> None:
    key = damage(segmenting, stage, "data.h5")
    again = server.run(segmenting, "run", stage)
    assert again.status == 0, again.said
    assert f"{stage} object {key} was damaged and is in quarantine; computing it again" in again.said
    assert server.run(segmenting, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(segmenting) == results(segmented)


@pytest.mark.parametrize(
    ("damaged", "file"), [("region_overlaps", "data.h5"), ("region_features", "data.zarr/fc6/c/0/0")]
)
def test_regressors_that_meet_damaged_rows_have_them_computed_again(
    segmenting: Path, segmented: Path, server: StageServer, damaged: str, file: str
) -> None:
    dataset, params = load_dataset(segmenting / "artifacts/manifest/manifest.json"), tiny_params()
    apart = held_out(dataset.split("train"), params["svr"]["held_out_fraction"], params["seed"])
    seen = next(i for i, one in enumerate(dataset.images) if one.split == "train" and one.id not in apart)
    key = damage(segmenting, damaged, file, seen)
    forget(segmenting, "svr")
    run = server.run(segmenting, "run", "svr")
    assert run.status == 0, run.said
    assert f"svr: warning: {damaged} object {key} was damaged and is in quarantine; computing again" in run.said
    assert f"{damaged}: 1 images computed" in run.said
    assert server.run(segmenting, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(segmenting) == results(segmented)


# A stage of maps or detections reads none of its own; the other trainings are as rpn's.
@pytest.mark.parametrize("node", ["steps/rpn_1", "steps/propose_1"])
def test_a_region_network_s_stage_that_meets_damage_computes_it_again(
    regions: Path, finished_regions: Path, server: StageServer, node: str
) -> None:
    stage, key = node_of(node).stage.name, damage(regions, node, "data.h5")
    again = server.run(regions, *run_of(node))
    assert again.status == 0, again.said
    assert f"{stage} object {key} was damaged and is in quarantine; computing it again" in again.said
    assert server.run(regions, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(regions) == results(finished_regions)


@pytest.mark.parametrize(
    ("damaged", "index", "file", "reader"),
    [
        ("steps/maps", 0, "data.zarr/mirrored/c/0/0/0", "steps/fast_2"),
        ("steps/propose_2", -1, "data.h5", "steps/roi_detect"),
        ("once/roi_detect", 0, "data.h5", "once/evaluate"),
    ],
)
def test_a_region_network_s_stage_that_reads_a_damaged_object_has_it_made_again(
    regions: Path, finished_regions: Path, server: StageServer, damaged: str, index: int, file: str, reader: str
) -> None:
    stage = node_of(damaged).stage.name
    key = damage(regions, damaged, file, index)
    forget(regions, reader)
    run = server.run(regions, *run_of(reader))
    assert run.status == 0, run.said
    assert f"warning: {stage} object {key} was damaged and is in quarantine; computing again" in run.said
    assert server.run(regions, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(regions) == results(finished_regions)
