"""Training of box regressors within a memory budget (paper appendix C, rcnn_train_bbox_regressor.m)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cache.errors import StageError
from stages.boxes.coding import encode
from stages.boxes.geometry import iou
from stages.contract import Log
from stages.kernels.float16 import as_float32

from .regressor import BoxRegressor
from .ridge import F64, PrimalRidge, RowsRidge, Whitening, decorrelate
from .settings import BboxSettings

ALL_CLASSES = "all classes"  # in a model's summary: of a regressor that they share


class RegressionImage(Protocol):
    """What training reads of one image's features: n regions, ground truth among them."""

    @property
    def image_id(self) -> int:
        """The image's id in the manifest."""

    @property
    def boxes(self) -> NDArray[np.float32]:
        """The regions, float32 [n, 4]."""

    @property
    def is_gt(self) -> NDArray[np.bool_]:
        """Which regions are ground truth, bool [n]."""

    @property
    def gt_class(self) -> NDArray[np.int64]:
        """The objects' classes, int64 [n]; -1 for proposals."""

    @property
    def features(self) -> NDArray[Any]:
        """The layer that is regressed from, float16 or float32 [n, d], unscaled; read only if the image has pairs."""


def train_box_regressors(
    images: Collection[RegressionImage],
    classes: Sequence[str],
    feature_scale: float,
    settings: BboxSettings,
    log: Log,
    *,
    boxes: Collection[RegressionImage] | None = None,
    workers: int = 1,
) -> BoxRegressor:
    """Train four ridge regressions per class, from a region's features to the transform onto its nearest object.

    With ``settings.shared`` all classes' pairs are one class's, and every class gets its regressor, a class without a
    pair too.

    Features are scaled and a 1 is appended (its weight is penalised like the others). Targets are centred and
    decorrelated per class; the stored weights undo that and give plain transforms. A first pass looks at boxes only.
    Then each class keeps its rows or their X'X, whichever is smaller (the solution is the same), and as many classes
    share a pass over the features as ``memory_limit_mb`` holds, at least one. A class without a training pair stays
    untrained, with a warning: its boxes are left as they are.

    Args:
        images: the train images, iterated over anew for each pass.
        classes: their names.
        feature_scale: factor on the features, ``target_norm`` over their mean norm.
        settings: group ``bbox``.
        log: told of each class, of warnings and of the progress.
        boxes: the same images for the first pass, where ``images`` reads features whether asked for or not.
        workers: threads, for solving several classes; they change no bit of the result.

    Raises:
        StageError: the images hold no object.
    """
    boxes = images if boxes is None else boxes
    pairs = {
        image.image_id: training_pairs(image.boxes, image.is_gt, image.gt_class, settings.min_iou) for image in boxes
    }
    names = (ALL_CLASSES,) if settings.shared else tuple(classes)
    if settings.shared:
        pairs = {number: replace(one, classes=np.zeros_like(one.classes)) for number, one in pairs.items()}
    targets = [_class_targets(pairs.values(), j) for j in range(len(names))]
    for name, found in zip(names, targets, strict=True):
        if not len(found):
            log.warning(
                f"class {name!r}: no region has IoU above bbox.min_iou = {settings.min_iou}; boxes are left as they are"
            )
    d = _feature_dim(boxes, pairs)
    weights = np.zeros((len(names), d + 1, 4), np.float32)
    summary: dict[str, Any] = {}
    passes = _passes([len(t) for t in targets], d + 1, settings.memory_limit_mb * 2**20)
    for number, group in enumerate(passes, 1):
        whitening = {j: decorrelate(targets[j]) for j in group}
        note = f"pass {number} of {len(passes)}"
        solvers = _accumulate(images, pairs, {j: len(targets[j]) for j in group}, whitening, feature_scale, log, note)
        for j, (solution, figures) in _solve_all(solvers, targets, whitening, settings.ridge_lambda, workers):
            weights[j], summary[names[j]] = solution, figures
            log.info(f"{names[j]}: {_describe(figures)}")
    trained = np.array([len(t) > 0 for t in targets])
    if settings.shared:  # a row of its own for each class: whoever reads the file need not know
        weights, trained = (np.repeat(one, len(classes), axis=0) for one in (weights, trained))
    return BoxRegressor(True, settings.layer, tuple(classes), feature_scale, weights, trained, summary)


def disabled_regressor(layer: str, classes: Sequence[str]) -> BoxRegressor:
    """Return a model that leaves every box as it is."""
    n = len(classes)
    return BoxRegressor(False, layer, tuple(classes), 1.0, np.zeros((n, 1, 4), np.float32), np.zeros(n, bool))


