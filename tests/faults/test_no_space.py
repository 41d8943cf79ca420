"""A disk that is full, and a limit on the size of files, in every stage."""

import json
from pathlib import Path

import pytest
from tiny_project import (
    CLASSIFICATION_STAGE_NAMES,
    REGION_STAGES,
    SEGMENTATION_STAGE_NAMES,
    STAGE_NAMES,
    Answer,
    StageServer,
    forget,
    leftovers,
    node_of,
    results,
    run_of,
)

from cache import Store
from cache.maintenance import verify

# Writes that fail: 1 is the claim of a stage that computes objects, or the first output; 2 the first of an object or a
# checkpoint, or the second output; 5 is amid objects, checkpoints or outputs.
PLACES = (1, 2, 5)


def check_refused(project: Path, run: Answer, reason: str) -> None:
    """One clear line, exit code 2, no traceback, the store whole and nothing half-written left."""
    assert run.status == 2, run.said
    assert "Traceback" not in run.said
    refusals = [line for line in run.said.splitlines() if line.startswith("rcnn: ")]
    assert len(refusals) == 1, run.said
    assert f": {reason} while writing " in refusals[0]
    assert "free some space" in refusals[0]
    assert verify(Store(project / "artifacts")).problems == ()
    assert [name for name in leftovers(project) if "checkpoints" not in name] == []


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_full_disk_ends_a_stage_with_one_line_and_it_goes_on_when_there_is_space(
    project: Path, undisturbed: Path, server: StageServer, stage: str
) -> None:
    _check_full_disk(project, results(undisturbed), server, stage)


def test_a_full_disk_ends_combining_likewise(combining: Path, server: StageServer) -> None:
    _check_full_disk(combining, results(combining), server, "combine")


@pytest.mark.parametrize("stage", CLASSIFICATION_STAGE_NAMES)
def test_a_full_disk_ends_classification_likewise(
    classifying: Path, classified: Path, server: StageServer, stage: str
) -> None:
    _check_full_disk(classifying, results(classified), server, stage)


@pytest.mark.parametrize("stage", SEGMENTATION_STAGE_NAMES)
def test_a_full_disk_ends_segmentation_likewise(
    segmenting: Path, segmented: Path, server: StageServer, stage: str
) -> None:
    _check_full_disk(segmenting, results(segmented), server, stage)


@pytest.mark.parametrize("stage", REGION_STAGES)
def test_a_full_disk_ends_a_region_network_s_stage_likewise(
    regions: Path, finished_regions: Path, server: StageServer, stage: str
) -> None:
    _check_full_disk(regions, results(finished_regions), server, stage)


def _check_full_disk(project: Path, expected: dict[str, str], server: StageServer, stage: str) -> None:
    largest = _largest_file(project, stage)
    forget(project, stage)
    kept = results(project)
    check_refused(project, server.run(project, *run_of(stage), fsize=largest // 2), "File too large")
    refusals = 1
    for place in PLACES:
        run = server.run(project, *run_of(stage), root=project, fail_at=place)
        if run.status:  # else it has so few writes left to do
            check_refused(project, run, "No space left on device")
            refusals += 1
        assert {name: digest for name, digest in results(project).items() if name in kept} == kept
    assert refusals > 1
    went_on = server.run(project, *run_of(stage))
    assert went_on.status == 0, went_on.said
    assert results(project) == expected
    assert leftovers(project) == []


def test_a_stage_that_is_through_does_not_fail_for_the_note_of_its_time(
    project: Path, undisturbed: Path, server: StageServer
) -> None:
    forget(project, "manifest")
    last = server.run(project, "run", "manifest", root=project).writes
    forget(project, "manifest")
    run = server.run(project, "run", "manifest", root=project, fail_at=last)
    assert run.status == 0, run.said
    assert "warning: its time is not in reports/timings.json" in run.said
    assert results(project) == results(undisturbed)
    assert leftovers(project) == []


def test_what_was_computed_before_the_disk_was_full_stays_claimed(
    project: Path, undisturbed: Path, server: StageServer
) -> None:
    forget(project, "features")
    assert server.run(project, "run", "features", root=project, fail_at=50).status == 2
    made = len(list((project / "artifacts/objects/features").glob("*/*")))
    assert 0 < made < 7
    (claim,) = (project / "artifacts/refs").glob("features-*.json")
    assert json.loads(claim.read_text())["summary"]["unfinished"] is True
    assert server.run(project, "cache", "gc", "--delete", "--grace", "0").status == 0
    went_on = server.run(project, "run", "features")
    assert f"{made} found in the store" in went_on.said
    assert results(project) == results(undisturbed)


def _largest_file(project: Path, stage: str) -> int:
    """Size in bytes of the largest file that a stage writes."""
    node = node_of(stage)
    folders = [
        project / "artifacts/objects" / node.stage.name,
        *(project / path for path in node.outputs.values()),
    ]
    files = [path for folder in folders for path in (folder.rglob("*") if folder.is_dir() else [folder])]
    return max(path.stat().st_size for path in files if path.is_file())
