"""One image's candidates and what suppression leaves of them, as the stages ``detect`` and ``combine`` store them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.boxes.nms import class_nms

# Arrays of a ``detect`` object from which its candidates are read again.
CANDIDATES = ("candidates.bbox", "candidates.no_bbox", "candidates.scores", "candidates.labels")


@dataclass(frozen=True)
class BoxSet:
    """Detections by class, then best first: boxes float32 [m, 4] in the image, scores float32 [m], labels int64 [m]."""

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Candidates:
    """What enters the last suppression, a detector's own or that of several together: a row per window and class.

    bbox float32 [k, 4] with box regression (equal to ``no_bbox`` where that is disabled), no_bbox float32 [k, 4]
    without, both clipped to the image; scores float32 [k], labels int64 [k].
    """

    bbox: Boxes
    no_bbox: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named as :data:`CANDIDATES`."""
        return dict(zip(CANDIDATES, (self.bbox, self.no_bbox, self.scores, self.labels), strict=True))


@dataclass(frozen=True)
class ImageDetections:
    """An image's detections with box regression (``bbox``; equal to ``no_bbox`` where that is disabled) and without."""

    bbox: BoxSet
    no_bbox: BoxSet

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that hold detections, named as in docs/adding-a-stage.md."""
        named: dict[str, NDArray[Any]] = {}
        for prefix, found in (("bbox", self.bbox), ("no_bbox", self.no_bbox)):
            named[f"{prefix}.boxes"] = found.boxes
            named[f"{prefix}.scores"] = found.scores
            named[f"{prefix}.labels"] = found.labels
        return named


def union(parts: Sequence[Candidates]) -> Candidates:
    """All detectors' candidates, at least one detector's; those of the first come first."""
    return Candidates(
        np.concatenate([part.bbox for part in parts]),
        np.concatenate([part.no_bbox for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def suppressed(candidates: Candidates, nms_iou: float) -> ImageDetections:
    """Per-class suppression (:func:`~stages.boxes.nms.class_nms`) of the boxes with regression and of those without.

    Candidates that were suppressed before they were cut (``detect.order``) all stay where they are not regressed.

    A score threshold applied to the result is the same as one applied before: greedy suppression goes down the
    scores, so that whether a box survives depends only on boxes that score at least as much, and all of those are at or
    above any threshold that the box itself meets. So the dataset-wide threshold can wait for the last image.
    """

    def keep(boxes: Boxes) -> BoxSet:
        kept = class_nms(boxes, candidates.scores, candidates.labels, nms_iou)
        return BoxSet(boxes[kept], candidates.scores[kept], candidates.labels[kept])

    plain = keep(candidates.no_bbox)
    return ImageDetections(plain if candidates.bbox is candidates.no_bbox else keep(candidates.bbox), plain)


@dataclass(frozen=True)
class Detection:
    """One detected object. ``box``: x1, y1, x2, y2 in pixels of the upright image, 0-based, right/bottom exclusive.

    ``score``: the SVM's margin (0 is its decision boundary), or a probability for ``svm.classifier: softmax``.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
