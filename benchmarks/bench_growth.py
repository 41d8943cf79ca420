"""How time and memory of the stages after the features grow, and each stage's peak memory at 2,000 regions x 4,096.

Each stage runs as a user runs it, ``rcnn run STAGE``, a process each, on made-up features (``made_up``): over a 10x
range of images, of regions per image, and of classes; the exponent is that of the least-squares fit
``cost = a * size ** b``. The time is the stage's own (without the program's start), the memory the process's peak.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.harness import Figure, fitted_exponent
from benchmarks.made_up import make_project
from pipeline.timings import read_timings

ROOT = Path(__file__).parents[1]
STAGES = ("svm", "bbox", "detect")
SIZES = {"images": (8, 25, 80), "regions": (200, 2000), "classes": (2, 20)}
BASE = {"images": 20, "regions": 600, "classes": 6}


def run_stage(project: Path, stage: str) -> tuple[float, float]:
    """Seconds of the stage itself, and MiB at the peak of its process."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "-C", str(project), "run", stage]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"rcnn run {stage}: {done.stderr}")
    found = read_timings(project)[stage]
    return found["seconds"], found["peak_rss_mb"]


def measure(images: int, regions: int, classes: int) -> dict[str, tuple[float, float]]:
    """Seconds and MiB of each stage on a project of this size."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        make_project(project, images, max(1, images // 2), regions, classes)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["bbox"]["layer"] = "fc7"
        (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        return {stage: run_stage(project, stage) for stage in STAGES}


def figures(_: str) -> Iterator[Figure]:
    """One figure per stage, and the peaks."""
    grown = {axis: [measure(**{**BASE, axis: size}) for size in sizes] for axis, sizes in SIZES.items()}
    for stage in STAGES:
        times, peaks = [], []
        for axis, sizes in SIZES.items():
            seconds, mib = zip(*(found[stage] for found in grown[axis]), strict=True)
            times.append(f"{axis} {fitted_exponent(sizes, seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f} s)")
            peaks.append(f"{axis} {fitted_exponent(sizes, mib):.2f} ({mib[0]:.0f} to {mib[-1]:.0f} MiB)")
        yield Figure(f"exponent of {stage}'s time over 10x", "; ".join(times))
        yield Figure(f"exponent of {stage}'s peak memory over 10x", "; ".join(peaks))
    widest = grown["regions"][-1]
    yield Figure(
        "peak memory at 2,000 regions x 4,096",
        ", ".join(f"{stage} {mib:.0f} MiB" for stage, (_, mib) in widest.items()),
        note=f"{BASE['images']} train images, {BASE['classes']} classes; the program with its imports takes some 300",
    )


if __name__ == "__main__":
    from benchmarks import harness

    harness.main(figures)
