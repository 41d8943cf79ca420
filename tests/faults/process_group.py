"""A command that runs stages, in a process group of its own, killed while a stage of it runs; Linux only."""

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tiny_project import ALL_STAGE_NAMES, REGION_KINDS, REGION_NODES

BETWEEN = "dvc itself"  # before, between or after its stages
_POLL_S = 0.05
_ORDER = (*ALL_STAGE_NAMES, *REGION_NODES)


@dataclass(frozen=True)
class Kill:
    """SIGKILL, so many seconds after the process of ``stage``, or of a later one, was first seen."""

    stage: str
    after_s: float


@dataclass(frozen=True)
class Ended:
    """Exit status; what was said; where the kill hit ("" for none); seconds of each stage's process."""

    status: int
    said: str
    hit: str
    seconds: dict[str, float]


def run_group(command: list[str], cwd: Path, environment: dict[str, str], kill: Kill | None = None) -> Ended:
    """Run a command to its end or to the kill, which goes to all its processes."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            hit, seconds = _watched(process, kill)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        return Ended(process.returncode, said.read(), hit, seconds)


def _watched(process: subprocess.Popen[bytes], kill: Kill | None) -> tuple[str, dict[str, float]]:
    """Wait for the end, or for the moment of the kill: what it is about to hit; and how long each stage was there."""
    first: dict[str, float] = {}
    seconds: dict[str, float] = {}
    deadline = None
    while process.poll() is None:
        stage, now = running_stage(process.pid), time.monotonic()
        if stage:
            seconds[stage] = now - first.setdefault(stage, now)
            if kill and deadline is None and _ORDER.index(stage) >= _ORDER.index(kill.stage):
                deadline = now + kill.after_s
        if deadline is not None and now >= deadline:
            # stopped first, so that what is found is what is hit
            os.killpg(process.pid, signal.SIGSTOP)
            hit = running_stage(process.pid) or (BETWEEN if process.poll() is None else "")
            return hit, seconds
        time.sleep(_POLL_S if deadline is None else min(_POLL_S, deadline - now))
    return "", seconds


def running_stage(group: int) -> str:
    """The stage whose ``rcnn run STAGE`` is alive in a process group; "" where there is none.

    One of another detector than the root's is named as in ``REGION_NODES``.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, process_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            arguments = (folder / "cmdline").read_text().split("\0")[:-1]
        except (OSError, ValueError):
            continue  # it has just ended
        if int(process_group) == group and state not in "ZX" and "run" in arguments:
            begun = arguments.index("run")
            stage, before = arguments[begun + 1], arguments[begun - 1]
            if before in REGION_KINDS and arguments[begun - 2] == "-d":
                stage = f"{before}/{stage}"
            return stage if stage in _ORDER else ""
    return ""
