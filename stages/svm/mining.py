"""Training of one linear SVM per class by hard negative mining over the train images (paper section 2.3).

It follows the authors' rcnn_train.m. Deliberate differences:
- A class takes all negatives of an image until it has been fitted once, and is fitted as soon as it has one. The
  authors do so with the first image only, and stop with an error later if that image has no regions.
- The negatives are bounded in memory; what leaves because of that is counted, logged and written to the mining log.
- Each fit is seeded, so that the same features give the same detector.
- With the dual solver a class's last fit is exact (``gap``), those before it are about as exact as liblinear's
  (``mining_gap``): which negatives are hard needs no more.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cache.errors import StageError
from stages.boxes.geometry import class_overlaps
from stages.contract import Log
from stages.kernels.threads import Threads

from .classifier import Classifier
from .fitting import TrainingRows, fit_classes
from .hard_negatives import MiningImage, Responses, hard_negatives
from .liblinear import node_bytes
from .negative_pool import NegativePool
from .problem import SvmProblem
from .records import ClassFit, FitRecord, MinedImage, fit_records, log_image
from .settings import SvmSettings

_MIB = 2**20
_NO_POSITIVE = (
    "no ground-truth object in the training images, so no detector can be trained; add annotations of it, or leave the "
    "class out of the dataset"
)
_NO_NEGATIVE = (
    "no region in the training images has IoU below svm.negative_iou = {} with its objects (0: touches none), so there "
    "is nothing to tell it from; add proposals"
)


def train_svms(
    images: Collection[MiningImage],
    classes: Sequence[str],
    feature_scale: float,
    settings: SvmSettings,
    seed: int,
    log: Log,
    *,
    objects: Collection[MiningImage] | None = None,
    responses: Responses | None = None,
    mined: Collection[MiningImage] | None = None,
    workers: int = 1,
) -> tuple[Classifier, list[FitRecord]]:
    """Train the SVMs of all classes: one pass over the ground truth, then ``settings.passes`` passes of mining.

    Args:
        images: the train images, iterated over anew for each pass, always in the same order.
        classes: their names.
        feature_scale: factor on the features, ``target_norm`` over their mean norm.
        settings: group ``svm``.
        seed: of the solvers' random orders.
        log: told of each fit, of warnings and of the progress.
        objects: the same images with their ground-truth rows alone, where reading only those is cheaper and they are
            the only positives.
        responses: what regions that are no negatives of their own share (:func:`.hard_negatives.negatives`).
        mined: those of the images that negatives are taken from; None: all.
        workers: threads, for scoring an image and for fitting several classes; they change no bit of the result.

    Returns:
        The model, and the mining log: a record per fit.

    Raises:
        StageError: no image, or a class without a positive or without any negative.
    """
    problem = SvmProblem.of(settings)
    among = images if objects is None or settings.positive_iou is not None else objects
    positives = collect_positives(among, classes, settings.positive_iou, log)
    shape = len(classes), positives[0].shape[1]
    weights, bias = np.zeros(shape, np.float32), np.zeros(len(classes), np.float32)
    model = Classifier("svm", settings.layer, tuple(classes), feature_scale, weights, bias)
    records: list[FitRecord] = []
    n_positives = [len(rows) for rows in positives]
    # a BLAS has threads that wait for each other actively: on a busy machine that takes three times as long as these
    with threadpool_limits(1, user_api="blas"), Threads(workers) as threads:
        searched = images if mined is None else mined
        for step in mine(searched, positives, model, problem, settings, seed, threads, responses):
            fitted = fit_records(step, classes, n_positives, problem)
            log_image(step, fitted, settings, log)
            records += fitted
    _require(classes, {record.class_name for record in records}, _NO_NEGATIVE.format(settings.negative_iou))
    return model, records


def collect_positives(
    images: Collection[MiningImage], classes: Sequence[str], positive_iou: float | None, log: Log
) -> list[NDArray[Any]]:
    """Collect each class's positive rows, difficult objects' included as the authors do.

    All are kept in memory, beside ``memory_limit_mb``: with ``positive_iou`` tens of times as many rows.

    Returns:
        For each class [p_j, d], as stored.

    Raises:
        StageError: names every class that has none.
    """
    rows: list[list[NDArray[Any]]] = [[] for _ in classes]
    for done, image in enumerate(images, 1):
        shown = positive_classes(image, len(classes), positive_iou)
        for j in np.unique(shown[shown >= 0]):
            rows[j].append(image.features[shown == j])
        log.progress(done, len(images), "images", "collecting positives")
    _require(classes, {name for name, found in zip(classes, rows, strict=True) if found}, _NO_POSITIVE)
    return [np.concatenate(found) for found in rows]


def positive_classes(image: MiningImage, n_classes: int, positive_iou: float | None) -> NDArray[np.int64]:
    """Return the class that each region is a positive of, int64 [n], -1 for none.

    An object is one of its class (paper section 2.3). With ``positive_iou`` a proposal is, too, whose IoU with the
    object that it overlaps most is at least that, of that object's class and of classes that overlap equally the first:
    the rule of fine-tuning (appendix B). COCO's crowd regions are no objects.
    """
    shown = np.where(image.is_gt, image.gt_class, -1)
    if positive_iou is None or not image.is_gt.any():
        return shown
    overlaps = class_overlaps(image.boxes, image.boxes[image.is_gt], image.gt_class[image.is_gt], n_classes)
    near = ~image.is_gt & (overlaps.max(axis=1) >= positive_iou)
    return np.where(near, overlaps.argmax(axis=1), shown)


def mine(
    images: Collection[MiningImage],
    positives: Sequence[NDArray[Any]],
    model: Classifier,
    problem: SvmProblem,
    settings: SvmSettings,
    seed: int,
    threads: Threads,
    responses: Responses | None = None,
) -> Iterator[MinedImage]:
    """Train ``model``, whose weights are changed in place, by ordered passes over the images.

    Each image's hard negatives are cached; a class is fitted when it has its first negatives, whenever more than
    ``retrain_after`` new ones have come in, and after the last image.

    Yields:
        A step per image, once its fits are in ``model``.
    """
    is_liblinear = settings.solver == "liblinear"
    pool = NegativePool(len(positives), settings.memory_limit_mb * _MIB, node_bytes if is_liblinear else None)
    rows = TrainingRows(positives, pool, model.feature_scale)
    # of each class: its fits so far; and since the last of them, the negatives that came and those lost for memory
    fits, new, lost = (np.zeros(len(positives), np.int64) for _ in range(3))
    seen, total = 0, settings.passes * len(images)
    for _ in range(settings.passes):
        for image in images:
            seen += 1
            wanted, scores = hard_negatives(image, model, settings, fits == 0, threads, responses)
            new += pool.add(image.image_id, image.features, wanted, scores, threads)
            forgotten = pool.forget_easiest()
            lost += forgotten
            is_last = seen == total
            is_due = (fits == 0) | (new > settings.retrain_after) | is_last
            due = np.flatnonzero(is_due & (pool.counts() > 0)).tolist()
            found = fit_classes(due, fits, rows, problem, settings, seed, is_last, threads)
            done = []
            for j, solution in zip(due, found, strict=True):
                model.weights[j], model.bias[j] = solution.w, solution.b
                easy = solution.scores[len(positives[j]) :] < settings.evict_below
                rows.keep(j, solution, easy)
                fits[j] += 1
                done.append(ClassFit(j, int(fits[j]), solution, int(new[j]), int(easy.sum()), int(lost[j])))
                new[j] = lost[j] = 0
            yield MinedImage(image.image_id, seen, total, int(pool.counts().sum()), int(forgotten.sum()), done)


def _require(classes: Sequence[str], found: Collection[str], problem: str) -> None:
    """Raise StageError with the ``problem`` of every class that is not among those found."""
    if lacking := [name for name in classes if name not in found]:
        raise StageError("\n".join(f"class {name!r}: {problem}" for name in lacking))
