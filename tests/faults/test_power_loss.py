"""The short form of power_loss.py: some stages of each kind, few states of the disk after each call."""

import random
from pathlib import Path

import pytest
from crash_disk import Disk
from power_loss import check_stage, wrong_in
from tiny_project import CLASSIFICATION_STAGE_NAMES, SEGMENTATION_STAGE_NAMES, StageServer


@pytest.mark.parametrize("stage", ["proposals", "finetune", "svm", "evaluate"])
def test_whatever_was_not_synced_may_be_gone(
    server: StageServer, undisturbed: Path, tmp_path: Path, stage: str
) -> None:
    counts = check_stage(server, undisturbed, stage, tmp_path, 2, 1, random.Random(0))
    assert counts.calls > 40
    assert counts.states > counts.calls
    assert counts.reruns == 1


def test_whatever_combine_did_not_sync_may_be_gone(server: StageServer, combining: Path, tmp_path: Path) -> None:
    (tmp_path / "lost").mkdir()
    counts = check_stage(server, combining, "combine", tmp_path / "lost", 2, 1, random.Random(0))
    assert counts.calls > 40
    assert counts.reruns == 1


@pytest.mark.parametrize("stage", CLASSIFICATION_STAGE_NAMES)
def test_whatever_classification_did_not_sync_may_be_gone(
    server: StageServer, classified: Path, tmp_path: Path, stage: str
) -> None:
    counts = check_stage(server, classified, stage, tmp_path, 2, 1, random.Random(0))
    assert counts.calls > 40
    assert counts.reruns == 1


@pytest.mark.parametrize("stage", SEGMENTATION_STAGE_NAMES)
def test_whatever_segmentation_did_not_sync_may_be_gone(
    server: StageServer, segmented: Path, tmp_path: Path, stage: str
) -> None:
    counts = check_stage(server, segmented, stage, tmp_path, 1, 1, random.Random(0))
    assert counts.calls > 20
    assert counts.reruns == 1


@pytest.mark.parametrize("stage", ["steps/rpn_1", "steps/maps", "steps/roi_detect"])
def test_whatever_a_region_network_s_stage_did_not_sync_may_be_gone(
    server: StageServer, finished_regions: Path, tmp_path: Path, stage: str
) -> None:
    counts = check_stage(server, finished_regions, stage, tmp_path, 1, 1, random.Random(0))
    assert counts.calls > 40
    assert counts.reruns == 1


def lost_power(folder: Path, *calls: tuple[str, str], data: bytes = b"12345678") -> set[str]:
    """What may be wrong in the end, if these calls were made in ``folder``."""
    disk = Disk(folder)
    for call, names in calls:
        disk.apply(call, [f"{folder.resolve()}/{name}" for name in names.split(" > ")], data)
    return {problem for state in disk.states(random.Random(0), 1000) for problem in wrong_in(state)}


def test_the_model_loses_what_was_not_synced(tmp_path: Path) -> None:
    """A rename that nothing was synced before, that the content was, and that both were."""
    write = [("create", "reports.partial"), ("write", "reports.partial")]
    rename = ("rename", "reports.partial > reports")
    assert lost_power(tmp_path, *write, rename) == {
        "reports holds 0 bytes, not what was meant",
        "reports holds 4 bytes, not what was meant",
    }
    assert lost_power(tmp_path, *write, ("fsync", "reports.partial"), rename) == set()
    assert lost_power(tmp_path, ("create", "reports"), ("write", "reports")) != set()


def test_the_model_loses_entries_of_a_folder(tmp_path: Path) -> None:
    folder = "artifacts/objects/detect/ab/" + "ab" * 32
    (tmp_path / folder).parent.mkdir(parents=True)
    (tmp_path / "artifacts/tmp").mkdir()
    record = "artifacts/tmp/x/object.json"
    write = [("mkdir", "artifacts/tmp/x"), ("create", record), ("fsync", record)]
    rename = ("rename", f"artifacts/tmp/x > {folder}")
    assert lost_power(tmp_path, *write, rename) == {f"{folder} lacks ['object.json']"}
    assert lost_power(tmp_path, *write, ("fsync", "artifacts/tmp/x"), rename) == set()
