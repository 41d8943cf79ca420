"""What killed stages leave outside the store: swept by ``rcnn cache gc``, unless a stage is running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cache import files as _fs
from pipeline import leftovers
from pipeline.cli import cli
from pipeline.cli import run as run_command
from pipeline.graph import project_nodes

ROOT = Path(__file__).parents[2]
HOLDS = """
import sys, time
from pathlib import Path
from pipeline.leftovers import running
with running(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)
"""


def gc(project: Path, *options: str) -> str:
    done = CliRunner().invoke(cli, ["-C", str(project), "cache", "gc", *options])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("dataset: scenes\n")
    return tmp_path


@pytest.fixture
def left(project: Path) -> list[Path]:
    """Leave what a killed run does: a half-written file and folder of two stages, and files to be renamed."""
    own = f"{_fs._machine()}-999999999-0123456789abcdef01234567"  # no process has that number
    files = [
        project / "artifacts/svm/.partial/svm/model.h5",
        project / "reports/.partial/evaluate/results/coco_bbox.json",
        project / "reports/.partial/report/index.html",
        project / f"reports/.timings.json.{own}.partial",
        project / "artifacts/manifest/.PYm2ZXhCCGOWk2ZUXv1H-A.tmp",  # DVC's
        project / "reports/results/no_bbox/.PYm2ZXhCCGOWk2ZUXv1H-A.tmp",
        project / f"artifacts/checkpoints/finetune/.state.safetensors.{own}.partial",
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    (project / "artifacts/bbox/.partial").mkdir(parents=True)
    return files


def test_gc_sweeps_what_killed_stages_left(project: Path, left: list[Path]) -> None:
    others = [project / "artifacts/svm/model.h5", project / "reports/note.partial", project / "mine/.partial/svm/x"]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"whole")
    assert "0 entries" in gc(project)  # the grace period
    assert "8 entries" in gc(project, "--grace", "0")
    assert all(path.exists() for path in left)
    assert "8 entries, 28 B, removed" in gc(project, "--grace", "0", "--delete")
    assert not any(path.exists() for path in left)
    assert [path for path in project.rglob(".partial") if "mine" not in path.parts] == []
    assert all(other.exists() for other in others)
    assert "0 entries" in gc(project, "--grace", "0", "--delete")


def test_a_running_stage_keeps_its_own_and_a_killed_one_does_not(project: Path, left: list[Path]) -> None:
    command = [sys.executable, "-c", HOLDS, str(project)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as stage:
        assert stage.stdout is not None
        assert stage.stdout.readline() == "held\n"
        assert "a stage is running" in gc(project, "--grace", "0", "--delete")
        assert all(path.exists() for path in left)
        stage.send_signal(signal.SIGKILL)
        stage.wait()
    assert "a stage is running" not in gc(project, "--grace", "0", "--delete")
    assert not any(path.exists() for path in left)


def test_a_stage_that_rcnn_runs_is_seen_to_run(
    project: Path, left: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(run_command, "run_node", lambda *_: found.append(leftovers.sweep(Path(), 0, dry_run=False)))
    monkeypatch.chdir(project)
    assert CliRunner().invoke(cli, ["run", "svm", "bbox"]).exit_code == 0
    assert found == [None, None]
    assert len(leftovers.sweep(project, 0, dry_run=False) or ()) == 8


def test_no_link_is_followed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "svm").mkdir()
    (outside / "svm/kept").touch()
    (project / "artifacts/svm").mkdir(parents=True)
    (project / "artifacts/svm/.partial").symlink_to(outside)
    (project / "artifacts/bbox/.partial").mkdir(parents=True)
    (project / "artifacts/bbox/.partial/bbox").symlink_to(outside)
    (project / "artifacts/bbox/.model.h5.partial").symlink_to(outside / "svm/kept")
    assert leftovers.sweep(project, 0, dry_run=False) == []
    assert (outside / "svm/kept").exists()


def test_every_stage_writes_where_gc_looks(project: Path) -> None:
    for name in ("mine", "joined"):
        (project / "detectors" / name).mkdir(parents=True)
    (project / "detectors/mine/params.yaml").write_text("kind: sppnet\n")
    (project / "detectors/joined/params.yaml").write_text("kind: combined\ncombine: {detectors: [rcnn, mine]}\n")
    nodes = project_nodes(project)
    assert {node.outputs["html"] for node in nodes if node.name == "report"} == {
        "reports/index.html",
        "reports/mine/index.html",
        "reports/joined/index.html",
    }
    for node in nodes:
        for output in node.outputs.values():
            (project / output).parent.joinpath(".partial", node.name).mkdir(parents=True, exist_ok=True)
    assert leftovers.sweep(project, 0, dry_run=False)
    assert list(project.rglob(".partial")) == []
