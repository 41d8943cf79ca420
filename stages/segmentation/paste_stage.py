"""Stage ``paste``: every test image's map of classes, of its best regions (paper section 5, O2P's rule).

Reads the regressors, and proposals and features of the test images, and of the held-out training images where the
threshold is found on them; writes one HDF5 object per image (its regions that may be pasted),
``artifacts/paste/manifest.json``, and in ``reports/segmentation/maps`` a PNG file with VOC's palette for each test
image. Cost: reading the features; some ms an image for drawing.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Payload, Recipe, Store, atomic_write, digest_file
from cache.errors import StageError
from manifests import Dataset, ImageRecord
from manifests.masks import label_map_png
from stages.contract import Compute, Context, ImageTask, image_attrs
from stages.proposals.reading import proposals_key
from stages.regions.image_regions import ImageRegions
from stages.training.held_out import held_out

from .drawing import map_files
from .overlaps import Overlaps
from .paste import Ranked, Threshold, distinct, paste, pasted, risen
from .regressors import Regressors, read_regressors
from .rows import RowReader, read_rows
from .settings import HeldOutRegressorSettings, PasteSettings, RegionFeaturesSettings, further

_MOST_CLASSES = 254  # that a map of 8 bits holds beside background and void


@dataclass(frozen=True)
class PasteCompute(Compute):
    """One image's features to its ranked regions."""

    store: Store
    model: Regressors
    features: RegionFeaturesSettings
    settings: PasteSettings
    proposals: str  # the stage that made them

    def __call__(self, task: ImageTask) -> Payload:
        """The image's regions, best first."""
        record = task.image
        order = self.model.ranked(read_rows(self.store, task.reads, self.features), self.settings.rank_regions)
        arrays_of = self.store.get(self.proposals, task.reads[self.proposals]).arrays
        mask = ImageRegions(arrays_of, record.height, record.width).mask
        found = distinct(order, self.settings.least, self.settings, mask)
        arrays: dict[str, NDArray[Any]] = {"regions": found.regions, "labels": found.labels, "scores": found.scores}
        return Payload(arrays, image_attrs(task.image, len(found.regions)), "hdf5")


def run(ctx: Context) -> None:
    """Rank regions, find the threshold, and draw the test images' maps."""
    settings, regions, dataset = ctx.settings(PasteSettings), ctx.settings(RegionFeaturesSettings), ctx.dataset()
    model = read_regressors(ctx.input("model"))
    _check(ctx, model, regions, dataset.classes)
    n_classes = len(dataset.classes)
    rows = RowReader(ctx.store, ctx.artifact("features"), ctx.artifact("region_features"), regions)
    tested, apart = dataset.split("test"), _apart(ctx, settings, dataset)
    proposals = ctx.artifact("proposals")
    tasks = [_task(ctx, record, rows, proposals, settings) for record in (*tested, *apart)]
    compute = PasteCompute(ctx.store, model, regions, settings, proposals.stage)
    keys = ctx.compute_images(tasks, compute, unit="regions")
    found = [Ranked.of(ctx.store.get(ctx.node.stage.name, key).arrays) for key in keys]
    threshold = _threshold(ctx, settings, found[: len(tested)], found[len(tested) :], apart)
    kept = [pasted(one, threshold.value, settings, n_classes) for one in found[: len(tested)]]
    _draw(ctx, tested, kept)
    empty = sum(not len(one.regions) for one in kept)
    ctx.log.info(
        f"threshold {threshold.value:.2f}: {sum(len(one.regions) for one in kept) / len(kept):.2f} regions an image"
        + (f"; {empty} images have none and are all background" if empty else "")
    )
    entries = [(record.id, key) for record, key in zip((*tested, *apart), keys, strict=True)]
    summary: dict[str, Any] = {
        "threshold": threshold.value,
        "goal": threshold.goal,
        "found": threshold.found,
        "threshold_images": threshold.images,
        "pasted": {str(record.id): len(one.regions) for record, one in zip(tested, kept, strict=True)},
    }
    if model.chosen is not None:
        summary["chosen"] = list(model.chosen)
    ctx.publish("manifest", entries, summary)


