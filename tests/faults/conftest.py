"""One tiny project, run through every stage once undisturbed; and the helper modules beside it made importable."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_once import Once

sys.path.insert(0, str(Path(__file__).parent))

from small_objects import Samples
from tiny_project import (
    CLASSIFYING,
    COMBINING,
    HEAD_NAMES,
    REGION_KINDS,
    ROOT,
    STAGE_NAMES,
    StageServer,
    combine_with_itself,
    make_classifying,
    make_project,
    make_regions,
    rcnn_command,
    region_nodes,
    run_of,
)


@pytest.fixture(scope="session")
def undisturbed(once: Once) -> Path:
    """A project whose stages have all run. Not to be changed: take ``project`` for that."""

    def fill(folder: Path) -> None:
        command = rcnn_command(make_project(folder), "run", *STAGE_NAMES)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return once("undisturbed", fill)


@pytest.fixture
def project(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed project."""
    return Path(shutil.copytree(undisturbed, tmp_path / "project"))


@pytest.fixture
def combining(project: Path, server: StageServer) -> Path:
    """The same with its detections saved and combined with themselves."""
    combine_with_itself(project)
    done = server.run(project, "run", *COMBINING)
    assert done.status == 0, done.said
    return project


@pytest.fixture(scope="session")
def classified(server: StageServer, once: Once) -> Path:
    """A project whose classification stages have all run. Not to be changed: take ``classifying`` for that."""

    def fill(folder: Path) -> None:
        done = server.run(make_classifying(folder), "run", *CLASSIFYING)
        assert done.status == 0, done.said

    return once("classified", fill)


@pytest.fixture
def classifying(classified: Path, tmp_path: Path) -> Path:
    """A copy of the classified project."""
    return Path(shutil.copytree(classified, tmp_path / "project"))


@pytest.fixture(scope="session")
def finished_regions(server: StageServer, once: Once) -> Path:
    """A project with a detector of each of ``REGION_KINDS``, run to the report. Not to be changed: take ``regions``."""

    def fill(folder: Path) -> None:
        project = make_regions(folder)
        for step in (HEAD_NAMES, *map(region_nodes, REGION_KINDS)):
            done = server.run(project, *run_of(*step))
            assert done.status == 0, done.said

    return once("regions", fill)


@pytest.fixture
def regions(finished_regions: Path, tmp_path: Path) -> Path:
    """A copy of the project with region networks."""
    return Path(shutil.copytree(finished_regions, tmp_path / "project"))


@pytest.fixture(scope="session")
def server() -> Iterator[StageServer]:
    """Runs ``rcnn`` under faults."""
    server = StageServer()
    yield server
    server.close()


@pytest.fixture
def samples() -> type[Samples]:
    return Samples
