"""Stage ``svr``: one regressor per class of a region's overlap with it (paper section 5, O2P's protocol).

Reads the overlaps and the features of the training images that are not held out, and their proposals and masks where
the background is regressed (``paste.background``); writes ``artifacts/svr/model.h5`` and
``artifacts/svr/fits.csv``. Cost: a pass over the overlaps, one over at most 200 images' features, one over all; the
fits take seconds where rows are some ten thousands.
"""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
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


@dataclass(frozen=True)
class _Regression:
    """What is regressed on what: the images trained on, those ``apart`` that C and epsilon are chosen on, if any."""

    ctx: Context
    settings: SvrSettings
    regions: RegionFeaturesSettings
    dataset: Dataset
    reader: TrainingReader
    records: list[ImageRecord]
    apart: list[ImageRecord]

    def train(self) -> None:
        """Train, and write the regressors and what each fit did."""
        ctx, means = self.ctx, mean_targets(self.reader.targets, self.records)
        of_classes = means[: len(self.dataset.classes)]
        if absent := [name for name, mean in zip(self.dataset.classes, of_classes, strict=True) if not mean]:
            ctx.log.warning(
                f"{', '.join(absent)}: on held-out images alone, so that nothing of them is learned; lower "
                "svr.held_out_fraction"
            )
        norm = mean_row_norm(self.reader, self.records, ctx.seed)
        ctx.log.info(
            f"mean norm of {self.regions.features} {self.regions.layer}: {norm:.4g}, scaled to 1; {len(self.records)} "
            "images"
        )
        model, fits = self._best(self._fitted(TubeProblem(*pair), means, norm) for pair in self.settings.pairs())
        if late := [fit.class_name for fit in fits if not fit.converged]:
            ctx.log.warning(f"the solver stopped early for {', '.join(sorted(set(late)))}; lower svr.C")
        write_regressors(ctx.output("model"), model)
        atomic_write(ctx.output("fits"), _table(fits).encode())

    def _fitted(self, problem: TubeProblem, means: NDArray[np.float64], norm: float) -> tuple[Regressors, list[Fit]]:
        further = self.reader.further
        names = [*self.dataset.classes, *(f"({one})" for one in further)]  # of fits.csv's rows
        weights, fits = train_regressors(
            self.reader, self.records, names, means, 1 / norm, problem, self.settings, self.ctx.seed,
            self.ctx.workers, self.ctx.log,
        )  # fmt: skip
        model = Regressors(
            self.regions.features,
            self.regions.layer,
            self.dataset.classes,
            1 / norm,
            weights,
            means.astype(np.float32),
            further,
            (problem.C, problem.epsilon) if self.apart else None,
        )
        return model, fits

    def _best(self, fitted: Iterable[tuple[Regressors, list[Fit]]]) -> tuple[Regressors, list[Fit]]:
        """Choose, of regressors fitted one after another, those whose best-scored regions overlap most on ``apart``.

        Of equal ones the first; where no image is apart there is one alone.
        """
        if not self.apart:
            (only,) = fitted
            return only
        best: tuple[float, Regressors, list[Fit]] | None = None
        for model, fits in fitted:
            reached = []
            for record in self.apart:
                image, n = self.reader(record), len(model.classes)
                scores = model.scores(image.values[image.objects :])[:, :n]
                reached += overlaps_reached(scores, image.targets[image.objects :, :n])
            mean = float(np.mean(reached)) if reached else 0.0
            assert model.chosen is not None
            self.ctx.log.info(
                f"C {model.chosen[0]:g}, epsilon {model.chosen[1]:g}: the best-scored regions of {len(self.apart)} "
                f"held-out images overlap by {mean:.4f}"
            )
            if best is None or mean > best[0]:
                best = mean, model, fits
        assert best is not None
        return best[1:]

    def params(self) -> dict[str, Any]:
        """Return the parameters that the regressors depend on: part of their key."""
        params = {
            "seed": self.ctx.seed,
            # the images held out are among the inputs
            "svr": self.settings.model_dump(mode="json", exclude={"held_out_fraction"}),
            "region_features": self.regions.of_a_row(),
            "classes": list(self.dataset.classes),
        }
        return params | ({"further": list(self.reader.further)} if self.reader.further else {})

    def inputs(self) -> dict[str, str]:
        """Return digests of all that is read: part of their key."""

        def read(some: list[ImageRecord]) -> str:
            overlaps, rows = self.reader.overlaps, self.reader.rows
            return digest_json([[overlaps.keys[record.id], rows.keys(record)] for record in some])

        found = {"rows": read(self.records)}
        if self.apart:
            found["held_out"] = read(self.apart)
        if (mirrored := self.reader.mirrored) is not None:
            found["mirrored"] = digest_json([mirrored.keys[record.id] for record in self.records])
        return found


def run(ctx: Context) -> None:
    """Train on the training images but for those held out."""
    settings, regions, dataset = ctx.settings(SvrSettings), ctx.settings(RegionFeaturesSettings), ctx.dataset()
    overlaps, mirrored = ctx.artifact("overlaps"), ctx.artifact("mirrored")
    reader = TrainingReader(
        RowReader(ctx.store, ctx.artifact("features"), ctx.artifact("region_features"), regions),
        overlaps,
        len(dataset.classes),
        settings.best_iou,
        further(ctx.settings(FurtherRegressorSettings)),
        _background_of(ctx),
        mirrored if regions.mirror_truth else None,
    )
    _check_classes(ctx, dataset, overlaps)
    without = held_out(dataset.split("train"), settings.held_out_fraction, ctx.seed)
    records = [record for record in dataset.split("train") if record.id not in without]
    apart = [record for record in dataset.split("train") if record.id in without] if len(settings.pairs()) > 1 else []
    if len(settings.pairs()) > 1 and not apart:
        raise StageError(
            f"svr.C and svr.epsilon: of several values one is chosen on held-out training images, and of "
            f"{len(records)} none is held out; raise svr.held_out_fraction, or name one value of each"
        )
    regression = _Regression(ctx, settings, regions, dataset, reader, records, apart)
    ctx.trained(regression.params(), regression.inputs(), regression.train)


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
