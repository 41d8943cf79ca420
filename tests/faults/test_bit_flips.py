"""The short form of bit_flips.py, and what a stage does that meets a damaged object."""

import random
from pathlib import Path

import pytest
from bit_flips import flip, flip_and_verify
from tiny_project import StageServer, forget, results

from cache import Artifact, Store


def test_verify_finds_every_flipped_bit(project: Path) -> None:
    assert flip_and_verify(Store(project / "artifacts"), 100, random.Random(0)).total() == 100


@pytest.mark.parametrize(
    ("damaged", "files", "reader"),
    [
        ("proposals", "data.h5", "finetune"),
        ("features", "data.zarr/fc7/c/0/0", "svm"),
        ("features", "data.zarr/pool5/c/0/0", "bbox"),
        ("detect", "data.h5", "evaluate"),
    ],
)
def test_a_stage_that_reads_a_damaged_object_says_so_and_the_run_ends_as_it_should(
    project: Path, undisturbed: Path, server: StageServer, damaged: str, files: str, reader: str
) -> None:
    key = Artifact.read(project / f"artifacts/{damaged}/manifest.json").entries[0][1]
    path = Store(project / "artifacts").path(damaged, key) / files
    flip(path, 8 * (path.stat().st_size // 2))
    forget(project, reader)
    stopped = server.run(project, "run", reader)
    assert stopped.status == 2, stopped.said
    line = stopped.said.splitlines()[-1]
    assert line.startswith(f"rcnn: {damaged} object {key}")
    assert "is damaged" in line
    assert "moved to quarantine" in line
    assert f"dvc repro -f -s {damaged}" in line
    assert "Traceback" not in stopped.said
    again = server.run(project, "run", damaged)
    assert f"{damaged}: 1 images computed" in again.said
    assert server.run(project, "run", reader).status == 0
    assert server.run(project, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(project) == results(undisturbed)


def test_a_stage_that_meets_damage_of_its_own_computes_it_again(
    project: Path, undisturbed: Path, server: StageServer
) -> None:
    keys = [key for _, key in Artifact.read(project / "artifacts/proposals/manifest.json").entries]
    for key in keys[:2]:
        path = Store(project / "artifacts").path("proposals", key) / "data.h5"
        flip(path, 8 * (path.stat().st_size // 2))
    again = server.run(project, "run", "proposals")
    assert again.status == 0, again.said
    for key in keys[:2]:
        assert f"proposals object {key} was damaged and is in quarantine; computing it again" in again.said
    assert server.run(project, "cache", "gc", "--delete", "--grace", "0").status == 0
    assert results(project) == results(undisturbed)
