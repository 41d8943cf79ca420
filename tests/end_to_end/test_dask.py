"""The per-image stages on a started Dask cluster: the same bytes as in threads, and an orderly stop."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    finished: Path, emptied: Path, run_rcnn: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_rcnn(emptied, "run", *STAGES)
    assert done.stderr.count(": dask: 2 workers, 2 threads") == 3
    assert all(line.split(":")[0] in STAGES for line in done.stderr.splitlines()), done.stderr  # no other's noise
    assert files(emptied / "artifacts/objects") == files(finished / "artifacts/objects")
    for stage in STAGES:
        path = f"artifacts/{stage}/manifest.json"
        assert (emptied / path).read_bytes() == (finished / path).read_bytes()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_leaves_no_process_and_no_damage(
    finished: Path, emptied: Path, how: signal.Signals, run_rcnn: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "-C", str(emptied), "run", "proposals"]
    mark = {"RCNN_TEST_MARK": str(emptied)}  # inherited by every process that the run starts
    child = subprocess.Popen(command, cwd=ROOT, env=os.environ | mark, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while child.poll() is None and not any((emptied / "artifacts").glob("objects/proposals/*/*")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.send_signal(how)
    _, said = child.communicate(timeout=60)
    if child.returncode == 0:
        pytest.skip("it was through before the signal came")
    assert child.returncode == (130 if how == signal.SIGTERM else -signal.SIGKILL)
    assert "Traceback" not in said
    while marked(str(emptied)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shutil.copy(finished / "params.yaml", emptied)  # what is left to do, in threads: quicker to start
    run_rcnn(emptied, "run", "proposals")
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
