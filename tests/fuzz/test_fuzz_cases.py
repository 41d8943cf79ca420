"""Every reader on its seeds and on drawn cases: only clear errors, no hang, no memory beyond the bound.

The cases are the same in each run. More of them: ``python tests/fuzz/cases.py TARGET --cases 5000``.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from targets import all_targets

HERE = Path(__file__).parent
CASES = 60

# A target that reads one way for its seed and another for everything else.
SCRIPT = """
import time
from pathlib import Path

import bounds
import cases
from targets import Target

cases.CASE_LIMIT_S = 2

def fault(data):
    if data != b"seed":
        {fault}

cases.run_cases(Target("t", lambda folder: fault, lambda: [b"seed"], (b"x",)), 50, Path("."))
print("no fault")
"""


@pytest.fixture(scope="module")
def ended(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """How each target ended; all run in forks of one process."""
    done = program(HERE / "cases.py", *all_targets(), "--cases", CASES, cwd=tmp_path_factory.mktemp("cases"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return {line["target"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", all_targets())
def test_only_clear_errors(ended: dict[str, dict[str, Any]], name: str) -> None:
    assert ended[name]["status"] == 0, ended[name]["said"][-6000:]
    assert json.loads(ended[name]["said"].splitlines()[-1])["cases"] >= CASES


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise KeyError('boom')", "KeyError: 'boom'"),
        ("bytearray(2 << 30)", "MemoryError"),
        ("time.sleep(60)", "Timeout (0:00:02)!"),
    ],
)
def test_a_fault_of_each_kind_is_found(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, fault: str, said: str
) -> None:
    done = program("-c", SCRIPT.format(fault=fault), cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "no fault" not in done.stdout
