"""The proposals' report: recall and mean best overlap per split and class."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests import Dataset, ImageRecord
from stages.common.boxes import Boxes
from stages.common.recall import average_best_overlap, best_overlaps, recall_at

THRESHOLDS = (0.5, 0.7)


def recall_summary(dataset: Dataset, read_boxes: Callable[[ImageRecord], Boxes]) -> dict[str, Any]:
    """Number of boxes, recall at IoU 0.5 and 0.7 and mean best overlap, per split: overall and per class.

    Objects marked ``difficult`` and crowd regions are not counted. Classes without objects in a split are left out;
    ``mabo`` is the mean of the classes' mean best overlaps. Images are read one at a time. JSON values only.
    """
    splits = sorted({record.split for record in dataset.images})
    return {split: _split_summary(dataset.split(split), dataset.classes, read_boxes) for split in splits}


def _split_summary(
    images: Sequence[ImageRecord], classes: Sequence[str], read_boxes: Callable[[ImageRecord], Boxes]
) -> dict[str, Any]:
    counts, overlaps, labels = [], [], []
    for record in images:
        boxes = read_boxes(record)
        counted = ~(record.difficult | record.crowd)
        counts.append(len(boxes))
        overlaps.append(best_overlaps(boxes, record.boxes[counted]))
        labels.append(record.labels[counted])
    all_overlaps, all_labels = np.concatenate(overlaps), np.concatenate(labels)
    per_class = {
        name: _figures(all_overlaps[all_labels == i]) for i, name in enumerate(classes) if (all_labels == i).any()
    }
    return {
        "images": len(images),
        "images_without_boxes": int(np.sum(np.array(counts) == 0)),
        "boxes": int(sum(counts)),
        "mean_boxes": round(float(np.mean(counts)), 6),
        "overall": _figures(all_overlaps),
        "mabo": _rounded(np.mean([c["mean_best_overlap"] for c in per_class.values()])) if per_class else None,
        "classes": per_class,
    }


def _figures(overlaps: NDArray[np.float32]) -> dict[str, Any]:
    recalls = recall_at(overlaps, THRESHOLDS)
    return {
        "objects": len(overlaps),
        **{f"recall_{t}": _rounded(r) for t, r in zip(THRESHOLDS, recalls, strict=True)},
        "mean_best_overlap": _rounded(average_best_overlap(overlaps)),
    }


def _rounded(value: Any) -> float | None:
    """Six decimals; None (JSON has no NaN) where there is nothing to average."""
    return None if np.isnan(value) else round(float(value), 6)
