"""Which process computes on what: devices and worker processes, without any of them."""

import subprocess
import sys

import pytest

from pipeline.dask import cluster as dask_cluster
from pipeline.hardware import assigned_devices


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        (None, 3, ["0", "1", "2"]),
        (None, 0, []),
        ("", 0, []),
        ("2,3", 2, ["2", "3"]),
        ("GPU-9d1, GPU-77a", 2, ["GPU-9d1", "GPU-77a"]),
        ("5,-1,6", 1, ["5"]),  # CUDA stops at the first that it does not know
    ],
)
def test_devices_are_a_part_of_the_callers(visible: str | None, count: int, expected: list[str]) -> None:
    assert assigned_devices(visible, count) == expected


def test_number_of_started_workers() -> None:
    def number(workers: int, n_tasks: int, devices: list[str]) -> int:
        return len(dask_cluster.worker_environments(workers, n_tasks, devices, cores=8))

    assert number(0, 100, []) == 8
    assert number(3, 100, []) == 3
    assert number(0, 5, []) == 5
    assert number(0, 100, ["0", "1"]) == number(64, 100, ["0", "1"]) == 2
    assert number(1, 100, ["0", "1"]) == number(0, 1, ["0", "1"]) == 1


def test_the_command_line_starts_without_dask() -> None:
    code = "import sys, pipeline.cli.run; assert not {'dask', 'distributed', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
