"""Precision, recall and average precision as PASCAL VOC defines them (VOCevaldet.m, VOCap.m)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .matching import Matches
from .objects import FlatDetections, GroundTruth

# The recalls at which VOC 2007 reads the curve. The devkit's third step is 3 x 0.1 = 0.30000000000000004, which a
# recall of exactly 3/10 misses; here it is 3 / 10, and equal ratios of counts are equal numbers.
RECALL_STEPS = np.arange(11) / 10


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class after each detection that is not ignored, best score first (arrays [k])."""

    scores: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    right: NDArray[np.bool_]
    n_objects: int


def curve(detections: FlatDetections, matches: Matches, truth: GroundTruth, label: int) -> Curve | None:
    """Return the curve of class ``label``; None if it has no object that counts (its recall is undefined)."""
    n_objects = int(truth.positives[label])
    if not n_objects:
        return None
    ranked = matches.ranked(label)
    ranked = ranked[~matches.ignored[ranked]]
    right = matches.right[ranked]
    found = np.cumsum(right, dtype=np.float64)
    return Curve(
        detections.scores[ranked].astype(np.float64),
        found / n_objects,
        found / np.arange(1, len(ranked) + 1),
        right,
        n_objects,
    )


def envelope(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best precision from each detection on: [k] best score first -> [k], never rising."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def area_ap(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Return the area under the monotone envelope of the curve: VOC 2010 and later. [k], [k] best first -> [0, 1]."""
    return float(np.diff(recall, prepend=0.0) @ envelope(precision))


def eleven_point_ap(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Return the mean of the best precision at recall of at least 0, 0.1, ... 1: VOC 2007.

    Args:
        recall, precision: [k] each, after each detection, best score first.
    """
    best = [precision[recall >= step].max(initial=0.0) for step in RECALL_STEPS]
    return float(np.sum(best) / 11)


def mean_ap(per_class: Sequence[float | None]) -> float | None:
    """Return the mean over the classes that have a score; None if none has."""
    scored = [ap for ap in per_class if ap is not None]
    return float(np.mean(scored)) if scored else None


def best_f1_score(one: Curve) -> float | None:
    """Return the score that balances precision and recall best: its detection and those above have the largest F1.

    The highest such score if there are several; None where nothing was found.
    """
    if not one.right.any():
        return None
    found, ranked = np.cumsum(one.right), np.arange(1, len(one.right) + 1)
    return float(one.scores[np.argmax(found / (ranked + one.n_objects))])  # F1 = 2 found / (ranked + n_objects)
