"""The per-image stages on a started Dask cluster: the same bytes as in threads, and an orderly stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import HANG_S, wait_until

ROOT = Path(__file__).parents[2]
STAGES = ("proposals", "features", "detect")


@pytest.fixture
def emptied(project: Path, put_params: Callable[[Path, dict[str, Any]], None]) -> Path:
    """A finished project without its store, set to Dask."""
    for name in ("objects", "refs", "store.json"):
        path = project / "artifacts" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["execution"]["backend"] = "dask"
    put_params(project, params)
    return project


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_dask_gives_the_bytes_that_threads_gave(
    finished: Path, emptied: Path, run_new_rcnn: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    began = time.time()
    done = run_new_rcnn(emptied, "run", *STAGES)
    assert done.stderr.count(": dask: 2 workers, 2 threads") == 3
    assert all(line.split(":")[0] in STAGES for line in done.stderr.splitlines()), done.stderr  # no other's noise
    for stage in STAGES:
        objects = f"artifacts/objects/{stage}"
        assert files(emptied / objects) == files(finished / objects)
        path = f"artifacts/{stage}/manifest.json"
        assert (emptied / path).read_bytes() == (finished / path).read_bytes()
    (cost,) = json.loads((emptied / "reports/timings.json").read_text())["features"]["per_image"].values()
    assert cost["measured"] > began  # and not what the threads took
    assert cost["conv"] > 0 and cost["fc"] > 0


@dataclass(frozen=True)
class Stopped:
    """A Dask run that was stopped when its first object was there: exit status, stderr, objects that were whole."""

    status: int
    said: str
    n_whole: int


def stop(project: Path, send: Callable[[subprocess.Popen[str]], None]) -> Stopped:
    """Start the proposals in a process group of their own and stop them; waits until no process of theirs is left."""
    # where the tests run in the background of a shell, Ctrl-C is ignored, and so it would be by what they start
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    main = heard + "from pipeline.cli import main; main()"
    command = [sys.executable, "-c", main, "-C", str(project), "run", "proposals"]
    mark = {"RCNN_TEST_MARK": str(project)}  # inherited by every process that the run starts
    child = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | mark, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    there = project / "artifacts"
    try:
        wait_until(
            lambda: child.poll() is not None or any(there.glob("objects/proposals/*/*")), "a first object", poll_s=0.002
        )
        send(child)
        _, said = child.communicate(timeout=HANG_S)
        wait_until(lambda: not marked(str(project)), "all processes gone")
    finally:  # whatever was asserted: nothing is left at work beside the tests that follow
        for pid in marked(str(project)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return Stopped(child.returncode, said, len(list((project / "artifacts").glob("objects/proposals/*/*/object.json"))))


@pytest.mark.parametrize(
    ("send", "status"),
    [
        pytest.param(lambda child: os.killpg(child.pid, signal.SIGINT), 130, id="Ctrl-C"),  # to the workers, too
        pytest.param(lambda child: child.terminate(), 130, id="SIGTERM"),
        pytest.param(lambda child: child.kill(), -signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_a_stop_leaves_no_process_and_no_damage(
    finished: Path,
    emptied: Path,
    send: Callable[[subprocess.Popen[str]], None],
    status: int,
    run_new_rcnn: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    stopped = stop(emptied, send)
    assert stopped.status == status
    assert "Traceback" not in stopped.said
    if status == 130:
        start, *told = stopped.said.splitlines()
        assert start.startswith("proposals: dask: 2 workers, 2 threads")
        assert told == ["proposals: stopping; what is computed is kept"]
    assert 0 < stopped.n_whole < 15
    shutil.copy(finished / "params.yaml", emptied)  # what is left to do, in threads: quicker to start
    again = run_new_rcnn(emptied, "run", "proposals").stderr
    assert f"{15 - stopped.n_whole} images computed, {stopped.n_whole} found in the store" in again
    assert files(emptied / "artifacts/objects/proposals") == files(finished / "artifacts/objects/proposals")


def marked(mark: str) -> list[int]:
    """The processes of that mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"RCNN_TEST_MARK={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has just ended, or is another user's
    return found
