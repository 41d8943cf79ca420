"""Stage ``svr``: one regressor per class of a region's overlap with it (paper section 5, O2P's protocol).

Reads the overlaps and the features of the training images that are not held out, and their proposals and masks where
the background is regressed (``paste.background``); writes ``artifacts/svr/model.h5`` and
``artifacts/svr/fits.csv``. Cost: a pass over the overlaps, one over at most 200 images' features, one over all; the
fits take seconds where rows are some ten thousands.
"""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, atomic_write, digest_json
from cache.errors import StageError
from manifests import Dataset, ImageRecord
from stages.contract import Context
from stages.proposals.reading import proposals_key
from stages.regions.image_regions import ImageRegions
from stages.svm.tube import TubeProblem
from stages.training.held_out import held_out

from .overlaps import background_overlaps, large_enough
from .regressors import Regressors, write_regressors
from .rows import RowReader, TrainingReader
from .settings import FurtherRegressorSettings, RegionFeaturesSettings, RegionOverlapsSettings, SvrSettings, further
from .training import Fit, mean_row_norm, mean_targets, overlaps_reached, train_regressors


def run(ctx: Context) -> None:
    """Train on the training images but for those held out."""
    settings, regions, dataset = ctx.settings(SvrSettings), ctx.settings(RegionFeaturesSettings), ctx.dataset()
    overlaps = ctx.artifact("overlaps")
    rows = RowReader(ctx.store, ctx.artifact("features"), ctx.artifact("region_features"), regions)
    more = further(ctx.settings(FurtherRegressorSettings))
    listed = ctx.artifact("mirrored")
    mirrored = listed if regions.mirror_truth else None
    reader = TrainingReader(
        rows, overlaps, len(dataset.classes), settings.best_iou, more, _background_of(ctx), mirrored
    )
    without = held_out(dataset.split("train"), settings.held_out_fraction, ctx.seed)
    records = [record for record in dataset.split("train") if record.id not in without]

    _check_classes(ctx, dataset, overlaps)
    several = len(settings.pairs()) > 1
    apart = [record for record in dataset.split("train") if record.id in without] if several else []
    if several and not apart:
        raise StageError(
            f"svr.C and svr.epsilon: of several values one is chosen on held-out training images, and of "
            f"{len(records)} none is held out; raise svr.held_out_fraction, or name one value of each"
        )
    names = [*dataset.classes, *(f"({one})" for one in more)]  # of fits.csv's rows

    def train() -> None:
        means = mean_targets(reader.targets, records)
        of_classes = means[: len(dataset.classes)]
        if absent := [name for name, mean in zip(dataset.classes, of_classes, strict=True) if not mean]:
            ctx.log.warning(
                f"{', '.join(absent)}: on held-out images alone, so that nothing of them is learned; lower "
                "svr.held_out_fraction"
            )
        norm = mean_row_norm(reader, records, ctx.seed)
        ctx.log.info(f"mean norm of {regions.features} {regions.layer}: {norm:.4g}, scaled to 1; {len(records)} images")

        def fitted(C: float, epsilon: float) -> tuple[Regressors, list[Fit]]:
            weights, fits = train_regressors(
                reader, records, names, means, 1 / norm, TubeProblem(C, epsilon), settings, ctx.seed, ctx.workers,
                ctx.log,
            )  # fmt: skip
            chosen = (C, epsilon) if several else None
            own = means.astype(np.float32)
            return Regressors(
                regions.features, regions.layer, dataset.classes, 1 / norm, weights, own, more, chosen
            ), fits

        model, fits = _best_of(ctx, reader, apart, (fitted(*pair) for pair in settings.pairs()))
        if late := [fit.class_name for fit in fits if not fit.converged]:
            ctx.log.warning(f"the solver stopped early for {', '.join(sorted(set(late)))}; lower svr.C")
        write_regressors(ctx.output("model"), model)
        atomic_write(ctx.output("fits"), _table(fits).encode())

    params: dict[str, Any] = {
        "seed": ctx.seed,
        "svr": settings.model_dump(mode="json", exclude={"held_out_fraction"}),  # the images are among the inputs
        "region_features": regions.of_a_row(),
        "classes": list(dataset.classes),
    }
    if more:
        params["further"] = list(more)

    def read(some: list[ImageRecord]) -> str:
        return digest_json([[overlaps.keys[record.id], rows.keys(record)] for record in some])

    inputs = {"rows": read(records)}
    if apart:
        inputs["held_out"] = read(apart)
    if mirrored is not None:
        inputs["mirrored"] = digest_json([mirrored.keys[record.id] for record in records])
    ctx.trained(params, inputs, train)


def _best_of(
    ctx: Context,
    reader: TrainingReader,
    apart: list[ImageRecord],
    fitted: Iterable[tuple[Regressors, list[Fit]]],
) -> tuple[Regressors, list[Fit]]:
    """Choose, of regressors fitted one after another, those whose best-scored regions overlap most on images held out.

    Of equal ones the first; ``apart`` is empty where there is one alone.
    """
    if not apart:
        (only,) = fitted
        return only
    best: tuple[float, Regressors, list[Fit]] | None = None
    for model, fits in fitted:
        reached = []
        for record in apart:
            image = reader(record)
            n = len(model.classes)
            scores = model.scores(image.values[image.objects :])[:, :n]
            reached += overlaps_reached(scores, image.targets[image.objects :, :n])
        mean = float(np.mean(reached)) if reached else 0.0
        assert model.chosen is not None
        ctx.log.info(
            f"C {model.chosen[0]:g}, epsilon {model.chosen[1]:g}: the best-scored regions of {len(apart)} held-out "
            f"images overlap by {mean:.4f}"
        )
        if best is None or mean > best[0]:
            best = mean, model, fits
    assert best is not None
    return best[1:]


def _background_of(ctx: Context) -> Callable[[ImageRecord], NDArray[np.float32]]:
    """Return what measures an image's proposals against its background."""
    least, proposals = ctx.settings(RegionOverlapsSettings).min_object_px, ctx.artifact("proposals")

    def measure(record: ImageRecord) -> NDArray[np.float32]:
        arrays = ctx.store.get(proposals.stage, proposals_key(proposals, record)).arrays
        regions = ImageRegions(arrays, record.height, record.width)
        return background_overlaps(regions, large_enough(ctx.masks(record), least))

    return measure


def _check_classes(ctx: Context, dataset: Dataset, overlaps: Artifact) -> None:
    """StageError naming the classes that no training image has a pixel of."""
    seen: set[int] = set()
    for record in dataset.split("train"):
        if len(seen) < len(dataset.classes):
            arrays = ctx.store.get(overlaps.stage, overlaps.keys[record.id], ["classes"]).arrays
            seen.update(arrays["classes"].tolist())
    if absent := [name for label, name in enumerate(dataset.classes) if label not in seen]:
        raise StageError(
            f"manifest.classes: no mask of the training images has a pixel of {', '.join(absent)}, so that there is "
            "nothing to learn; leave them out there, or train on images that show them"
        )


def _table(fits: list[Fit]) -> str:
    """One CSV row per fit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Fit)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(fit) for fit in fits)
    return text.getvalue()
