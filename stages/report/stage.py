"""report: everything the other stages wrote -> ``reports/index.html``, one self-contained page.

``dvc repro report`` or ``rcnn run report``; seconds, spent on reading photographs. The page is no cached result of
anything but its declared inputs, except the table of times.
"""

from collections.abc import Mapping
from typing import Any

from cache import digest_file
from cache.documents import read_json, read_operating_points
from cache.errors import StageError
from cache.listing import Environments, environments
from manifests import ImageRecord
from stages.contract import Context
from stages.detections.thresholds import natural_boundary
from stages.scoring.metrics import has_ground_truth
from stages.scoring.reading import evaluated_images

from .inputs import DenseFound, Found, PageData, read_rows
from .page import page
from .settings import ReportSettings
from .training import SHARED_TRAININGS

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
    dataset, detections = ctx.dataset(), ctx.artifact("detections")

    def found(record: ImageRecord) -> Found:
        names = ["bbox.boxes", "bbox.scores", "bbox.labels"]
        arrays = ctx.store.get(detections.stage, detections.keys[record.id], names).arrays
        return Found(*(arrays[name] for name in names))

    metrics = read_json(ctx.input("scores"))
    shown_from = read_operating_points(ctx.input("operating_points")).bbox
    if not has_ground_truth(metrics["protocol"]):
        shown_from = dict.fromkeys(dataset.classes, natural_boundary(str(detections.summary["classifier"])))
    tables: dict[str, Any] = {
        name: read_rows(ctx.input(name), columns) if ctx.has(name) else [] for name, columns in _COLUMNS.items()
    }
    shared = {
        name: read_rows(ctx.input(name), ("iteration", "train_loss")) for name in SHARED_TRAININGS if ctx.has(name)
    }
    data = PageData(
        dataset=dataset,
        tested=evaluated_images(dataset, detections),
        metrics=metrics,
        examples=read_json(ctx.input("examples")),
        shown_from=shown_from,
        **tables,
        shared_trainings=shared,
        classifier=str(detections.summary["classifier"]),
        regressed=bool(detections.summary["regressed"]),
        combined=tuple(detections.summary.get("detectors", ())),
        timings=ctx.timings(),
        features_cost=_cost(ctx.timings(), ctx.artifact("features").digest) if ctx.has("features") else {},
        parameters=ctx.parameters(),
        digests={ctx.shown(name): digest_file(ctx.input(name)) for name in ctx.node.inputs},
        settings=ctx.settings(ReportSettings),
        seed=ctx.seed,
        pixels=ctx.image,
        found=found,
        environments=_environments(ctx),
        **_dense(ctx),
    )
    html = page(data).encode()
    ctx.output("html").write_bytes(html)
    ctx.log.info(f"{ctx.shown('html')}: {len(html) / 1e6:.1f} MB")


def _dense(ctx: Context) -> dict[str, Any]:
    """Return what the page shows of OverFeat's detector; nothing for another."""
    if not ctx.has("slide"):
        return {}
    slide, merge = ctx.artifact("slide"), ctx.artifact("merge")
    if merge.inputs.get("slide") != digest_file(ctx.input("slide")):
        raise StageError(f"{ctx.shown('merge')}: merged from other windows; run `dvc repro`, which merges these")

    def dense(record: ImageRecord) -> DenseFound:
        seen = ctx.store.get(slide.stage, slide.keys[record.id]).arrays
        merged = ctx.store.get(merge.stage, merge.keys[record.id]).arrays
        return DenseFound(
            *(seen[name] for name in ("windows", "scores", "coarse", "edges", "edge_classes")),
            *(merged[name] for name in ("bbox.boxes", "bbox.scores", "bbox.labels")),
            *(merged[name] for name in ("members.windows", "members.box")),
        )

    floor = float(merge.params["merge"]["score_floor"])
    return {"dense": dense, "score_floor": floor, "localisation": read_json(ctx.input("localisation"))}


def _cost(timings: Mapping[str, Mapping[str, Any]], features: str) -> dict[str, float]:
    """Return seconds per image by part, of exactly these features; empty where they were not measured here."""
    found = timings.get("features", {}).get("per_image", {}).get(features, {})
    return {name: found[name] for name in ("conv", "fc", "rest") if name in found}


def _environments(ctx: Context) -> dict[str, Environments]:
    """What computed the objects that the page's artifact manifests list, by stage; none where they are all gone."""
    listed = [ctx.artifact(name) for name in ("proposals", "features", "detections") if ctx.has(name)]
    looked = {one.stage: environments(ctx.store, one.stage, one.keys.values()) for one in listed}
    return {stage: found for stage, found in looked.items() if found.looked}
