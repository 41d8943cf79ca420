"""Each script of examples/ runs on a finished project and prints what it says (tune_svm.py: test_with_dvc.py)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from manifests import load_registered

ROOT = Path(__file__).parents[2]
Rcnn = Callable[..., "CompletedProcess[str]"]


def example(name: str, *arguments: object) -> list[str]:
    """Run a script as a user does, and return the lines it prints."""
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    names = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=names, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def photograph(project: Path) -> Path:
    """Return the first test image of a project."""
    found = load_registered("scenes", project / "artifacts")
    return found.source.root / found.dataset.split("test")[0].file_name


@pytest.mark.slow
def test_a_detector_on_photographs(finished: Path) -> None:
    file = photograph(finished)
    lines = example("detect_photographs.py", finished, file, file)
    assert all(line.startswith(f"{file}: ") and " at " in line for line in lines)
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]


@pytest.mark.slow
def test_features_by_plain_zarr(finished: Path) -> None:
    assert "from rcnn" not in (ROOT / "examples/read_features.py").read_text()
    lines = example("read_features.py", finished)
    assert len(lines) == 15 and all("objects, " in line and "'pool5': (" in line for line in lines)


@pytest.mark.slow
def test_two_detectors_compared(project: Path, run_rcnn: Rcnn) -> None:
    run_rcnn(project, "detector", "add", "again", "--like", "rcnn")
    nodes = ("pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate")
    said = run_rcnn(project, "-d", "again", "run", *nodes).stderr
    assert "taken from the store" in said  # the same parameters: nothing is trained or computed
    lines = example("compare_detectors.py", project, photograph(project), "rcnn", "again")
    assert [line.partition(": mAP ")[0] for line in lines] == ["rcnn", "again"]
    assert lines[0].partition(": ")[2] == lines[1].partition(": ")[2]


def test_the_scripts_are_those_that_are_tested() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {
        "compare_detectors.py",
        "detect_photographs.py",
        "read_features.py",
        "tune_svm.py",
    }
