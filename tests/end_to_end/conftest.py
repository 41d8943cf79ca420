"""One small project, run through every stage once, shared by the tests of this folder."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_once import Once

from stages.graph import HEAD, KINDS

ROOT = Path(__file__).parents[2]
STAGE_NAMES = [one.name for one in (*HEAD, *KINDS["rcnn"].places)]


def small_params() -> dict[str, Any]:
    """The demo's parameters, cut down to seconds."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["scenes"].update(n_train=10, n_test=5, classification_train=160, classification_val=40)
    params["proposals"].update(max_proposals=40, k=[100])
    params["pretrain"].update(iterations=8, eval_every=4, checkpoint_every=4)
    params["finetune"].update(iterations=4, eval_every=2, checkpoint_every=2, fg_per_batch=4, bg_per_batch=12)
    params["evaluate"].update(n_bootstrap=20)
    params["execution"]["workers"] = 2
    return params


@dataclass(frozen=True)
class Rcnn:
    """``rcnn -C project ARGUMENTS``, run by a program."""

    program: tuple[str, ...]

    def __call__(self, project: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self.program, "-C", str(project), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done


def write_params(project: Path, params: dict[str, Any]) -> None:
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="session")
def finished(once: Once) -> Path:
    """A project whose stages have all run. Not to be changed: take ``project`` for that."""

    def fill(project: Path) -> None:
        project.mkdir(parents=True)
        write_params(project, small_params())
        recorded(project, project / "reads.json", "run", *STAGE_NAMES)

    return once("finished", fill)


def recorded(project: Path, record: Path, *arguments: str) -> None:
    """Run ``rcnn``, and leave what the stages read in ``record`` (recorded.py)."""
    command = [sys.executable, str(Path(__file__).parent / "recorded.py"), str(record), "-C", str(project), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project."""
    return Path(shutil.copytree(finished, tmp_path / "project"))


@pytest.fixture(scope="session")
def run_rcnn(warm_rcnn: Path) -> Rcnn:
    return Rcnn((str(warm_rcnn),))


@pytest.fixture(scope="session")
def run_new_rcnn() -> Rcnn:
    """Runs ``rcnn`` in a process that imports everything itself."""
    return Rcnn((sys.executable, "-c", "from pipeline.cli import main; main()"))


@pytest.fixture(scope="session")
def record_rcnn() -> Callable[..., None]:
    return recorded


@pytest.fixture(scope="session")
def put_params() -> Callable[[Path, dict[str, Any]], None]:
    return write_params
