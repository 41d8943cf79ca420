"""Stage ``segment_evaluate``: maps of classes against the masks -> ``reports/segmentation.json`` and a page.

Reads the masks of the test images, their maps, overlaps and ranked regions, and the detector's detections, whose
filled boxes are a plain reference; writes the figures and ``reports/segmentation/index.html``. Cost: some ms an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import atomic_write, digest_file
from cache.documents import json_text, read_operating_points
from cache.errors import StageError
from manifests import ImageRecord
from manifests.masks import VOID, read_label_map
from manifests.select import without_duplicates
from stages.contract import Context

from .drawing import map_files
from .measures import confusion, filled_boxes, image_iou, measures, oracle
from .overlaps import Overlaps, large_enough
from .page import page
from .paste import Ranked
from .result import ImageResult, Oracle, Pasted, SegmentationFigures, SegmentationPage
from .settings import (
    PasteSettings,
    RegionFeaturesSettings,
    RegionOverlapsSettings,
    SegmentEvaluateSettings,
    SvrSettings,
)


@dataclass
class _Counts:
    """Confusion of the maps and of both plain references, and each image's IoU."""

    own: NDArray[np.int64]
    background: NDArray[np.int64]
    boxes: NDArray[np.int64]
    iou: dict[int, float | None]
    all_void: int = 0


def run(ctx: Context) -> None:
    """Measure the maps, and show the best, the worst and some drawn by the seed."""
    dataset, settings = ctx.dataset(), ctx.settings(SegmentEvaluateSettings)
    searched, pasted = dataset.split("test"), ctx.artifact("paste")
    files = dict(zip([record.id for record in searched], map_files(searched), strict=True))
    tested = without_duplicates(searched)
    counts = _count(ctx, tested, files)
    figures = _figures(ctx, tested, counts, pasted.summary)
    atomic_write(ctx.output("report"), json_text(figures.document()).encode())

    def result(record: ImageRecord) -> ImageResult:
        regions = _regions(ctx, record, int(pasted.summary["pasted"][str(record.id)]))
        return ImageResult(record, _truth(ctx, record), _map(ctx, files[record.id]), regions, counts.iou[record.id])

    shown = {
        title: [result(record) for record in some] for title, some in _chosen(tested, counts.iou, settings, ctx.seed)
    }
    digests = {ctx.shown(name): digest_file(ctx.input(name)) for name in ctx.node.inputs if ctx.input(name).is_file()}
    html = page(SegmentationPage(figures, shown, ctx.image, settings, ctx.parameters(), digests))
    atomic_write(ctx.output("html"), html.encode())
    _tell(ctx, figures)


def _tell(ctx: Context, figures: SegmentationFigures) -> None:
    """Log the headline, and what is odd."""

    def percent(value: float | None) -> str:
        return "undefined" if value is None else f"{100 * value:.1f}"

    ctx.log.info(
        f"mean IoU {percent(figures.own.mean_iou)}; all background {percent(figures.background.mean_iou)}, filled "
        f"boxes {percent(figures.boxes.mean_iou)}, oracle {percent(figures.oracle_used.mean)}: {ctx.shown('html')}"
    )
    absent = [name for name, value in zip(figures.names, figures.own.iou, strict=True) if value is None]
    if absent:
        ctx.log.warning(f"neither the masks nor the maps of the test images have {', '.join(absent)}: left out")
    if figures.all_void:
        ctx.log.warning(f"{figures.all_void} test images are void all over and count nowhere")


def _truth(ctx: Context, record: ImageRecord) -> NDArray[np.uint8]:
    least = ctx.settings(RegionOverlapsSettings).min_object_px
    return large_enough(ctx.masks(record), least).class_map()


def _map(ctx: Context, name: str) -> NDArray[np.uint8]:
    """Read a map that stage ``paste`` has written; StageError where it is not there."""
    path = ctx.input("maps") / name
    if not path.is_file():
        raise StageError(f"{path}: not found; run `dvc repro -f segmentation/dvc.yaml:paste`")
    return read_label_map(path.read_bytes(), str(path)).astype(np.uint8)


