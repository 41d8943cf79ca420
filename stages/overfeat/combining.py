"""An image's scored windows to its detections: which boxes enter, and how they combine (OverFeat section 4.3).

Stages run this on what ``slide`` stored, a detector of new images on what it has just computed: same function, same
result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from stages.boxes.geometry import Boxes, clip
from stages.boxes.nms import class_nms
from stages.detections.suppression import BoxSet, Candidates, suppressed
from stages.kernels.selection import best_rows

from .merging import MergedBoxes, greedy_merge
from .settings import MergeSettings
from .windows import EVERY_CLASS, ScoredWindows

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Entering:
    """The windows of an image that enter, by class and then best first: a row for a window and class.

    Attributes:
        rows: int64 [k], which of the image's windows.
        labels: int64 [k].
        scores: float32 [k].
        boxes: float32 [k, 4], where the regressor puts the object; not clipped.
        windows: float32 [k, 4], clipped to the image.
        width, height: the image's, px.
    """

    rows: Ints
    labels: Ints
    scores: Floats
    boxes: Boxes
    windows: Boxes
    width: int
    height: int

    def classes(self) -> Iterator[slice]:
        """The rows of each class of which anything enters."""
        _, starts = np.unique(self.labels, return_index=True)
        for start, end in pairwise([*starts.tolist(), len(self.labels)]):
            yield slice(start, end)


@dataclass(frozen=True)
class Combined:
    """What an image's boxes have become, and for pictures what each is made of.

    Attributes:
        candidates: a row per merged box, or per regressed one with ``merge.method: nms``, before any suppression; its
            ``no_bbox`` is the window of the best member.
        bbox: those that suppression leaves.
        counts: int64 [m], how many boxes each of ``bbox`` is made of.
        means: float32 [m], the mean of their scores, whose sum is the score of the whole.
        member_windows: int64 [k], windows whose box is part of one of ``bbox``, by that and then best first.
        member_boxes: int64 [k], of which of them each is part.
    """

    candidates: Candidates
    bbox: BoxSet
    counts: Ints
    means: Floats
    member_windows: Ints
    member_boxes: Ints

    def members(self) -> dict[str, NDArray[Any]]:
        """The arrays of an object of stage ``merge`` that no other stage's have."""
        return {
            "merged.count": self.counts,
            "merged.mean": self.means,
            "members.windows": self.member_windows,
            "members.box": self.member_boxes,
        }


def top_classes(scores: Floats, k: int | None) -> Ints:
    """Find the classes in the top ``k`` of a scale (step a), by the largest score of each in its windows [n, C].

    Returns int64 [min(k, C)], best first; of equal ones the first class. None: all, in order.
    """
    if k is None:
        return np.arange(scores.shape[1])
    return np.argsort(-scores.max(axis=0), kind="stable")[:k]


def entering(windows: ScoredWindows, settings: MergeSettings, width: int, height: int) -> Entering:
    """Choose the windows of each class: of the scales in which it is in the top ``merge.k``, above the floor, the best.

    Ties in score keep the windows' order.

    Args:
        width, height: the image's, px.
    """
    allowed = np.zeros(windows.scores.shape, np.bool_)
    for scale in np.unique(windows.scale):
        (those,) = np.nonzero(windows.scale == scale)
        allowed[np.ix_(those, top_classes(windows.scores[those], settings.k))] = True
    scores = np.where(allowed, windows.scores, np.float32(-1))  # which no floor lets pass
    best, values = best_rows(scores.T, settings.max_windows)
    above = values > settings.score_floor
    rows, labels = best[above], np.nonzero(above)[0]
    whole = clip(windows.windows[rows], width, height)
    return Entering(rows, labels, values[above], _edges(windows, rows, labels), whole, width, height)


def _edges(windows: ScoredWindows, rows: Ints, labels: Ints) -> Boxes:
    """Return the regressed boxes float32 [k, 4] of windows, each as the regressor of its class puts it."""
    asked = windows.edge_classes[rows]
    matches = (asked == labels[:, None]) | (asked == EVERY_CLASS)
    if not matches.any(axis=1).all():
        raise StageError(
            "merge.k: asks for boxes of classes that slide did not regress; run `dvc repro`, which makes them"
        )
    boxes: Boxes = windows.edges[rows, matches.argmax(axis=1)]
    return boxes


def suppressed_windows(found: Entering, nms_iou: float) -> BoxSet:
    """Suppress the windows themselves, class by class: detections without regression."""
    return suppressed(Candidates(found.windows, found.windows, found.scores, found.labels), nms_iou).no_bbox


def combined(found: Entering, settings: MergeSettings) -> Combined:
    """Combine the boxes that enter: merged up to ``merge.t``, which is given, or suppressed, as ``merge.method`` says.

    Edges outside the image merge as they are, and the result is clipped (ours). Where an object touches the image's
    edge, regressed edges lie to either side of it and their mean near it; clipped first, the mean would lie within.
    And boxes wholly outside stay apart, where clipping would make them one.
    """
    merges = settings.method == "merge"
    merged = _merged(found, settings.t) if merges else _each_alone(found)
    labels, scores = found.labels[merged.first], merged.scores.astype(np.float32)
    order = np.lexsort((-scores, labels))  # stable: of equal ones the one with the better member is first
    labels, scores = labels[order], scores[order]
    boxes = clip(merged.boxes[order], found.width, found.height)
    nms_iou = settings.then_nms if merges else settings.nms_iou
    kept = np.arange(len(order)) if nms_iou is None else class_nms(boxes, scores, labels, nms_iou)
    return Combined(
        Candidates(boxes, found.windows[merged.first[order]], scores, labels),
        BoxSet(boxes[kept], scores[kept], labels[kept]),
        merged.counts[order[kept]],
        (merged.scores / merged.counts).astype(np.float32)[order[kept]],
        *_members(found, merged, order[kept]),
    )


def _merged(found: Entering, t: float | None) -> MergedBoxes:
    """Merge the boxes of each class; indices are rows of ``found``."""
    assert t is not None  # null has been replaced by what was found on the images held out
    parts, total = [], 0
    for rows in found.classes():
        one = greedy_merge(found.boxes[rows], found.scores[rows], t)
        parts.append(replace(one, first=one.first + rows.start, merged_into=one.merged_into + total))
        total += len(one.counts)
    if not parts:
        return _each_alone(found)
    names = [field.name for field in fields(MergedBoxes)]
    return MergedBoxes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _each_alone(found: Entering) -> MergedBoxes:
    """Return the boxes as they are, each its own one member."""
    n, own = len(found.labels), np.arange(len(found.labels))
    return MergedBoxes(found.boxes.astype(np.float64), found.scores.astype(np.float64), np.ones(n, np.int64), own, own)


def _members(found: Entering, merged: MergedBoxes, kept: Ints) -> tuple[Ints, Ints]:
    """Return the members' windows, int64 [k], and of which of the boxes ``kept`` each is part, int64 [k]."""
    place = np.full(len(merged.counts), -1)
    place[kept] = np.arange(len(kept))
    boxes = place[merged.merged_into]
    order = np.argsort(boxes, kind="stable")[np.count_nonzero(boxes < 0) :]
    return found.rows[order], boxes[order]
