"""The precision of single detections, read off an evaluated curve (R-CNN's Figures 8 to 11).

A detection's precision is that of the evaluated detections of its class down to its rank. The file of the curves
(``pr.csv``) has the points at right detections, where it is exact, and the last detection of all; between two of them
lie wrong ones alone, and precision falls on a straight line of the score to what it is just before the second.

Of equal scores the last point of the file counts. Wrong detections of that score that are ranked behind it are in no
row, so they are not counted: there the precision is above that of all that score at least as much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionCurve:
    """A class's precision by score: float64 [k] each, best score first.

    ``scores`` and ``precision`` at the points of the file; ``before``: the precision of the detections better than that
    of the point, 0 for the first unless it is the best of all.
    """

    scores: Floats
    precision: Floats
    before: Floats

    def at(self, scores: ArrayLike) -> Floats:
        """Return the precision at any scores [n] -> float64 [n]: 0 below the last that was evaluated.

        A score above the best has the precision of the best, or 0 where that is wrong.
        """
        asked = np.asarray(scores, np.float64)
        out = np.zeros(asked.shape)
        # of equal scores the last point: all that the file tells of this score are counted
        place = np.searchsorted(-self.scores, -asked, "right") - 1
        for i in np.ndindex(asked.shape):
            out[i] = self._one(float(asked[i]), int(place[i]))
        return out

    def _one(self, score: float, place: int) -> float:
        if place < 0:
            return float(self.before[0])
        if score == self.scores[place]:
            return float(self.precision[place])
        if place == len(self.scores) - 1:
            return 0.0
        high, low = self.scores[place], self.scores[place + 1]
        share = (high - score) / (high - low)
        return float(self.precision[place] + share * (self.before[place + 1] - self.precision[place]))


def precision_curves(rows: Sequence[Mapping[str, str]], regression: str) -> dict[str, PrecisionCurve]:
    """Return each class's curve from the rows of ``pr.csv`` of one set (``bbox``, ``no_bbox``).

    A class of which nothing was found, or which has no object, has none.
    """
    by_class: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        if row["regression"] == regression:
            point = float(row["score"]), float(row["recall"]), float(row["precision"])
            by_class.setdefault(row["class"], []).append(point)
    return {name: _curve(np.array(points)) for name, points in by_class.items()}


def _curve(points: Floats) -> PrecisionCurve:
    """Make a curve of its points [k, 3]: score, recall, precision."""
    scores, recall, precision = points.T
    right = np.diff(recall, prepend=0.0) > 0
    found = np.cumsum(right)
    # how many detections there are down to each point: of the last one, if nothing right was found, it does not matter
    ranked = np.divide(found, precision, out=np.ones(len(found)), where=precision > 0).round()
    better = ranked - 1
    before = np.divide(found - right, better, out=np.zeros(len(found)), where=better > 0)
    if right[0] and ranked[0] == 1:
        before[0] = 1.0
    return PrecisionCurve(scores, precision, before)
