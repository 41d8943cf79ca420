"""The coverage-guided driver runs; a campaign worth its name takes minutes and is started by hand."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytest.importorskip("atheris", reason="atheris, the coverage-guided fuzzer, has no wheel for this Python or system")


def test_a_few_thousand_executions_find_new_coverage(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = program(HERE / "fuzz.py", "artifact", "--runs", 3000, "--keep", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"artifact +(\d+) executions  coverage (\d+) -> (\d+)", done.stdout)
    assert found is not None, done.stdout
    executions, before, after = map(int, found.groups())
    assert executions >= 3000
    assert after > before > 0


def test_a_call_without_a_limit_is_refused(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = program(HERE / "fuzz.py", "artifact", cwd=tmp_path)
    assert done.returncode == 2
    assert "give --seconds or --runs" in done.stderr
