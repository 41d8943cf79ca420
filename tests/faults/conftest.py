"""One tiny project, run through every stage once undisturbed; and the helper modules beside it made importable."""

import shutil
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
    SEGMENTATION_STAGE_NAMES,
    STAGE_NAMES,
    StageServer,
    combine_with_itself,
    make_classifying,
    make_project,
    make_regions,
    region_nodes,
    run_of,
)


@pytest.fixture(scope="session")
def undisturbed(server: StageServer, once: Once) -> Path:
    """A project whose stages have all run. Not to be changed: take ``project`` for that."""

    def fill(folder: Path) -> None:
        done = server.run(make_project(folder), "run", *STAGE_NAMES)
        assert done.status == 0, done.said

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
def segmented(undisturbed: Path, server: StageServer, once: Once) -> Path:
    """The undisturbed project with segmentation's stages run. Not to be changed: take ``segmenting`` for that."""

    def fill(folder: Path) -> None:
        shutil.copytree(undisturbed, folder)
        done = server.run(folder, "run", *SEGMENTATION_STAGE_NAMES)
        assert done.status == 0, done.said

    return once("segmented", fill)


@pytest.fixture
def segmenting(segmented: Path, tmp_path: Path) -> Path:
    """A copy of the project with segmentation."""
    return Path(shutil.copytree(segmented, tmp_path / "project"))


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
