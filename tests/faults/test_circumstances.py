"""Stores that are emptied, newer, read-only, another user's, or in an odd place."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kill import DvcDriver
from tiny_project import (
    IMAGE_STAGES,
    STAGE_NAMES,
    TRAINING,
    Answer,
    StageServer,
    forget,
    make_project,
    results,
    tiny_params,
)

from cache import Artifact, Store
from cache.maintenance import verify
from stages.graph import root_nodes

NOBODY = 65534
two_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another user")


def the_line(run: Answer) -> str:
    """What a refused command says; AssertionError unless that is one line and exit code 2."""
    assert run.status == 2, run.said
    assert "Traceback" not in run.said
    (line,) = [line for line in run.said.splitlines() if line.startswith("rcnn: ")]
    return line


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A folder that every user can reach (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def with_shared_store(undisturbed: Path, public_dir: Path) -> Callable[[str], Path]:
    """Makes copies of the undisturbed project that use the store ``public_dir / "store"`` and belong to nobody."""

    def make(name: str) -> Path:
        project = public_dir / name
        shutil.copytree(undisturbed, project, ignore=shutil.ignore_patterns("objects", "refs", "tmp", "store.json"))
        params = tiny_params()
        params["store"]["root"] = str(public_dir / "store")
        (project / "params.yaml").write_text(yaml.safe_dump(params))
        for path in (project, *project.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        return project

    return make


@pytest.mark.parametrize(
    ("gone", "reader"),
    [("proposals", "finetune"), ("proposals", "features"), ("features", "svm"), ("detect", "evaluate")],
)
def test_deleted_objects_under_a_manifest_that_is_fresh(
    project: Path, undisturbed: Path, server: StageServer, gone: str, reader: str
) -> None:
    keys = [key for _, key in Artifact.read(project / f"artifacts/{gone}/manifest.json").entries][:2]
    for key in keys:
        shutil.rmtree(Store(project / "artifacts").path(gone, key))
    forget(project, reader)
    run = server.run(project, "run", reader)
    assert run.status == 0, run.said
    (warning,) = [line for line in run.said.splitlines() if " is gone" in line]
    assert any(warning.startswith(f"{reader}: warning: {gone} object {key} is gone; computing again") for key in keys)
    assert f"{gone}: {len(keys)} images computed" in run.said
    assert results(project) == results(undisturbed)


def test_a_gap_behind_a_gap_is_filled_too(project: Path, undisturbed: Path, server: StageServer) -> None:
    store = Store(project / "artifacts")
    for stage in ("proposals", "features"):
        (key, *_) = Artifact.read(project / f"artifacts/{stage}/manifest.json").keys.values()
        shutil.rmtree(store.path(stage, key))
    forget(project, "svm")
    run = server.run(project, "run", "svm")
    assert run.status == 0, run.said
    assert [line.split(" is gone")[0].rpartition(" ")[0] for line in run.said.splitlines() if " is gone" in line] == [
        "svm: warning: features object",
        "features: warning: proposals object",
    ]
    assert results(project) == results(undisturbed)


def test_all_objects_gone_is_for_the_user_to_decide(project: Path, server: StageServer) -> None:
    shutil.rmtree(project / "artifacts/objects/features")
    forget(project, "svm")
    assert "`dvc repro -f -s features`" in the_line(server.run(project, "run", "svm"))
    assert not (project / "artifacts/objects/features").exists()


def test_objects_gone_where_the_parameters_are_no_longer_the_same(project: Path, server: StageServer) -> None:
    key = Artifact.read(project / "artifacts/features/manifest.json").entries[0][1]
    shutil.rmtree(Store(project / "artifacts").path("features", key))
    params = tiny_params()
    params["features"]["context_px"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    forget(project, "svm")
    assert f"no features object {key}; run `dvc repro -f -s features`" in the_line(server.run(project, "run", "svm"))


def test_dvc_sees_no_change_where_a_gap_was_filled(project: Path, undisturbed: Path, warm_rcnn: Path) -> None:
    driver = DvcDriver(project, rcnn=warm_rcnn)
    driver.dvc("repro")
    key = Artifact.read(project / "artifacts/proposals/manifest.json").entries[0][1]
    shutil.rmtree(Store(project / "artifacts").path("proposals", key))
    forget(project, "features")
    ended = driver.call("repro", "--force", "--single-item", "features")
    assert ended.status == 0, ended.said
    assert "proposals: 1 images computed" in ended.said
    said = driver.call("repro").said
    for stage in ("proposals", "finetune", "features", "svm"):
        assert f"Stage '{stage}' didn't change, skipping" in said
    assert results(project) == results(undisturbed)


@pytest.mark.parametrize("command", [("run", "features"), ("run", "svm"), ("cache", "gc", "--delete"), ("cache", "ls")])
def test_a_store_of_a_newer_version_is_left_alone(project: Path, server: StageServer, command: tuple[str, ...]) -> None:
    (project / "artifacts/store.json").write_text(json.dumps({"format": 99}))
    before = results(project)
    line = the_line(server.run(project, *command))
    assert "format 99" in line
    assert "update the program" in line
    assert results(project) == before


def test_a_path_with_spaces_and_other_letters(undisturbed: Path, server: StageServer, tmp_path: Path) -> None:
    params = tiny_params()
    params["store"]["root"] = "Ergebnisse für 数据 & 'mehr'"
    project = make_project(tmp_path / "Prüf stand ü", params)
    done = server.run(project, "run", *STAGE_NAMES)
    assert done.status == 0, done.said
    (project / params["store"]["root"] / "store.json").replace(project / "artifacts/store.json")
    for name in ("objects", "refs"):
        (project / params["store"]["root"] / name).rename(project / "artifacts" / name)
    assert results(project) == results(undisturbed)


@two_users
def test_a_read_only_store_is_read_and_whoever_would_write_is_told(
    undisturbed: Path, public_dir: Path, with_shared_store: Callable[[str], Path], server: StageServer
) -> None:
    for name in ("objects", "refs", "tmp", "store.json"):
        copy = shutil.copytree if (undisturbed / "artifacts" / name).is_dir() else shutil.copy
        (public_dir / "store").mkdir(exist_ok=True)
        copy(undisturbed / "artifacts" / name, public_dir / "store" / name)
    project = with_shared_store("reading")
    forget(project, "svm")
    assert server.run(project, "run", "svm", euid=NOBODY).status == 0
    assert (project / "artifacts/svm/model.h5").read_bytes() == (undisturbed / "artifacts/svm/model.h5").read_bytes()
    assert server.run(project, "cache", "verify", euid=NOBODY).status == 0
    for stage in IMAGE_STAGES:
        before = (project / f"artifacts/{stage}/manifest.json").read_bytes()
        run = server.run(project, "run", stage, euid=NOBODY)
        assert run.status == 0, run.said
        assert f"{stage}: 0 images computed" in run.said
        assert f"{public_dir / 'store'}: this user may only read this store" in run.said
        assert (project / f"artifacts/{stage}/manifest.json").read_bytes() == before
    shutil.rmtree(public_dir / "store/objects/features")
    line = the_line(server.run(project, "run", "features", euid=NOBODY))
    assert str(public_dir / "store") in line
    assert "write permission" in line
    assert verify(Store(public_dir / "store")).problems == ()


@two_users
@pytest.mark.parametrize("stage", TRAINING)
def test_a_stage_that_trains_beside_a_read_only_store_keeps_nothing_there_and_ends_well(
    undisturbed: Path, public_dir: Path, with_shared_store: Callable[[str], Path], server: StageServer, stage: str
) -> None:
    (public_dir / "store").mkdir()
    for name in ("objects", "refs", "tmp", "store.json"):
        copy = shutil.copytree if (undisturbed / "artifacts" / name).is_dir() else shutil.copy
        copy(undisturbed / "artifacts" / name, public_dir / "store" / name)
    shutil.rmtree(public_dir / "store/objects" / stage)
    project = with_shared_store("reading")
    (project / f"artifacts/{stage}/trained.json").unlink()
    run = server.run(project, "run", stage, euid=NOBODY)
    assert run.status == 0, run.said
    said = f"{stage}: warning: {public_dir / 'store'}: this user may only read this store; what was trained is not kept"
    assert said in run.said
    assert not (public_dir / "store/objects" / stage).exists()
    for name in root_nodes()[stage].outputs.values():
        assert (project / name).read_bytes() == (undisturbed / name).read_bytes(), name


@two_users
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_two_users_with_different_umasks(
    public_dir: Path, with_shared_store: Callable[[str], Path], server: StageServer, umask: int
) -> None:
    mine, theirs = with_shared_store("mine"), with_shared_store("theirs")
    stages = ("pretrain", "proposals", "finetune", "features", "svm", "bbox", "detect")
    assert server.run(mine, "run", *stages, umask=umask).status == 0
    forget(theirs, "svm")
    for command in (("run", "svm"), ("cache", "verify"), ("cache", "ls"), ("cache", "gc")):
        run = server.run(theirs, *command, euid=NOBODY, umask=0o022)
        if umask == 0o022:
            assert run.status == 0, run.said
        else:
            line = the_line(run)
            assert str(public_dir / "store") in line
            assert "permission" in line.lower()
