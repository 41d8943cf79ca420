"""What killed stages left half-written in the project's own folders, outside the store.

A running stage holds a shared lock on the folder ``artifacts/``, which ends with its process however that ends. Who
gets the lock for itself alone knows that no stage is running, and none starts until it is let go.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cache import make_dirs
from cache.backend import Entry
from cache.maintenance import Removal
from stages.contract import Log

from .context import PARTIAL
from .detectors import Layout, detector_names
from .graph import project_nodes

_DVC = ".tmp"


@contextmanager
def running(project: Path) -> Iterator[None]:
    """Hold the project as one in which a stage runs, whose half-written outputs nobody takes away."""
    with ExitStack() as stack:
        # A project that cannot be written, a file system without locks: the stage itself says what it cannot do.
        with suppress(OSError):
            make_dirs(project / "artifacts")
            stack.enter_context(_locked(project, fcntl.LOCK_SH))
        yield


@contextmanager
def alone(layout: Layout, node: str, log: Log) -> Iterator[None]:
    """Be the only run of this node in the project: two would write into one folder. Waits for another to end.

    The other may be left over from a DVC that was killed alone.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # as in ``running``
            folder = layout.project / "artifacts" / ".locks"
            make_dirs(folder)
            handle = os.open(folder / layout.lock_name(node), os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another run of this stage is at work in this project; waiting for it to end")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sweep(project: Path, grace_s: float, *, dry_run: bool) -> list[Removal] | None:
    """Remove (or only list) what no running stage needs and nobody has touched for ``grace_s``.

    None, and nothing is removed, where there is something but a stage is running, or that cannot be told.
    """
    if not _left(project):
        return []
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(project, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except OSError:
            return None
        return _swept(project, time.time() - grace_s, dry_run)


@contextmanager
def _locked(project: Path, how: int) -> Iterator[None]:
    folder = os.open(project / "artifacts", os.O_RDONLY)
    try:
        fcntl.flock(folder, how)
        yield
    finally:
        os.close(folder)


def _swept(project: Path, deadline: float, dry_run: bool) -> list[Removal]:
    removals = []
    for path in _left(project):
        with suppress(FileNotFoundError):  # DVC, which is under no lock of ours, has just finished with it
            files = [path, *path.rglob("*")] if path.is_dir() else [path]
            if max(file.lstat().st_mtime for file in files) >= deadline:
                continue
            nbytes = sum(file.lstat().st_size for file in files if not file.is_dir())
            if not dry_run:
                _remove(path)
            removals.append(Removal(Entry("temporary", "", path.relative_to(project).as_posix()), nbytes))
    return removals


def _left(project: Path) -> list[Path]:
    """Half-written outputs, and files that were to replace others; links are followed nowhere below these folders.

    DVC's own copies (``.NAME.tmp``) are among them: it is under no lock of ours, and only the grace period spares them.
    """
    nodes = project_nodes(project)
    names = sorted({node.name for node in nodes})
    finals = {project / path for node in nodes for path in node.outputs.values()}
    outputs = {path.parent for path in finals}
    partials = [folder / PARTIAL for folder in sorted(outputs) if not (folder / PARTIAL).is_symlink()]
    found = [partial / name for partial in partials for name in names]
    found += [partial for partial in partials if partial.is_dir() and not any(partial.iterdir())]
    layouts = [Layout(project, name) for name in detector_names(project)]
    checkpoints = {layout.checkpoints(name) for layout in layouts for name in names}
    for folder in sorted(outputs | checkpoints):
        found += sorted([*folder.glob(f".?*{PARTIAL}"), *folder.glob(f".?*{_DVC}")])
    for folder in sorted(path for path in finals if path.is_dir() and not path.is_symlink()):
        found += sorted(folder.rglob(f".?*{_DVC}"))
    return [path for path in found if path.exists() and not path.is_symlink()]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if path.parent.name == PARTIAL:
        with suppress(OSError):  # another stage's are still there
            path.parent.rmdir()