@dataclass(frozen=True)
class TrainingPairs:
    """The regions of one image that are trained on, each with the transform onto its object.

    ``rows`` int64 [m] are the regions, ``classes`` int64 [m] their objects' classes, ``targets`` float64 [m, 4] the
    transforms (``stages.boxes.coding``).
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    targets: NDArray[np.float64]


def training_pairs(
    boxes: NDArray[Any], is_gt: NDArray[np.bool_], gt_class: NDArray[np.int64], min_iou: float
) -> TrainingPairs:
    """Pair the regions near an object with the transform onto it.

    A region is used if its largest IoU with any object is strictly above ``min_iou``; that object (the first of
    equals) is its target and gives it its class. Ground-truth rows take part, with zero targets, as the authors do.

    Args:
        boxes: float32 [n, 4].
        is_gt: bool [n], which of them are objects.
        gt_class: int64 [n], -1 for proposals.
        min_iou: in [0, 1).
    """
    objects = np.flatnonzero(is_gt)
    if not len(objects):
        return TrainingPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)))
    overlaps = iou(boxes, boxes[objects])
    rows = np.flatnonzero(overlaps.max(axis=1) > min_iou)
    nearest = objects[overlaps[rows].argmax(axis=1)]
    return TrainingPairs(rows, gt_class[nearest], encode(boxes[rows], boxes[nearest]))


def _class_targets(pairs: Collection[TrainingPairs], j: int) -> F64:
    """Return the targets of class ``j`` in all images, float64 [n, 4]."""
    return np.concatenate([np.zeros((0, 4)), *(p.targets[p.classes == j] for p in pairs)])


def _feature_dim(images: Collection[RegressionImage], pairs: Mapping[int, TrainingPairs]) -> int:
    """Return the features' length d; raise StageError where no image has a training pair."""
    for image in images:
        if len(pairs[image.image_id].rows):
            return int(image.features.shape[1])
    raise StageError("bbox: the training images hold no ground-truth object; annotate some, or set bbox.enabled: false")


def _solver(n_rows: int, n_features: int) -> PrimalRidge | RowsRidge:
    """Return the solver that needs less memory for a class."""
    if RowsRidge.n_bytes(n_rows, n_features) < PrimalRidge.n_bytes(n_features):
        return RowsRidge(n_rows, n_features)
    return PrimalRidge(n_features)


def _passes(n_rows: Sequence[int], n_features: int, limit_bytes: int) -> list[list[int]]:
    """Split the trained classes, in order, so that each group's solvers fit into the limit; one class always may."""
    groups: list[list[int]] = []
    used = 0
    for j, n in enumerate(n_rows):
        if n:
            need = min(RowsRidge.n_bytes(n, n_features), PrimalRidge.n_bytes(n_features))
            if not groups or used + need > limit_bytes:
                groups.append([])
                used = 0
            groups[-1].append(j)
            used += need
    return groups


def _accumulate(
    images: Collection[RegressionImage],
    pairs: Mapping[int, TrainingPairs],
    n_rows: Mapping[int, int],
    whitening: Mapping[int, Whitening],
    feature_scale: float,
    log: Log,
    note: str,
) -> dict[int, PrimalRidge | RowsRidge]:
    """Pass over the features once, and give the classes in ``n_rows`` their rows; return their solvers by class."""
    solvers: dict[int, PrimalRidge | RowsRidge] = {}
    for done, image in enumerate(images, 1):
        found = pairs[image.image_id]
        for j in np.unique(found.classes):
            if j not in n_rows:
                continue
            chosen = found.classes == j
            x = as_float32(image.features[found.rows[chosen]]) * np.float32(feature_scale)
            with_bias = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
            if j not in solvers:
                solvers[j] = _solver(n_rows[j], with_bias.shape[1])
            white = (found.targets[chosen] - whitening[j].mean) @ whitening[j].transform
            solvers[j].add(with_bias, white)
        log.progress(done, len(images), "images", note)
    return solvers


def _solve_all(
    solvers: dict[int, PrimalRidge | RowsRidge],
    targets: Sequence[F64],
    whitening: Mapping[int, Whitening],
    ridge_lambda: float,
    workers: int,
) -> Iterator[tuple[int, tuple[F64, dict[str, Any]]]]:
    """Yield each class, in order, with what :func:`_solve` finds; ``solvers`` is emptied to free its memory."""

    def solve(j: int) -> tuple[F64, dict[str, Any]]:
        return _solve(solvers.pop(j), targets[j], whitening[j], ridge_lambda)

    group = sorted(solvers)
    # a thread per class; a BLAS with threads of its own beside would be slower, and might sum in another order
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers, thread_name_prefix="bbox") as threads:
        yield from zip(group, threads.map(solve, group), strict=True)


def _solve(
    solver: PrimalRidge | RowsRidge, targets: F64, whitening: Whitening, ridge_lambda: float
) -> tuple[F64, dict[str, Any]]:
    """Return weights float64 [d + 1, 4] for plain transforms, and their errors on the training pairs, for people."""
    w, residual = solver.solve(ridge_lambda)
    plain = w @ whitening.inverse
    plain[-1] += whitening.mean
    squared_errors = np.maximum(np.diag(whitening.inverse.T @ residual @ whitening.inverse), 0)
    return plain, {
        "pairs": len(targets),
        "rms_target": _rounded(np.sqrt((targets**2).mean(axis=0))),
        "rms_error": _rounded(np.sqrt(squared_errors / len(targets))),
    }


def _rounded(values: F64) -> list[float]:
    return [float(f"{v:.6g}") for v in values]


def _describe(figures: Mapping[str, Any]) -> str:
    before, after = (" ".join(f"{v:.3f}" for v in figures[k]) for k in ("rms_target", "rms_error"))
    return f"{figures['pairs']} training pairs, rms of tx ty tw th {before} -> {after}"
