"""What a segmentation scores: the confusion of pixels, IoU per class, and what the regions allow at most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.masks import VOID
from stages.boxes.geometry import touched


def confusion(truth: NDArray[np.uint8], result: NDArray[np.uint8], n_classes: int) -> NDArray[np.int64]:
    """Count pixels by truth (rows) and result (columns), background first, int64 [N + 1, N + 1].

    Pixels of truth 255 count nowhere. Both maps are uint8 [H, W]: 0 background, c + 1 class c.

    Raises:
        ValueError: the maps differ in shape, or hold other values.
    """
    if truth.shape != result.shape:
        raise ValueError(f"the result is of shape {result.shape}, the truth of {truth.shape}")
    n, cared = n_classes + 1, truth != VOID
    if max(int(truth[cared].max(initial=0)), int(result[cared].max(initial=0))) >= n:
        raise ValueError(f"a map holds a value above {n_classes}")
    pairs = truth[cared].astype(np.int64) * n + result[cared]
    return np.bincount(pairs, minlength=n * n).reshape(n, n).astype(np.int64)


@dataclass(frozen=True)
class Measures:
    """Figures of one confusion matrix, parts of 1; None where nothing is to be measured.

    Attributes:
        iou: of background and each class: pixels of both over pixels of either; None where neither map has it.
        mean_iou: of those classes that the truth or the result has, background among them.
        pixel_accuracy: share of the pixels whose class is right.
        mean_class_accuracy: of the classes in the truth, the mean share of their pixels that are right.
    """

    iou: tuple[float | None, ...]
    mean_iou: float | None
    pixel_accuracy: float | None
    mean_class_accuracy: float | None


def measures(counts: NDArray[np.int64]) -> Measures:
    """Measure a confusion matrix, int64 [N + 1, N + 1]."""
    right, truth, result = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    either = truth + result - right
    iou = tuple(float(r / e) if e else None for r, e in zip(right, either, strict=True))
    there = [one for one in iou if one is not None]
    accuracy = [float(r / t) for r, t in zip(right, truth, strict=True) if t]
    return Measures(
        iou=iou,
        mean_iou=float(np.mean(there)) if there else None,
        pixel_accuracy=float(right.sum() / truth.sum()) if truth.sum() else None,
        mean_class_accuracy=float(np.mean(accuracy)) if accuracy else None,
    )


def image_iou(counts: NDArray[np.int64]) -> float | None:
    """Mean IoU of one image over the classes that its truth or result has, but for background; None: it has none."""
    found = [one for one in measures(counts).iou[1:] if one is not None]
    return float(np.mean(found)) if found else None


def oracle(
    best: Sequence[NDArray[np.float64]], labels: Sequence[NDArray[np.int64]], n_classes: int
) -> tuple[float | None, tuple[float | None, ...]]:
    """Average the best regions' mask IoU: per class over its objects, then over the classes.

    Args:
        best: of each image, float64 [m]: the largest IoU of a region with each object.
        labels: of each image, int64 [m]: the objects' classes.
        n_classes: N.

    Returns:
        The mean over the classes that there are objects of, and each class's; None where there are none.
    """
    found, classes = np.concatenate([*best, np.zeros(0)]), np.concatenate([*labels, np.zeros(0, np.int64)])
    each = tuple(float(found[classes == c].mean()) if (classes == c).any() else None for c in range(n_classes))
    there = [one for one in each if one is not None]
    return (float(np.mean(there)) if there else None), each


def filled_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Fill detections' boxes, [n, 4], with their classes, the best last: a map as :func:`confusion` takes it.

    A box is every pixel that it touches. What a detector's boxes alone make: the plain reference of any segmentation.
    """
    drawn = np.zeros(shape, np.uint8)
    for i in np.argsort(scores, kind="stable").tolist():
        x1, y1, x2, y2 = touched(boxes[i], shape[1], shape[0])
        drawn[y1:y2, x1:x2] = int(labels[i]) + 1
    return drawn