def _count(ctx: Context, tested: Sequence[ImageRecord], files: Mapping[int, str]) -> _Counts:
    """Count the pixels of all test images."""
    n = len(ctx.dataset().classes)
    nothing = np.zeros((n + 1, n + 1), np.int64)
    found = _Counts(nothing.copy(), nothing.copy(), nothing.copy(), {})
    least, detections = read_operating_points(ctx.input("operating_points")).bbox, ctx.artifact("detections")
    limits = np.array([least.get(name, np.inf) for name in ctx.dataset().classes])
    for done, record in enumerate(tested, 1):
        truth = _truth(ctx, record)
        try:
            own = confusion(truth, _map(ctx, files[record.id]), n)
        except ValueError as error:
            name = ctx.input("maps") / files[record.id]
            raise StageError(f"{name}: {error}; run `dvc repro -f segmentation/dvc.yaml:paste`") from None
        found.own += own
        found.background += confusion(truth, np.zeros_like(truth), n)
        names = ["bbox.boxes", "bbox.scores", "bbox.labels"]
        arrays = ctx.store.get(detections.stage, detections.keys[record.id], names).arrays
        boxes, scores, labels = (arrays[name] for name in names)
        kept = scores >= limits[labels]
        found.boxes += confusion(truth, filled_boxes(boxes[kept], scores[kept], labels[kept], truth.shape), n)
        found.iou[record.id] = image_iou(own)
        found.all_void += bool((truth == VOID).all())
        ctx.log.progress(done, len(tested), "images")
    return found


def _figures(
    ctx: Context, tested: Sequence[ImageRecord], counts: _Counts, threshold: Mapping[str, Any]
) -> SegmentationFigures:
    features, overlaps = ctx.settings(RegionFeaturesSettings), ctx.artifact("overlaps")
    found = [Overlaps.of(ctx.store.get(overlaps.stage, overlaps.keys[record.id]).arrays) for record in tested]
    labels, n = [one.classes for one in found], len(ctx.dataset().classes)
    limit = features.max_regions
    pasted = [int(threshold["pasted"][str(record.id)]) for record in tested]
    return SegmentationFigures(
        dataset=ctx.dataset(),
        tested=tested,
        counts=counts.own,
        own=measures(counts.own),
        background=measures(counts.background),
        boxes=measures(counts.boxes),
        oracle_all=Oracle(*oracle([one.best() for one in found], labels, n)),
        oracle_used=Oracle(*oracle([one.best(limit) for one in found], labels, n)),
        threshold=threshold,
        regions=float(np.mean([len(one.iou[:limit]) for one in found])),
        empty=sum(not count for count in pasted),
        all_void=counts.all_void,
        paste=ctx.settings(PasteSettings),
        features=features,
        svr=ctx.settings(SvrSettings),
    )


def _regions(ctx: Context, record: ImageRecord, count: int) -> list[Pasted]:
    """The regions that an image's map was pasted of, best first."""
    pasted, proposals = ctx.artifact("paste"), ctx.artifact("proposals")
    found = Ranked.of(ctx.store.get(pasted.stage, pasted.keys[record.id]).arrays)
    found = found.of_classes(len(ctx.dataset().classes)).first(count)
    boxes = ctx.store.get(proposals.stage, proposals.keys[record.id], ["boxes"]).arrays["boxes"][found.regions]
    return [
        Pasted((box[0], box[1], box[2], box[3]), label, score)
        for box, label, score in zip(boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    ]


def _chosen(
    tested: Sequence[ImageRecord], iou: Mapping[int, float | None], settings: SegmentEvaluateSettings, seed: int
) -> list[tuple[str, list[ImageRecord]]]:
    """Choose the images to show, by heading; of equal IoU the smaller id comes first."""
    scored = [(value, record) for record in tested if (value := iou[record.id]) is not None]
    best = sorted(scored, key=lambda pair: (-pair[0], pair[1].id))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(tested))[: settings.random_images])
    return [
        ("Best", [record for _, record in best[: settings.best_images]]),
        ("Worst", [record for _, record in best[::-1][: settings.worst_images]]),
        ("Drawn at random", [tested[i] for i in drawn.tolist()]),
    ]
