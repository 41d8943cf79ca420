"""How time and memory of the stages grow with images, regions and classes.

Each stage runs as a user runs it, ``rcnn run STAGE``, a process each: proposals and features on photographs, the stages
after them on made-up features (``made_up``), over a 10x range of images, of regions per image, and of classes. The
exponent is the b of ``cost = start + a * size ** b``, where ``start`` is what the stage takes on next to nothing:
importing, reading the parameters, starting threads. The time is the stage's own (without the program's start), the
memory the process's peak.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks import harness
from benchmarks.harness import Figure, fitted_exponent
from benchmarks.made_up import make_project
from benchmarks.photo_project import WIDTH, make_photo_project
from benchmarks.project import default_params, rcnn
from pipeline.detectors import Layout
from pipeline.timings import read_timings

LEAST_S, LEAST_MIB = 0.01, 1.0  # told from the start no more surely than this


@dataclass(frozen=True)
class Plan:
    """Which stages run on which projects, and of which of them figures are given.

    ``make`` writes a project of a size by axis: ``base``, but for one axis at a time, which takes the two values of
    ``sizes``; ``least`` is next to nothing.
    """

    make: Callable[..., None]
    runs: Sequence[str]
    shown: Sequence[str]
    sizes: Mapping[str, tuple[int, int]]
    base: Mapping[str, int]
    least: Mapping[str, int]


def photo_project(source: Path, project: Path, images: int, regions: int, width: int) -> None:
    make_photo_project(project, source, images, "cpu", max_proposals=regions, width_px=width)
    rcnn(project, "run", "manifest", "pretrain", "finetune")


def made_up_project(project: Path, images: int, regions: int, classes: int) -> None:
    make_project(project, images, max(1, images // 2), regions, classes)
    params = default_params()
    params["bbox"]["layer"] = "fc7"
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def plans() -> Iterator[Plan]:
    if source := harness.photographs():
        yield Plan(
            make=lambda project, **size: photo_project(source, project, **size),
            runs=("proposals", "features"),
            shown=("proposals", "features"),
            sizes={"images": (4, 40), "regions": (40, 400)},
            base={"images": 4, "regions": 40, "width": WIDTH},
            least={"images": 2, "regions": 4, "width": 80},
        )
    yield Plan(
        make=made_up_project,
        runs=("svm", "bbox", "detect", "combine", "evaluate"),
        shown=("svm", "bbox", "detect", "evaluate"),
        sizes={"images": (8, 80), "regions": (200, 2000), "classes": (2, 20)},
        base={"images": 20, "regions": 600, "classes": 6},
        least={"images": 2, "regions": 20, "classes": 2},
    )


def measure(plan: Plan, size: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Return, of each stage, its own seconds, and the MiB at its process's peak."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        plan.make(project, **size)
        for stage in plan.runs:
            rcnn(project, "run", stage)
        found = read_timings(Layout(project))
        return {stage: (found[stage]["seconds"], found[stage]["peak_rss_mb"]) for stage in plan.shown}


def figures(_: str) -> Iterator[Figure]:
    """Two figures per stage."""
    for plan in plans():
        yield from plan_figures(plan)


def plan_figures(plan: Plan) -> Iterator[Figure]:
    start = measure(plan, plan.least)
    points = {axis: [{**plan.base, axis: size} for size in pair] for axis, pair in plan.sizes.items()}
    distinct = {tuple(point.items()): point for pair in points.values() for point in pair}
    found = {key: measure(plan, point) for key, point in distinct.items()}
    grown = {axis: [found[tuple(point.items())] for point in pair] for axis, pair in points.items()}
    for stage in plan.shown:
        times, peaks = [], []
        for axis, pair in plan.sizes.items():
            seconds, mib = zip(*(point[stage] for point in grown[axis]), strict=True)
            times.append(f"{axis} {_exponent(pair, seconds, start[stage][0], LEAST_S)} s)")
            peaks.append(f"{axis} {_exponent(pair, mib, start[stage][1], LEAST_MIB)} MiB)")
        yield Figure(f"exponent of {stage}'s time over 10x", "; ".join(times), note=f"start {start[stage][0]:.2f} s")
        yield Figure(
            f"exponent of {stage}'s peak memory over 10x", "; ".join(peaks), note=f"start {start[stage][1]:.0f} MiB"
        )


def _exponent(sizes: Sequence[int], costs: Sequence[float], start: float, least: float) -> str:
    """The exponent of what comes on top of the start, and the costs, unclosed: ``0.98 (1.20 to 9.31``."""
    grown = [max(cost - start, least) for cost in costs]
    return f"{fitted_exponent(sizes, grown):.2f} ({costs[0]:.2f} to {costs[-1]:.2f}"


if __name__ == "__main__":
    harness.main(figures)
