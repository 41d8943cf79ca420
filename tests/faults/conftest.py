"""One tiny project, run through every stage once undisturbed; and the helper modules beside it made importable."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_objects import Samples
from tiny_project import (
    CLASSIFYING,
    COMBINING,
    ROOT,
    STAGE_NAMES,
    StageServer,
    combine_with_itself,
    make_classifying,
    make_project,
    rcnn_command,
)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have all run. Not to be changed: take ``project`` for that."""
    project = make_project(tmp_path_factory.mktemp("undisturbed") / "project")
    command = rcnn_command(project, "run", *STAGE_NAMES)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def project(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed project."""
    copy = tmp_path / "project"
    shutil.copytree(undisturbed, copy)
    return copy


@pytest.fixture
def combining(project: Path, server: StageServer) -> Path:
    """The same with its detections saved and combined with themselves."""
    combine_with_itself(project)
    done = server.run(project, "run", *COMBINING)
    assert done.status == 0, done.said
    return project


@pytest.fixture(scope="session")
def classified(server: StageServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose classification stages have all run. Not to be changed: take ``classifying`` for that."""
    project = make_classifying(tmp_path_factory.mktemp("classified") / "project")
    done = server.run(project, "run", *CLASSIFYING)
    assert done.status == 0, done.said
    return project


@pytest.fixture
def classifying(classified: Path, tmp_path: Path) -> Path:
    """A copy of the classified project."""
    copy = tmp_path / "project"
    shutil.copytree(classified, copy)
    return copy


@pytest.fixture(scope="session")
def server() -> Iterator[StageServer]:
    """Runs ``rcnn`` under faults."""
    server = StageServer()
    yield server
    server.close()


@pytest.fixture
def samples() -> type[Samples]:
    return Samples
