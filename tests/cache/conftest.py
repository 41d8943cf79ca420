"""A small store, and folders that belong to nobody in particular."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import other_user
import pytest
from store_samples import Samples

from cache import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def samples() -> Samples:
    return Samples()


@pytest.fixture
def public_dir() -> Iterator[Path]:
    """A folder that every user can reach (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def unprivileged() -> Callable[[], AbstractContextManager[None]]:
    """A context in which file permissions hold, even where the tests run as root."""
    return other_user.unprivileged


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = [path.stat().st_mode for path in folders]
    for path in folders:
        path.chmod(0o555)
    try:
        with other_user.unprivileged():
            yield
    finally:
        for path, mode in zip(folders, modes, strict=True):
            if path.exists():
                path.chmod(mode)


@pytest.fixture
def read_only() -> Callable[[Path], AbstractContextManager[None]]:
    """A context in which nobody may write into a folder and those below it, root and their owner included."""
    return _read_only


@pytest.fixture(params=["folder", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store may lie: a folder, and two kinds of URL."""
    if request.param == "folder":
        return str(tmp_path / "a store")
    base = "memory://stores" if request.param == "memory" else request.getfixturevalue("s3_bucket")
    return f"{base}/{tmp_path.name}-{os.urandom(4).hex()}"