def _apart(ctx: Context, settings: PasteSettings, dataset: Dataset) -> list[ImageRecord]:
    """The held-out training images, where the threshold is found on them; StageError where there are none."""
    fraction = ctx.settings(HeldOutRegressorSettings).held_out_fraction
    if settings.threshold != "train":
        return []
    chosen = held_out(dataset.split("train"), fraction, ctx.seed)  # too few images may give none
    if not chosen:
        raise StageError(
            f"paste.threshold: train is found on held-out training images, and svr.held_out_fraction is {fraction:g}; "
            "set that above 0, or the threshold to a number"
        )
    return [record for record in dataset.split("train") if record.id in chosen]


def _task(
    ctx: Context, record: ImageRecord, rows: RowReader, proposals: Artifact, settings: PasteSettings
) -> ImageTask:
    keys = {**rows.keys(record), proposals.stage: proposals_key(proposals, record)}
    params = {
        "region_features": rows.settings.of_a_row(),
        "least": settings.least,
        "max_segments": settings.max_segments,
        "duplicate_iou": settings.duplicate_iou,
    }
    if settings.rank_regions is not None:  # the background is a matter of the model, whose digest is an input
        params["rank_regions"] = settings.rank_regions
    inputs = {**keys, "model": digest_file(ctx.input("model"))}
    return ImageTask(record, Recipe(ctx.node.stage.name, ctx.node.version, params, inputs), keys)


def _check(ctx: Context, model: Regressors, regions: RegionFeaturesSettings, classes: tuple[str, ...]) -> None:
    """StageError where the regressors were trained on other classes or features, or classes are too many for a map."""
    trained = (model.classes, model.features, model.layer, model.further)
    if trained != (classes, regions.features, regions.layer, further(ctx.settings(PasteSettings))):
        raise StageError(
            f"{ctx.shown('model')}: trained for {', '.join((*model.classes, *model.further))} on {model.features} "
            f"{model.layer}, and the dataset has {', '.join(classes)}, region_features {regions.features} "
            f"{regions.layer}, or paste asks for other regressors; run `dvc repro segmentation/dvc.yaml`"
        )
    if len(classes) > _MOST_CLASSES:
        raise StageError(
            f"manifest.classes: {len(classes)} classes, and a map of 8 bits holds {_MOST_CLASSES}; choose fewer"
        )


def _threshold(
    ctx: Context, settings: PasteSettings, test: Sequence[Ranked], apart: Sequence[Ranked], records: list[ImageRecord]
) -> Threshold:
    """Find the threshold: given, or risen on the held-out training images or on the test images."""
    n_classes = len(ctx.dataset().classes)
    if isinstance(settings.threshold, float):
        return Threshold(settings.threshold)
    if settings.threshold == "test":
        ctx.log.warning(
            "paste.threshold: test looks at the images that are tested on, as O2P's code did; figures are better than "
            "on new images"
        )
        return risen(test, settings.goal, settings, n_classes)
    overlaps = ctx.artifact("overlaps")
    objects = [
        len(Overlaps.of(ctx.store.get(overlaps.stage, overlaps.keys[record.id]).arrays).classes) for record in records
    ]
    return risen(apart, float(np.mean(objects)), settings, n_classes)


def _draw(ctx: Context, records: Sequence[ImageRecord], kept: Sequence[Ranked]) -> None:
    """Write each image's map."""
    proposals, folder = ctx.artifact("proposals"), ctx.output("maps")
    folder.mkdir(exist_ok=True)

    def draw(item: tuple[ImageRecord, Ranked, str]) -> None:
        record, regions, name = item
        _write(folder / name, ctx.store, proposals, record, regions)

    with ThreadPoolExecutor(ctx.workers) as pool:
        for _ in pool.map(draw, zip(records, kept, map_files(records), strict=True)):
            pass


def _write(path: Path, store: Store, proposals: Artifact, record: ImageRecord, regions: Ranked) -> None:
    arrays = store.get(proposals.stage, proposals_key(proposals, record)).arrays
    found = ImageRegions(arrays, record.height, record.width)
    drawn = paste(regions, found.mask, (record.height, record.width))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, label_map_png(drawn, path.name))
