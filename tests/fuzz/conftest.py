"""Makes the modules beside it importable (pytest runs with --import-mode=importlib), and runs them as programs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

Program = Callable[..., "subprocess.CompletedProcess[str]"]
_LIMIT_S = 300  # of a whole program: a guard against hanging, many times what it takes


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run ``python`` with arguments in an empty folder, on one thread and with its own memory arenas kept small."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
        environment = os.environ | one | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )

    return run
