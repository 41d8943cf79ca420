"""Folders that several processes of one run of the tests need, made by the first that asks."""

import fcntl
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Once:
    """Makes folders below ``base``, which all processes of a run share."""

    base: Path

    def __call__(self, name: str, fill: Callable[[Path], object]) -> Path:
        """Return the folder of that name, which ``fill`` has made in one process while the others waited."""
        folder, made = self.base / f"once-{name}" / "project", self.base / f"once-{name}.made"
        with (self.base / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                fill(folder)
                made.touch()
        return folder
