"""Training one linear SVM per class by hard negative mining over the train images (paper section 2.3).

Follows the authors' rcnn_train.m. Deliberate differences:
- A class takes all negatives of an image until it has been fitted once, and is fitted as soon as it has one. The
  authors do so with the first image only, and stop with an error later if that image has no regions.
- The negatives are bounded in memory; what leaves because of that is counted, logged and written to the mining log.
- Each fit is seeded, so that the same features give the same detector.
- With the dual solver a class's last fit is exact (``gap``), those before it are about as exact as liblinear's
  (``mining_gap``): which negatives are hard needs no more.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import repeat
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.contract import Log
from stages.kernels.threads import Threads

from .classifier import Classifier
from .duplicates import distinct_negatives, first_of_equal
from .fitting import ClassFit, Fitter
from .liblinear import node_bytes
from .negatives import NegativePool
from .records import FitRecord, fit_record, tell, tell_forgotten
from .settings import SvmSettings

T = TypeVar("T")

SCORED_AT_ONCE = 512  # rows of an image, by one thread
_MIB = 2**20
_MOST_RESERVED = 2**34  # bytes of address space; a system may refuse what is out of all proportion to its memory


class ImageRegions(Protocol):
    """What is needed of one image's feature object: n rows, ground truth among them, N classes."""

    @property
    def image_id(self) -> int:
        """The image's id in the manifest."""

    @property
    def boxes(self) -> Boxes:
        """float32 [n, 4], ground truth first, then proposals, best first."""

    @property
    def is_gt(self) -> NDArray[np.bool_]:
        """bool [n]."""

    @property
    def gt_class(self) -> NDArray[np.int64]:
        """int64 [n], -1 for proposals."""

    @property
    def overlaps(self) -> NDArray[np.float32]:
        """float32 [n, N]: overlap with each class (``stages.features.featureset.ImageFeatures``)."""

    @property
    def features(self) -> NDArray[Any]:
        """float16 or float32 [n, d], the layer the SVMs see, unscaled."""


def train_svms(
    images: Collection[ImageRegions],
    classes: Sequence[str],
    feature_scale: float,
    settings: SvmSettings,
    seed: int,
    log: Log,
    *,
    objects: Collection[ImageRegions] | None = None,
    workers: int = 1,
) -> tuple[Classifier, list[FitRecord]]:
    """Train the detectors: one pass for the positives, then ``settings.passes`` ordered passes of mining.

    ``images`` is iterated anew for each pass and always in the same order. Positives are the ground-truth rows of the
    class, difficult ones included as the authors do; negatives are rows whose IoU with every object of the class is
    strictly below ``negative_iou``, other classes' ground truth included, but for (near) duplicates of other negatives
    where ``duplicate_iou`` or ``drop_equal`` is given (:mod:`.duplicates`). ``objects``: the same images with their
    ground-truth rows alone, for the first pass, where reading only those is cheaper (``LayerView.objects``).
    ``workers``: threads, for scoring an image and for fitting several classes; they change no bit of the result.

    Raises:
        StageError: no image, or a class without a positive or without any negative.
    """
    positives = collect_positives(images if objects is None else objects, classes, log)
    # a BLAS has threads that wait for each other actively: on a busy machine that takes three times as long as this
    with threadpool_limits(1, user_api="blas"), Threads(workers) as threads:
        trainer = _Trainer(positives, classes, feature_scale, settings, seed, log, threads)
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
        threads: Threads,
    ) -> None:
        n, d = len(classes), positives[0].shape[1]
        self.classes, self.scale, self.settings, self.seed, self.log = classes, feature_scale, settings, seed, log
        self.pool = NegativePool(
            n,
            node_bytes if settings.solver == "liblinear" else None,
            reserve_bytes=min(settings.memory_limit_mb * _MIB * 5 // 4, _MOST_RESERVED),
        )
        self.fitter = Fitter(positives, self.pool, feature_scale, settings)
        self.threads = threads
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
            scores = self._scores(image.features)
            hard = (scores > self.settings.margin) | (self.fits == 0)
            wanted = hard & self._negatives(image)
            self.new += self.pool.add(image.image_id, image.features, wanted, scores, self.threads)
        lost = self.pool.shrink(self.settings.memory_limit_mb * _MIB)
        if lost.any():
            self.lost += lost
            tell_forgotten(int(lost.sum()), image.image_id, self.settings, self.log)
        due = (self.fits == 0) | (self.new > self.settings.retrain_after) | is_last
        self._fit(np.flatnonzero(due & (self.pool.counts() > 0)).tolist(), image.image_id, seen, is_last)

    def _negatives(self, image: ImageRegions) -> NDArray[np.bool_]:
        """bool [n, N]: which rows are negatives of which class."""
        far = image.overlaps < self.settings.negative_iou
        if self.settings.drop_equal:
            far = first_of_equal(image.features, image.is_gt, far)
        if self.settings.duplicate_iou is None:
            return far
        return distinct_negatives(image.boxes, image.is_gt, far, self.settings.duplicate_iou)

    def _scores(self, features: NDArray[Any]) -> NDArray[np.float32]:
        model = self.model()
        blocks = [features[i : i + SCORED_AT_ONCE] for i in range(0, len(features), SCORED_AT_ONCE)]
        return np.concatenate(self.threads.map(model.scores, blocks))

    def _fit(self, due: list[int], image_id: int, seen: int, is_last: bool) -> None:
        """Fit classes, each by itself and so in any number of threads, then take the results over in order."""
        # a stream of its own for each (class, fit), whatever happens to other classes
        seeds = [int(np.random.SeedSequence([self.seed, j, int(self.fits[j])]).generate_state(1)[0]) for j in due]
        if len(due) == 1:  # in this thread, helped by the others
            fits = [self.fitter.fit(due[0], seeds[0], is_last, self.threads)]
        else:
            fits = self.threads.map(self.fitter.fit, due, seeds, repeat(is_last, len(due)))
        for j, fitted in zip(due, fits, strict=True):
            self._take_over(j, fitted, image_id, seen, self.settings.stop(is_last))

    def _take_over(self, j: int, fitted: ClassFit, image_id: int, seen: int, stop: tuple[str, float]) -> None:
        """Make a fit the class's detector, record it, and evict the negatives that became easy."""
        self.weights[j], self.bias[j] = fitted.w, fitted.b
        self.fits[j] += 1
        easy = fitted.negative_scores < self.settings.evict_below
        self.fitter.keep(j, fitted)
        self.pool.drop(j, easy)
        record = fit_record(
            fitted,
            self.settings,
            class_name=self.classes[j],
            fit=int(self.fits[j]),
            image_id=image_id,
            images_seen=seen,
            new_negatives=int(self.new[j]),
            evicted=int(easy.sum()),
            evicted_for_memory=int(self.lost[j]),
        )
        self.records.append(record)
        tell(record, self.settings.solver, stop, self.log)
        self.new[j] = self.lost[j] = 0

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
