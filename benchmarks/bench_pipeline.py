"""A user's run from photographs to scores: seconds per image and their split, and each stage's peak memory.

Some photographs of people, 500 px wide, go through every stage as ``rcnn run STAGE`` runs it, a process each:
selective search, AlexNet's fc7 (4,096) of up to 2,000 regions, SVM, box regression, detection. The paper counts
proposals and features: 13 s per image on a GPU, 53 s on a CPU (section 2.2).
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Figure
from benchmarks.photo_project import WIDTH, make_photo_project
from benchmarks.project import rcnn
from pipeline.detectors import Layout
from pipeline.timings import read_timings

PHOTOS = 4
STAGES = ("manifest", "proposals", "pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate")
PAPER_GPU_S, PAPER_CPU_S = 13, 53


def timings(device: str, source: Path) -> dict[str, dict[str, Any]]:
    """Run the stages; what ``reports/timings.json`` says of each."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        make_photo_project(project, source, PHOTOS, device)
        for stage in STAGES:
            rcnn(project, "run", stage)
        return read_timings(Layout(project))


def figures(device: str) -> Iterator[Figure]:
    """Seconds per image, and the peaks."""
    source = harness.photographs()
    if source is None:
        yield Figure("seconds per image", "not measured: no photographs; set RCNN_PHOTOGRAPHS to a COCO folder")
        return
    found = timings(device, source)
    stages = ("proposals", "features", "detect")
    each = {stage: found[stage]["seconds"] / found[stage]["computed"] for stage in stages}
    regions = found["features"]["regions"] / found["features"]["computed"]
    paper = PAPER_CPU_S if device == "cpu" else PAPER_GPU_S
    yield Figure(
        f"proposals and AlexNet fc7 of a photograph {WIDTH} px wide, {regions:.0f} regions, disk to disk",
        f"{each['proposals'] + each['features']:.2f} s per image",
        f"the paper's machine, about 2,000 regions: {paper} s",
        note=", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in each.items()),
    )
    yield Figure(
        "peak memory of each stage's process, 4,096 values per region",
        ", ".join(f"{stage} {found[stage]['peak_rss_mb']:.0f} MiB" for stage in STAGES),
        note=f"{PHOTOS} photographs, {regions:.0f} regions each; a program with torch takes some 300",
    )


if __name__ == "__main__":
    harness.main(figures, ("cpu", "cuda"))
