"""Training class-specific box regressors within a memory budget (paper appendix C, rcnn_train_bbox_regressor.m)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from .ridge import PrimalRidge, RowsRidge, decorrelate
from .settings import BboxSettings


@dataclass(frozen=True)
class Pairs:
    """Training pairs of one image. rows int64 [m], classes int64 [m], targets float64 [m, 4] (``box_coding``)."""

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    targets: NDArray[np.float64]


def training_pairs(boxes: NDArray[Any], is_gt: NDArray[np.bool_], gt_class: NDArray[np.int64], min_iou: float) -> Pairs:
    """The regions near an object, with the transform onto it: boxes [n, 4], is_gt bool [n], gt_class int64 [n].

    A region is used when its largest IoU with any object is strictly above ``min_iou``; that object (the first of
    equals) is its target and gives it its class. Ground-truth rows take part, with zero targets, as the authors do.
    """
    objects = np.flatnonzero(is_gt)
    if not len(objects):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)))
    overlaps = iou(boxes, boxes[objects])
    rows = np.flatnonzero(overlaps.max(axis=1) > min_iou)
    nearest = objects[overlaps[rows].argmax(axis=1)]
    return Pairs(rows, gt_class[nearest], encode(boxes[rows], boxes[nearest]))


F64 = NDArray[np.float64]


class ImageRegions(Protocol):
    """What is needed of one image's feature object: n rows, ground truth among them."""

    @property
    def image_id(self) -> int:
        """The image's id in the manifest."""

    @property
    def boxes(self) -> NDArray[np.float32]:
        """float32 [n, 4]."""

    @property
    def is_gt(self) -> NDArray[np.bool_]:
        """bool [n]."""

    @property
    def gt_class(self) -> NDArray[np.int64]:
        """int64 [n], -1 for proposals."""

    @property
    def features(self) -> NDArray[Any]:
        """float16 or float32 [n, d], unscaled. Read only where the image has rows to train on."""


def disabled_regressor(layer: str, classes: Sequence[str]) -> BoxRegressor:
    """A model that leaves every box as it is."""
    n = len(classes)
    return BoxRegressor(False, layer, tuple(classes), 1.0, np.zeros((n, 1, 4), np.float32), np.zeros(n, bool))


def train_box_regressors(
    images: Collection[ImageRegions],
    classes: Sequence[str],
    feature_scale: float,
    settings: BboxSettings,
    log: Log,
    *,
    boxes: Collection[ImageRegions] | None = None,
    workers: int = 1,
) -> BoxRegressor:
    """Four ridge regressors per class, from a region's features to the transform onto its nearest object.

    Features are scaled, a 1 is appended (its weight is penalised like the others), targets are centred and
    decorrelated per class, and undone in the stored weights, which give plain transforms. A first pass looks at
    boxes only; then each class keeps its rows or their X'X, whichever is smaller (same solution), and as many classes
    share a pass over the features as ``memory_limit_mb`` holds (at least one). ``boxes``: the same images for the first
    pass, where ``images`` reads features whether asked for or not. ``workers``: threads, for solving several classes;
    they change no bit of the result.

    A class without a training pair stays untrained, with a warning: its boxes are left as they are.
    """
    boxes = images if boxes is None else boxes
    pairs = {
        image.image_id: training_pairs(image.boxes, image.is_gt, image.gt_class, settings.min_iou) for image in boxes
    }
    targets = [_class_targets(pairs.values(), j) for j in range(len(classes))]
    for name, found in zip(classes, targets, strict=True):
        if not len(found):
            log.warning(
                f"class {name!r}: no region has IoU above bbox.min_iou = {settings.min_iou}; boxes are left as they are"
            )
    d = _feature_dim(boxes, pairs)
    weights = np.zeros((len(classes), d + 1, 4), np.float32)
    summary: dict[str, Any] = {}
    passes = _passes([len(t) for t in targets], d + 1, settings.memory_limit_mb * 2**20)
    for number, group in enumerate(passes, 1):
        whitening = {j: decorrelate(targets[j]) for j in group}
        note = f"box regression, pass {number} of {len(passes)}"
        solvers = _accumulate(images, pairs, {j: len(targets[j]) for j in group}, whitening, feature_scale, log, note)
        for j, (found, figures) in _solve_all(solvers, targets, whitening, settings.ridge_lambda, workers):
            weights[j], summary[classes[j]] = found, figures
            log.info(f"{classes[j]}: {_describe(figures)}")
    trained = np.array([len(t) > 0 for t in targets])
    return BoxRegressor(True, settings.layer, tuple(classes), feature_scale, weights, trained, summary)


def _class_targets(pairs: Collection[Pairs], j: int) -> F64:
    return np.concatenate([np.zeros((0, 4)), *(p.targets[p.classes == j] for p in pairs)])


def _feature_dim(images: Collection[ImageRegions], pairs: Mapping[int, Pairs]) -> int:
    for image in images:
        if len(pairs[image.image_id].rows):
            return int(image.features.shape[1])
    raise StageError("bbox: the training images hold no ground-truth object; annotate some, or set bbox.enabled: false")


def _solver(n_rows: int, n_features: int) -> PrimalRidge | RowsRidge:
    if RowsRidge.n_bytes(n_rows, n_features) < PrimalRidge.n_bytes(n_features):
        return RowsRidge(n_rows, n_features)
    return PrimalRidge(n_features)


def _passes(n_rows: Sequence[int], n_features: int, limit_bytes: int) -> list[list[int]]:
    """Trained classes in order, split so that each group's solvers fit into the limit (a class alone always may)."""
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
    images: Collection[ImageRegions],
    pairs: Mapping[int, Pairs],
    n_rows: Mapping[int, int],
    whitening: Mapping[int, tuple[F64, F64, F64]],
    feature_scale: float,
    log: Log,
    note: str,
) -> dict[int, PrimalRidge | RowsRidge]:
    """One pass over the features for the classes in ``n_rows``."""
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
            mean, transform, _ = whitening[j]
            solvers[j].add(with_bias, (found.targets[chosen] - mean) @ transform)
        log.progress(done, len(images), "images", note)
    return solvers


def _solve_all(
    solvers: dict[int, PrimalRidge | RowsRidge],
    targets: Sequence[F64],
    whitening: Mapping[int, tuple[F64, F64, F64]],
    ridge_lambda: float,
    workers: int,
) -> Iterator[tuple[int, tuple[F64, dict[str, Any]]]]:
    """Each class with what :func:`_solve` finds, in order; ``solvers`` is emptied as their classes are begun."""

    def solve(j: int) -> tuple[F64, dict[str, Any]]:
        return _solve(solvers.pop(j), targets[j], whitening[j], ridge_lambda)

    group = sorted(solvers)
    # a thread per class; a BLAS with threads of its own beside would be slower, and might sum in another order
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers, thread_name_prefix="bbox") as threads:
        yield from zip(group, threads.map(solve, group), strict=True)


def _solve(
    solver: PrimalRidge | RowsRidge, targets: F64, whitening: tuple[F64, F64, F64], ridge_lambda: float
) -> tuple[F64, dict[str, Any]]:
    """Weights [d + 1, 4] for plain transforms, and how well they fit the training pairs (per target tx, ty, tw, th)."""
    mean, _, inverse = whitening
    w, residual = solver.solve(ridge_lambda)
    plain = w @ inverse
    plain[-1] += mean
    squared_errors = np.maximum(np.diag(inverse.T @ residual @ inverse), 0)
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
