"""A project with a detector in each role that the shipped grids name."""

from pathlib import Path

import pytest
from grid_projects import make_roles


@pytest.fixture(scope="session")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a project. Not to be changed: take ``project``."""
    folder = tmp_path_factory.mktemp("grids")
    make_roles(folder)
    return folder


@pytest.fixture
def project(roles: Path, tmp_path: Path) -> Path:
    for path in roles.rglob("*.yaml"):
        copy = tmp_path / path.relative_to(roles)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path
