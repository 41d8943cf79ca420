"""``dvc exp run`` for a cell of a grid, and what stops it: DVC is asked to end, waited for, and never killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from cache.errors import ExecutionError, InterruptedRun, ParamsError


class Experiment(Protocol):
    """Runs a cell: its name, its settings, and the target; ``force``: every stage, whatever DVC holds for unchanged."""

    def __call__(self, name: str, settings: Sequence[str], target: str, /, *, force: bool = False) -> None: ...


_DVC = (sys.executable, "-m", "dvc")
_STDERR = 2  # where what DVC says goes, too: stdout is the table's
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Takes Ctrl-C, SIGTERM and SIGHUP while a grid runs: noted, and handed on to what :meth:`call` runs.

    DVC may hold the user's uncommitted changes in a stash, so that it must come to its end by itself. It runs in a
    process group of its own: the stage within, which DVC leaves to a terminal's Ctrl-C, is reached by every signal, and
    no second Ctrl-C breaks DVC's tidying up.
    """

    def __init__(self) -> None:
        self.asked = False
        self._child: subprocess.Popen[bytes] | None = None
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        for one in _SIGNALS:
            if signal.getsignal(one) is not signal.SIG_IGN:  # nohup, or a shell's background job
                self._former[one] = signal.signal(one, self._note)
            elif one is signal.SIGINT:  # what is ignored is so in DVC, too, which could not be asked to end
                self._former[one] = signal.signal(one, _nothing)
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._former.items():
            signal.signal(one, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            os.write(2, b"stopping; waiting until DVC has ended and every file is back\n")  # print may be interrupted
            self._hand_on()

    def _hand_on(self) -> None:
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGINT)

    def check(self) -> None:
        """InterruptedRun where a signal came."""
        if self.asked:
            raise InterruptedRun("stopped; what was run before is kept, --show prints it")

    def call(self, command: Sequence[str], project: Path, lock: int, *, quiet: bool = False) -> int:
        """Run a command in the project's folder to its end, and return its exit status; it holds the lock, too."""
        out = subprocess.DEVNULL if quiet else _STDERR
        self._child = subprocess.Popen(
            command, cwd=project, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=(lock,), process_group=0
        )
        if self.asked:  # before there was a child to be told
            self._hand_on()
        try:
            return self._child.wait()
        finally:
            self._child = None


def _nothing(number: int, frame: FrameType | None) -> None:
    """Ignore a signal, here alone: a program that is started has its default again."""


def dvc_experiments(project: Path, stop: Stop, lock: int, dvc: Sequence[str] = _DVC) -> Experiment:
    """Return what runs an experiment in the project's folder.

    It is named after the cell and the commit that it is of, and replaces only one of that very name. Raises
    InterruptedRun where it was stopped, ExecutionError where DVC failed.
    """

    def run(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        stop.check()
        named = f"{name}-{_commit(project)}"
        given = [part for setting in settings for part in ("-S", setting)]
        stop.call([*dvc, "exp", "remove", "-q", named], project, lock, quiet=True)  # a former one of this name
        stop.check()
        forced = ["--force"] if force else []  # stages find what they made in the store, and train nothing again
        command = [*dvc, "exp", "run", "--name", named, *forced, *given, *([target] if target else [])]
        print(" ".join(["dvc", *command[len(dvc) :]]), file=sys.stderr, flush=True)
        if stop.call(command, project, lock):
            stop.check()
            raise ExecutionError(f"{named}: dvc exp run failed; what was run before is kept, --show prints it")

    return run


def _commit(project: Path) -> str:
    """Return the short name of the commit that an experiment starts from."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=7", "--verify", "HEAD"], cwd=project, capture_output=True, check=False
        )
    except OSError as error:
        raise ExecutionError(f"git cannot be run ({error}); install it: DVC's experiments need it") from None
    if found.returncode:
        raise ParamsError(f"{project}: has no git commit, from which an experiment starts; make one")
    return found.stdout.decode().strip()
