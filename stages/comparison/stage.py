"""compare: the detections of several detectors -> ``reports/comparison/``, one page and all its numbers as JSON.

Seconds for thousands of images, most of them for the intervals. A draft: until a stage can declare other detectors'
nodes as its inputs, it compares the root's alone.
"""

from cache import digest_file
from cache.documents import json_text
from stages.contract import Context, Stage
from stages.scoring.reading import evaluated_images

from .inputs import Compared, ComparisonData, NodeCost, check_comparable
from .measures import compare, document
from .page import page
from .reading import DetectorRun, read_found, read_regions
from .settings import CompareSettings

_TEST_NODES = ("proposals", "features", "detect")


def run(ctx: Context) -> None:
    """Read every detector's results, compare them, and write the page and the numbers."""
    dataset, detections = ctx.dataset(), ctx.artifact("detections")
    records = evaluated_images(dataset, detections)
    runs = [DetectorRun("rcnn", detections)]
    check_comparable(runs)
    data = ComparisonData(
        dataset=dataset,
        tested=records,
        detectors=[
            Compared(
                name=one.name,
                kind="rcnn",
                title=str(one.detections.summary["detector"]),
                classes=one.classes,
                images=one.images,
                found=read_found(ctx.store, one, records, ctx.log),
                proposals=read_regions(ctx.store, ctx.artifact("proposals"), records),
                costs={node: _cost(ctx, node) for node in ctx.timings()},
                test_nodes=_TEST_NODES,
                digests={path: digest_file(ctx.input(name)) for name, path in STAGE.inputs.items()},
            )
            for one in runs
        ],
        scoring=ctx.settings("evaluate"),
        settings=ctx.settings("compare"),
        seed=ctx.seed,
        pixels=ctx.image,
    )
    comparison = compare(data)
    ctx.output("numbers").write_text(json_text(document(data, comparison)), encoding="utf-8", newline="\n")
    ctx.output("html").write_text(page(data, comparison), encoding="utf-8", newline="\n")


def _cost(ctx: Context, node: str) -> NodeCost:
    timing = ctx.timings()[node]
    return NodeCost(float(timing.get("seconds", 0)), timing.get("peak_rss_mb"), int(timing.get("computed", 0)))


STAGE = Stage(
    name="compare",
    version=1,
    settings={"compare": CompareSettings},
    groups=("compare", "evaluate", "seed"),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "proposals": "artifacts/proposals/manifest.json",
        "detections": "artifacts/combine/manifest.json",
    },
    outputs={"html": "reports/comparison/index.html", "numbers": "reports/comparison/comparison.json"},
    run=run,
)
