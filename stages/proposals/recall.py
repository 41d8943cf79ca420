"""The proposals' report: recall and mean best overlap per split and class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests import Dataset, ImageRecord
from stages.boxes.geometry import Boxes
from stages.boxes.recall import average_best_overlap, best_overlaps, recall_at

THRESHOLDS = (0.5, 0.7)


@dataclass(frozen=True)
class _Coverage:
    """One image: number of boxes, and best overlap and class of each counted object."""

    boxes: int
    overlaps: NDArray[np.float64]
    labels: NDArray[np.int64]


def recall_summary(dataset: Dataset, read_boxes: Callable[[ImageRecord], Boxes]) -> dict[str, Any]:
    """Number of boxes, recall at IoU 0.5 and 0.7 and mean best overlap, per split: overall and per class.

    Objects marked ``difficult`` and crowd regions are not counted. Classes without objects in a split are left out;
    ``mabo`` is the mean of the classes' mean best overlaps. Every image is read once. JSON values only.
    """
    coverage = {record.id: _coverage(record, read_boxes(record)) for record in dataset.images}
    return {s: _summary([coverage[r.id] for r in dataset.split(s)], dataset.classes) for s in dataset.splits}


def _coverage(record: ImageRecord, boxes: Boxes) -> _Coverage:
    counted = ~(record.difficult | record.crowd)
    return _Coverage(len(boxes), best_overlaps(boxes, record.boxes[counted]), record.labels[counted])


def _summary(images: Sequence[_Coverage], classes: Sequence[str]) -> dict[str, Any]:
    overlaps = np.concatenate([c.overlaps for c in images])
    labels = np.concatenate([c.labels for c in images])
    per_class = {name: _figures(overlaps[labels == i]) for i, name in enumerate(classes) if (labels == i).any()}
    return {
        "images": len(images),
        "images_without_boxes": sum(c.boxes == 0 for c in images),
        "boxes": sum(c.boxes for c in images),
        "mean_boxes": _rounded(np.mean([c.boxes for c in images])),
        "overall": _figures(overlaps),
        "mabo": _rounded(np.mean([c["mean_best_overlap"] for c in per_class.values()])) if per_class else None,
        "classes": per_class,
    }


def _figures(overlaps: NDArray[np.float64]) -> dict[str, Any]:
    recalls = recall_at(overlaps, THRESHOLDS)
    return {
        "objects": len(overlaps),
        **{f"recall_{t}": _rounded(r) for t, r in zip(THRESHOLDS, recalls, strict=True)},
        "mean_best_overlap": _rounded(average_best_overlap(overlaps)),
    }


def _rounded(value: Any) -> float | None:
    """Six decimals; None (JSON has no NaN) where there is nothing to average."""
    return None if np.isnan(value) else round(float(value), 6)
