"""Training one linear SVM per class by hard negative mining over the train images (paper section 2.3).

Follows the authors' rcnn_train.m. Deliberate differences:
- A class takes all negatives of an image until it has been fitted once, and is fitted as soon as it has one. The
  authors do so with the first image only, and stop with an error later if that image has no regions.
- The negatives are bounded in memory; what leaves because of that is counted, logged and written to the mining log.
- Each fit is seeded, so that the same features give the same detector.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.common.contract import Log
from stages.common.errors import StageError
from stages.common.half import as_float32
from stages.common.models import Classifier, product

from .negatives import NegativePool
from .settings import SvmSettings
from .solver import LinearFit, fit, objective

T = TypeVar("T")


class ImageRegions(Protocol):
    """What is needed of one image's feature object: n rows, ground truth among them, N classes."""

    @property
    def image_id(self) -> int:
        """The image's id in the manifest."""

    @property
    def is_gt(self) -> NDArray[np.bool_]:
        """bool [n]."""

    @property
    def gt_class(self) -> NDArray[np.int64]:
        """int64 [n], -1 for proposals."""

    @property
    def overlaps(self) -> NDArray[np.float32]:
        """float32 [n, N]: overlap with each class (``stages.common.featureset.ImageFeatures``)."""

    @property
    def features(self) -> NDArray[Any]:
        """float16 or float32 [n, d], the layer the SVMs see, unscaled."""


class ConvergenceWarning(UserWarning):
    """liblinear ran out of iterations; the model is usable, but not at the tolerance asked for."""


class MemoryLimitWarning(UserWarning):
    """The cached negatives met ``svm.memory_limit_mb`` and the easiest were forgotten."""


@dataclass(frozen=True)
class FitRecord:
    """One row of the mining log: a class was fitted, on what, and what came out (losses as liblinear weighs them)."""

    class_name: str
    fit: int  # 1, 2, ... per class
    image_id: int  # the image that brought it about
    images_seen: int
    positives: int
    negatives: int  # cached at the fit, before eviction
    new_negatives: int  # since the class's last fit
    evicted: int  # below svm.evict_below after the fit
    evicted_for_memory: int  # since the class's last fit
    objective: float
    regulariser: float
    positive_loss: float
    negative_loss: float
    iterations: int
    converged: bool


def train_svms(
    images: Collection[ImageRegions],
    classes: Sequence[str],
    feature_scale: float,
    settings: SvmSettings,
    seed: int,
    log: Log,
    *,
    objects: Collection[ImageRegions] | None = None,
) -> tuple[Classifier, list[FitRecord]]:
    """Train the detectors: one pass for the positives, then ``settings.passes`` ordered passes of mining.

    ``images`` is iterated anew for each pass and always in the same order. Positives are the ground-truth rows of the
    class, difficult ones included as the authors do; negatives are rows whose IoU with every object of the class is
    strictly below ``negative_iou``, other classes' ground truth included. ``objects``: the same images with their
    ground-truth rows alone, for the first pass, where reading only those is cheaper (``LayerView.objects``).

    Raises:
        StageError: no image, or a class without a positive or without any negative.
    """
    positives = collect_positives(images if objects is None else objects, classes, log)
    trainer = _Trainer(positives, classes, feature_scale, settings, seed, log)
    total = settings.passes * len(images)
    seen = 0
    for number in range(settings.passes):
        for image, is_last in _mark_last(images):
            seen += 1
            trainer.mine(image, seen, is_last and number == settings.passes - 1)
            log.progress(seen, total, "images", f"{trainer.pool.counts().sum()} negatives cached")
    trainer.require_fitted()
    return trainer.model(), trainer.records


def collect_positives(images: Collection[ImageRegions], classes: Sequence[str], log: Log) -> list[NDArray[Any]]:
    """Each class's ground-truth rows, [n_j, d] as stored. StageError naming every class that has none."""
    rows: list[list[NDArray[Any]]] = [[] for _ in classes]
    for done, image in enumerate(images, 1):
        for j in np.unique(image.gt_class[image.is_gt]):
            rows[j].append(image.features[image.is_gt & (image.gt_class == j)])
        log.progress(done, len(images), "images", "collecting positives")
    if lacking := [name for name, found in zip(classes, rows, strict=True) if not found]:
        raise StageError(
            "\n".join(
                f"class {name!r}: no ground-truth object in the training images, so no detector can be trained; "
                "add annotations of it, or leave the class out of the dataset"
                for name in lacking
            )
        )
    return [np.concatenate(found) for found in rows]


