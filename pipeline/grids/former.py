"""The user's files that a grid changes: kept on disk while it does, put back where nobody else has changed them since.

``reports/.grid-former/`` holds, while an experiment runs, each file as it was and as the experiment has it, durably,
before the first is touched; ``index.json`` comes last, so that a folder without it is of a grid that changed nothing.
A grid that was killed leaves the folder, and whichever starts next puts the files back. The lock is on ``reports/``;
DVC inherits it, so that nothing is put back under an experiment that outlived its grid.
"""

import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cache import StoreError, atomic_write, make_dirs, sync
from cache.errors import ExecutionError

_FOLDER, _INDEX = ".grid-former", "index.json"
_FILES = ("params.yaml", "dvc.yaml")


def folder_of(project: Path) -> Path:
    """Return the folder that holds the former files while an experiment runs."""
    return project / "reports" / _FOLDER


@contextmanager
def alone(project: Path, patience_s: float = 0) -> Iterator[int]:
    """Be the project's only grid, and yield the lock, a file descriptor; ExecutionError where another runs.

    ``patience_s``: how long is waited for the other: what DVC leaves behind to report home has the lock, too.
    """
    until = time.monotonic() + patience_s
    make_dirs(project / "reports")
    lock = os.open(project / "reports", os.O_RDONLY)
    try:
        while not _locks(lock):
            if time.monotonic() >= until:
                raise ExecutionError(
                    f"{project}: another grid, or an experiment of one, is running in it; wait until it has ended"
                )
            time.sleep(0.1)
        yield lock
    finally:
        os.close(lock)


def _locks(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def keep_former(project: Path, changed: Mapping[str, bytes]) -> None:
    """Write down what the files of ``changed`` are, and what an experiment makes them (paths below the project).

    A link is followed: what it points to is what is kept, and written. Nothing of the user's has changed after it.
    """
    folder = folder_of(project)
    make_dirs(folder)
    entries = []
    for number, (file, ours) in enumerate(sorted(changed.items())):
        path = (project / file).resolve()
        there = path.exists()
        if there:
            atomic_write(folder / f"{number}.former", path.read_bytes())
        atomic_write(folder / f"{number}.ours", ours)
        mode = stat.S_IMODE(path.stat().st_mode) if there else None
        entries.append({"file": file, "mode": mode, "was": there})
    atomic_write(folder / _INDEX, json.dumps(entries, indent=1).encode())


def put_back(project: Path) -> tuple[list[str], list[str]]:
    """Put back every file that still reads as the experiment left it, and remove what was not there.

    Returns the files put back, and a line for each that was not: one edited since stays, and what it was is saved
    beside it. The former files go when all of theirs are back or saved.
    """
    folder = folder_of(project)
    back: list[str] = []
    lines: list[str] = []
    failed = False
    try:
        entries = json.loads((folder / _INDEX).read_bytes()) if (folder / _INDEX).exists() else []
        for number, entry in enumerate(entries):
            path = _changed(project, entry["file"])
            try:
                former = (folder / f"{number}.former").read_bytes() if entry["was"] else None
                said = _restored(path, former, (folder / f"{number}.ours").read_bytes(), entry.get("mode"))
            except (OSError, StoreError) as error:
                failed = True
                lines.append(f"{path}: cannot be put back ({error}); what it was is {folder / f'{number}.former'}")
                continue
            if said is None:
                continue
            (lines if said else back).append(f"{path}: {said}" if said else entry["file"])
        if not failed:
            (folder / _INDEX).unlink(missing_ok=True)  # first: without it there is nothing to put back
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, ValueError, LookupError, TypeError) as error:
        lines.append(f"{folder}: cannot be read ({error}); put your files back from it by hand, and remove it")
    return back, lines


def _changed(project: Path, file: str) -> Path:
    """Return where a file that a grid changes is; ValueError for any other, which an index from elsewhere may name."""
    inside = PurePosixPath(file)
    if inside.name not in _FILES or inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"{file} is no file that a grid changes")
    return (project / inside).resolve()


def _restored(path: Path, former: bytes | None, ours: bytes, mode: int | None) -> str | None:
    """Put one file back: "" where it was, None where it is as it was, else what became of it."""
    now = path.read_bytes() if path.exists() else None
    if now == former:
        return None
    if now != ours:
        what = "was edited while an experiment of the grid ran, and stays as it is now"
        return what if former is None else f"{what}; what it was before is {_beside(path, former).name}"
    if former is None:
        path.unlink()
        sync(path.parent)
    else:
        atomic_write(path, former)
        if mode is not None:
            path.chmod(mode)
    return ""


def _beside(path: Path, content: bytes) -> Path:
    """Save what a file was beside it, under a name that nothing else has."""
    number = 1
    while True:
        copy = path.with_name(f"{path.name}.before-grid" + (f"-{number}" if number > 1 else ""))
        if not copy.exists():
            atomic_write(copy, content)
        if copy.read_bytes() == content:
            return copy
        number += 1
