"""compare: the results of several detectors on one dataset -> one page, ``reports/comparison/index.html``.

Reads the dataset manifest, the proposals and every detector's list of detections; writes the page and
``comparison.json``, all of its figures. Cost: the evaluation of each detector, and the drawing of some photographs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cache import atomic_write
from cache.documents import json_text
from manifests import ImageRecord
from stages.contract import Context, DetectorRun
from stages.scoring.reading import evaluated_images
from stages.scoring.settings import EvaluateSettings

from .inputs import Compared, ComparisonData, NodeCost, check_comparable
from .measures import compare, document
from .page import page
from .reading import read_found, read_regions
from .settings import CompareSettings


def run(ctx: Context) -> None:
    """Score every detector by one protocol and write the page."""
    detectors = ctx.detectors()
    check_comparable(detectors)
    dataset = ctx.dataset()
    tested = evaluated_images(dataset, detectors[0].detections)
    data = ComparisonData(
        dataset=dataset,
        tested=tested,
        detectors=[_compared(ctx, one, tested) for one in detectors],
        scoring=ctx.settings(EvaluateSettings),
        settings=ctx.settings(CompareSettings),
        seed=ctx.seed,
        pixels=ctx.image,
    )
    comparison = compare(data)
    atomic_write(ctx.output("figures"), json_text(document(data, comparison)).encode())
    atomic_write(ctx.output("html"), page(data, comparison).encode())
    ctx.log.info(f"{', '.join(one.name for one in detectors)}: {ctx.shown('html')}")


def _compared(ctx: Context, one: DetectorRun, tested: Sequence[ImageRecord]) -> Compared:
    """Read one detector's results from the store."""
    trained = [one.timings[name]["seconds"] for name in one.trained_nodes if name in one.timings]
    return Compared(
        name=one.name,
        kind=one.kind,
        title=str(one.detections.summary.get("detector", one.kind)),
        classes=one.classes,
        images=one.images,
        found=read_found(ctx.store, one, tested, ctx.log),
        proposals=read_regions(ctx.store, one.regions, tested),
        costs={name: _cost(timing) for name, timing in one.timings.items()},
        test_nodes=one.test_nodes,
        training_seconds=sum(trained) if len(trained) == len(one.trained_nodes) and trained else None,
        disk_bytes=one.disk_bytes,
        parameters=one.parameters,
        digests=one.digests,
    )


def _cost(timing: Mapping[str, Any]) -> NodeCost:
    """Return a node's cost from its entry in timings.json; its parts are those measured last."""
    measured = list(timing.get("per_image", {}).values())
    newest: Mapping[str, float] = max(measured, key=lambda parts: parts["measured"], default={})
    return NodeCost(
        seconds=timing["seconds"],
        peak_mb=timing.get("peak_rss_mb"),
        images=timing.get("computed", 0),
        per_image={name: seconds for name, seconds in newest.items() if name != "measured"},
    )
