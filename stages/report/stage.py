"""report: everything the other stages wrote -> ``reports/index.html``, one self-contained page.

``dvc repro report`` or ``rcnn run report``; seconds, spent on reading photographs. The page is no cached result of
anything but its declared inputs, except the table of times.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.documents import read_json, read_operating_points
from cache.listing import Environments, environments
from stages.contract import Context, Stage

from .settings import ReportSettings

# The columns that the page cannot do without.
_COLUMNS = {
    "pr": ("regression", "class", "score", "recall", "precision"),
    "recall_iou": ("class", "iou", "recall"),
    "errors": ("regression", "class", "multiple", "right"),
    "mining": ("class_name", "images_seen", "positives", "negatives", "objective"),
    "finetune": ("iteration",),
    "pretrain": ("iteration",),
}


def run(ctx: Context) -> None:
    """Read every input and write the page."""
    from .inputs import Found, PageData, read_rows
    from .page import page

    dataset, detect = ctx.dataset(), ctx.artifact("detections")

    def found(record: Any) -> Found:
        names = ["bbox.boxes", "bbox.scores", "bbox.labels"]
        arrays = ctx.store.get(detect.stage, detect.keys[record.id], names).arrays
        return Found(*(arrays[name] for name in names))

    tables = {name: read_rows(ctx.input(name), columns) for name, columns in _COLUMNS.items()}
    data = PageData(
        dataset=dataset,
        tested=[record for record in dataset.images if record.id in detect.keys],
        metrics=read_json(ctx.input("metrics")),
        examples=read_json(ctx.input("examples")),
        shown_from=read_operating_points(ctx.input("operating_points")).bbox,
        **tables,
        classifier=str(detect.summary["classifier"]),
        regressed=bool(detect.summary["regressed"]),
        combined=tuple(detect.summary.get("detectors", ())),
        timings=ctx.timings(),
        features_cost=_cost(ctx.timings(), ctx.artifact("features").digest),
        parameters={group: _plain(ctx.settings(group)) for group in STAGE.groups if group != STAGE.name},
        digests=_digests(ctx),
        settings=ctx.settings("report"),
        seed=ctx.seed,
        pixels=ctx.image,
        found=found,
        environments=_environments(ctx),
    )
    html = page(data).encode()
    ctx.output("html").write_bytes(html)
    ctx.log.info(f"{STAGE.outputs['html']}: {len(html) / 1e6:.1f} MB")


def _cost(timings: Mapping[str, Mapping[str, Any]], features: str) -> dict[str, float]:
    """Seconds per image by part, of exactly these features; empty where another project, or nobody, measured them."""
    found = timings.get("features", {}).get("per_image", {}).get(features, {})
    return {name: found[name] for name in ("conv", "fc", "rest") if name in found}


def _environments(ctx: Context) -> dict[str, Environments]:
    """What computed the objects that the page's artifact manifests list, by stage; none where they are all gone."""
    listed = [ctx.artifact(name) for name in ("proposals", "features", "detections")]
    looked = {one.stage: environments(ctx.store, one.stage, one.keys.values()) for one in listed}
    return {stage: found for stage, found in looked.items() if found.looked}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _digests(ctx: Context) -> dict[str, str]:
    from cache import digest_file

    files: dict[str, Path] = {path: ctx.input(name) for name, path in STAGE.inputs.items()}
    return {path: digest_file(file) for path, file in files.items()}


STAGE = Stage(
    name="report",
    version=1,
    settings={"report": ReportSettings},
    groups=(
        "dataset",
        "seed",
        "manifest",
        "network",
        "pretrain",
        "proposals",
        "finetune",
        "features",
        "svm",
        "bbox",
        "detect",
        "combine",
        "evaluate",
        "report",
    ),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "proposals": "artifacts/proposals/manifest.json",
        "features": "artifacts/features/manifest.json",
        "detections": "artifacts/combine/manifest.json",
        "svm": "artifacts/svm/model.h5",
        "bbox": "artifacts/bbox/model.h5",
        "pretrain": "artifacts/pretrain/curve.csv",
        "finetune": "artifacts/finetune/curve.csv",
        "mining": "artifacts/svm/mining.csv",
        "metrics": "reports/metrics.json",
        "pr": "reports/plots/pr.csv",
        "recall_iou": "reports/plots/recall_iou.csv",
        "errors": "reports/plots/errors.csv",
        "examples": "reports/examples.json",
        "operating_points": "reports/operating_points.json",
    },
    outputs={"html": "reports/index.html"},
    run=run,
)
