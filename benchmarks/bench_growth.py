"""How time and memory of the stages after the features grow with images, regions and classes.

Each stage runs as a user runs it, ``rcnn run STAGE``, a process each, on made-up features (``made_up``): over a 10x
range of images, of regions per image, and of classes; the exponent is the b of
``cost = start + a * size ** b``, where ``start`` is what the stage takes on next to nothing: importing, reading the
parameters, starting threads. The time is the stage's own (without the program's start), the memory the process's peak.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from benchmarks.harness import Figure, fitted_exponent
from benchmarks.made_up import make_project
from benchmarks.project import ROOT, rcnn
from pipeline.timings import read_timings

STAGES = ("svm", "bbox", "detect")
SIZES = {"images": (8, 80), "regions": (200, 2000), "classes": (2, 20)}
BASE = {"images": 20, "regions": 600, "classes": 6}
NEXT_TO_NOTHING = {"images": 2, "regions": 20, "classes": 2}
LEAST_S, LEAST_MIB = 0.01, 1.0  # told from the start no more surely than this


def run_stage(project: Path, stage: str) -> tuple[float, float]:
    """Seconds of the stage itself, and MiB at the peak of its process."""
    rcnn(project, "run", stage)
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
    """Two figures per stage."""
    start = measure(**NEXT_TO_NOTHING)
    grown = {axis: [measure(**{**BASE, axis: size}) for size in sizes] for axis, sizes in SIZES.items()}
    for stage in STAGES:
        times, peaks = [], []
        for axis, sizes in SIZES.items():
            seconds, mib = zip(*(found[stage] for found in grown[axis]), strict=True)
            times.append(f"{axis} {_exponent(sizes, seconds, start[stage][0], LEAST_S)} s)")
            peaks.append(f"{axis} {_exponent(sizes, mib, start[stage][1], LEAST_MIB)} MiB)")
        yield Figure(f"exponent of {stage}'s time over 10x", "; ".join(times), note=f"start {start[stage][0]:.2f} s")
        yield Figure(
            f"exponent of {stage}'s peak memory over 10x", "; ".join(peaks), note=f"start {start[stage][1]:.0f} MiB"
        )


def _exponent(sizes: Sequence[int], costs: Sequence[float], start: float, least: float) -> str:
    """The exponent of what comes on top of the start, and the costs, unclosed: ``0.98 (1.20 to 9.31``."""
    grown = [max(cost - start, least) for cost in costs]
    return f"{fitted_exponent(sizes, grown):.2f} ({costs[0]:.2f} to {costs[-1]:.2f}"


if __name__ == "__main__":
    from benchmarks import harness

    harness.main(figures)