class _Trainer:
    """The state of mining: the pool of negatives, the current weights, and what happened since each class's fit."""

    def __init__(
        self,
        positives: list[NDArray[Any]],
        classes: Sequence[str],
        feature_scale: float,
        settings: SvmSettings,
        seed: int,
        log: Log,
    ) -> None:
        n, d = len(classes), positives[0].shape[1]
        self.positives, self.classes, self.scale = positives, classes, feature_scale
        self.settings, self.seed, self.log = settings, seed, log
        self.pool = NegativePool(n)
        self.weights = np.zeros((n, d), np.float32)
        self.bias = np.zeros(n, np.float32)
        self.fits = np.zeros(n, np.int64)
        self.new = np.zeros(n, np.int64)
        self.lost = np.zeros(n, np.int64)
        self.records: list[FitRecord] = []

    def model(self) -> Classifier:
        """The detectors as they are now; a class that was never fitted scores 0."""
        return Classifier(
            "svm", self.settings.layer, tuple(self.classes), self.scale, self.weights.copy(), self.bias.copy()
        )

    def mine(self, image: ImageRegions, seen: int, is_last: bool) -> None:
        """Cache one image's hard negatives, all classes scored by one product, and refit the classes that are due."""
        if len(image.overlaps):
            scores = self.model().scores(image.features)
            hard = (scores > self.settings.margin) | (self.fits == 0)
            self.new += self.pool.add(
                image.image_id, image.features, hard & (image.overlaps < self.settings.negative_iou)
            )
        self._keep_to_limit(image.image_id)
        due = (self.fits == 0) | (self.new > self.settings.retrain_after) | is_last
        for j in np.flatnonzero(due & (self.pool.counts() > 0)):
            self._fit(int(j), image.image_id, seen)

    def _keep_to_limit(self, image_id: int) -> None:
        limit_mb = self.settings.memory_limit_mb
        lost = self.pool.shrink(limit_mb * 2**20, self.model())
        if lost.any():
            self.lost += lost
            message = (
                f"image {image_id}: the cached negatives met svm.memory_limit_mb = {limit_mb}; "
                f"the {lost.sum()} easiest were forgotten; raise it to keep them"
            )
            self.log.warning(f"{MemoryLimitWarning.__name__}: {message}")

    def _fit(self, j: int, image_id: int, seen: int) -> None:
        """Fit one class on its positives and cached negatives, record it, and evict the negatives that became easy."""
        negatives = self.pool.features(j)
        # a stream of its own for each (class, fit), whatever happens to other classes
        seed = int(np.random.SeedSequence([self.seed, j, int(self.fits[j])]).generate_state(1)[0])
        result = fit([self.positives[j]], negatives, self.scale, self.settings, seed)
        self.weights[j], self.bias[j] = result.w, result.b
        self.fits[j] += 1
        scores = np.concatenate([self._scores(j, block) for block in negatives])
        easy = scores < self.settings.evict_below
        self.pool.drop(j, easy)
        self._record(j, image_id, seen, result, scores, int(easy.sum()))
        self.new[j] = self.lost[j] = 0

    def _scores(self, j: int, features: NDArray[Any]) -> NDArray[np.float32]:
        w = self.weights[j, None] * np.float32(self.scale)
        return product(as_float32(features), w)[:, 0] + self.bias[j]

    def _record(
        self, j: int, image_id: int, seen: int, result: LinearFit, scores: NDArray[np.float32], evicted: int
    ) -> None:
        parts = objective(result.w, result.b, self._scores(j, self.positives[j]), scores, self.settings)
        record = FitRecord(
            class_name=self.classes[j],
            fit=int(self.fits[j]),
            image_id=image_id,
            images_seen=seen,
            positives=len(self.positives[j]),
            negatives=len(scores),
            new_negatives=int(self.new[j]),
            evicted=evicted,
            evicted_for_memory=int(self.lost[j]),
            objective=parts.total,
            regulariser=parts.regulariser,
            positive_loss=parts.positive_loss,
            negative_loss=parts.negative_loss,
            iterations=result.iterations,
            converged=result.converged,
        )
        self.records.append(record)
        self.log.info(
            f"{record.class_name}: fit {record.fit} on {record.positives} positives, {record.negatives} negatives "
            f"({record.new_negatives} new): objective {parts.total:.4f} = {parts.regulariser:.4f} (regulariser) "
            f"+ {parts.positive_loss:.4f} (positives) + {parts.negative_loss:.4f} (negatives); evicted {evicted}"
        )
        if not result.converged:
            message = (
                f"{record.class_name}, fit {record.fit}: liblinear stopped after {result.iterations} iterations "
                f"without reaching svm.tolerance = {self.settings.tolerance}; raise svm.tolerance or lower svm.C"
            )
            self.log.warning(f"{ConvergenceWarning.__name__}: {message}")

    def require_fitted(self) -> None:
        """StageError naming every class that never had a negative."""
        lacking = [name for name, fits in zip(self.classes, self.fits, strict=True) if not fits]
        if lacking:
            raise StageError(
                "\n".join(
                    f"class {name!r}: no region in the training images has IoU below svm.negative_iou = "
                    f"{self.settings.negative_iou} with its objects, so there is nothing to tell it from; add proposals"
                    for name in lacking
                )
            )


def _mark_last(items: Collection[T]) -> Iterator[tuple[T, bool]]:
    for i, item in enumerate(items, 1):
        yield item, i == len(items)
