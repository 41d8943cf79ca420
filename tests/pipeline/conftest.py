"""Toy per-image tasks for the executors, and the command line in this process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import Recipe
from manifests import ImageRecord
from pipeline import cli
from stages.contract import ImageTask

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


def toy_task(number: int, value: int, args: Mapping[str, Any] | None = None) -> ImageTask:
    record = ImageRecord(
        id=number,
        file_name=f"{number}.png",
        width=4,
        height=4,
        sha256="0" * 64,
        split="train",
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        difficult=np.zeros(0, bool),
        truncated=np.zeros(0, bool),
        crowd=np.zeros(0, bool),
    )
    return ImageTask(record, Recipe(stage="toy", version=1, params={"value": value}, inputs={}), args=args or {})


@pytest.fixture(scope="session")
def task() -> Callable[..., ImageTask]:
    """``task(number, value)``: image NUMBER.png, whose object depends on the value only."""
    return toy_task


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``rcnn ARGUMENTS``: exit code, what it printed, and what it said on stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rcnn", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the demo's parameters, in which nothing was run."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path
