"""Recall of region proposals: how well they cover the objects, whatever comes after."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.boxes.recall import best_overlaps

from .objects import Floats, GroundTruth

# IoU at which recall is reported, 0.50, 0.55, ... 1.00.
IOU_STEPS = tuple(step / 100 for step in range(50, 101, 5))


def proposal_overlaps(truth: GroundTruth, boxes_per_image: Sequence[Floats]) -> NDArray[np.float64]:
    """Find the largest IoU of each object with a proposal of its image: float64 [n], 0 where there is none."""
    best = np.zeros(len(truth.labels))
    for image in np.unique(truth.image).tolist():
        objects = np.flatnonzero(truth.image == image)
        best[objects] = best_overlaps(boxes_per_image[image], truth.boxes[objects])
    return best


@dataclass(frozen=True)
class Coverage:
    """Recall of proposals at ``IOU_STEPS`` [s] and mean best overlap, over the objects that count."""

    recall: tuple[float, ...]
    mean_best_overlap: float
    n_objects: int


def coverage(best: NDArray[np.float64]) -> Coverage | None:
    """Summarise best overlaps [n]; None for no object."""
    if not len(best):
        return None
    recall = (best[:, None] >= np.array(IOU_STEPS)).mean(axis=0)
    return Coverage(tuple(recall.tolist()), float(best.mean()), len(best))


def class_coverage(truth: GroundTruth, best: NDArray[np.float64]) -> tuple[Coverage | None, list[Coverage | None]]:
    """Return the coverage of all objects together and of each class; difficult and crowd objects are left out."""
    counted = ~truth.ignored
    each = [coverage(best[counted & (truth.labels == j)]) for j in range(truth.n_classes)]
    return coverage(best[counted]), each
