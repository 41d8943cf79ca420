"""The proposals' report: recall and mean best overlap per split and class, and what a cap on the boxes has cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests import Dataset, ImageRecord
from stages.boxes.geometry import Boxes
from stages.boxes.recall import average_best_overlap, best_overlaps, recall_at

THRESHOLDS = (0.5, 0.7)


@dataclass(frozen=True)
class ImageBoxes:
    """One image's boxes: those ``kept``, and all that were ``found`` (None: not known, the cap was reached)."""

    kept: Boxes
    found: Boxes | None


@dataclass(frozen=True)
class _Coverage:
    """One image: numbers of boxes, and best overlap (by those kept and by all found) and class of each object."""

    kept: int
    found: int | None
    overlaps: NDArray[np.float64]
    found_overlaps: NDArray[np.float64] | None
    labels: NDArray[np.int64]


def recall_summary(dataset: Dataset, read_boxes: Callable[[ImageRecord], ImageBoxes]) -> dict[str, Any]:
    """Number of boxes, recall at IoU 0.5 and 0.7 and mean best overlap, per split: overall and per class.

    Objects marked ``difficult`` and crowd regions are not counted. Classes without objects in a split are left out;
    ``mabo`` is the mean of the classes' mean best overlaps. ``cap``: boxes ``found`` in all, in how many images some
    were cut, and the recall lost by that; None where it is not known. Every image is read once. JSON values only.
    """
    coverage = {record.id: _coverage(record, read_boxes(record)) for record in dataset.images}
    return {s: _summary([coverage[r.id] for r in dataset.split(s)], dataset.classes) for s in dataset.splits}


def told(split: str, figures: Mapping[str, Any]) -> str:
    """Word a split's part of :func:`recall_summary` for the log."""
    overall, covered = figures["overall"], "no annotated object that they could cover"
    if overall["objects"]:
        covered = (
            f"recall {overall['recall_0.5']:.3f} at IoU 0.5, {overall['recall_0.7']:.3f} at 0.7, mean best overlap "
            f"{overall['mean_best_overlap']:.3f} ({overall['objects']} objects, difficult and crowd left out)"
        )
    return f"{split}: {figures['mean_boxes']:.0f} per image, {covered}"


def _coverage(record: ImageRecord, boxes: ImageBoxes) -> _Coverage:
    counted = ~(record.difficult | record.crowd)
    objects, found = record.boxes[counted], boxes.found
    overlaps = best_overlaps(boxes.kept, objects)
    by_found: NDArray[np.float64] | None = overlaps
    if found is None or len(found) > len(boxes.kept):
        by_found = None if found is None else best_overlaps(found, objects)
    return _Coverage(len(boxes.kept), None if found is None else len(found), overlaps, by_found, record.labels[counted])


def _summary(images: Sequence[_Coverage], classes: Sequence[str]) -> dict[str, Any]:
    overlaps = np.concatenate([c.overlaps for c in images])
    labels = np.concatenate([c.labels for c in images])
    per_class = {name: _figures(overlaps[labels == i]) for i, name in enumerate(classes) if (labels == i).any()}
    return {
        "images": len(images),
        "images_without_boxes": sum(c.kept == 0 for c in images),
        "boxes": sum(c.kept for c in images),
        "mean_boxes": _rounded(np.mean([c.kept for c in images])),
        "cap": _cap(images, overlaps),
        "overall": _figures(overlaps),
        "mabo": _rounded(np.mean([c["mean_best_overlap"] for c in per_class.values()])) if per_class else None,
        "classes": per_class,
    }


def _cap(images: Sequence[_Coverage], overlaps: NDArray[np.float64]) -> dict[str, Any]:
    """What keeping only the best boxes of an image has cost: see :func:`recall_summary`."""
    found = [c.found for c in images if c.found is not None]
    by_found = [c.found_overlaps for c in images if c.found_overlaps is not None]
    known = len(found) == len(images)
    lost = recall_at(np.concatenate(by_found), THRESHOLDS) - recall_at(overlaps, THRESHOLDS) if known else None
    return {
        "found": sum(found) if known else None,
        "images_cut": sum(c.found is None or c.found > c.kept for c in images),
        **{f"recall_lost_{t}": None if lost is None else _rounded(lost[i]) for i, t in enumerate(THRESHOLDS)},
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
