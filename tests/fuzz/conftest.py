"""Makes the modules beside it importable (pytest runs with --import-mode=importlib), and runs them as programs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import HANG_S

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python`` with arguments in the folder ``cwd``, on one thread and with its memory arenas kept few."""

    def run(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
        environment = os.environ | one | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
        )

    return run
