"""What each anchor should answer, and the mini-batch that is drawn from an image (Faster R-CNN paper section 3).

As py-faster-rcnn's anchor_target_layer.py, with these differences. An object that no anchor meets has no positive
(there every anchor that misses it is its best, at an IoU of 0, and so positive). An image without objects has negatives
only (there it is left out; the MATLAB code keeps it, and takes the crossing anchors too). Transforms are those of
exclusive edges.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from stages.boxes.assignment import assign
from stages.boxes.coding import encode
from stages.boxes.geometry import CROWD_COVER, cover

from .anchors import Floats, inside

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class LabelRule:
    """When an anchor is an object, and when it is background; the defaults are the paper's.

    Positive from ``positive_iou`` on and where it is an object's best, negative below ``negative_iou``; anchors that
    reach more than ``border_px`` beyond the image are ignored (None: none are).
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    border_px: float | None = 0.0


@dataclass(frozen=True)
class AnchorLabels:
    """What the anchors of one image are: ``labels`` int8 [n] of 1, 0 and -1 (ignored), ``objects`` int64 [n].

    ``objects`` is what a positive anchor overlaps most, also where it is positive as another object's best (so have it
    the authors and torchvision); of other anchors it means nothing.
    """

    labels: NDArray[np.int8]
    objects: Rows

    @property
    def positive(self) -> Rows:
        """Rows of the positive anchors, rising."""
        return np.flatnonzero(self.labels == POSITIVE)

    @property
    def negative(self) -> Rows:
        """Rows of the negative anchors, rising."""
        return np.flatnonzero(self.labels == NEGATIVE)


def label_anchors(
    anchors: NDArray[Any],
    objects: NDArray[Any],
    width: int,
    height: int,
    rule: LabelRule,
    ignore: NDArray[Any] | None = None,
) -> AnchorLabels:
    """Label the anchors of one image.

    An anchor is positive where its IoU with some object is at least ``positive_iou``, or where no anchor has a larger
    one with some object (all that tie, but never at IoU 0); an anchor in question whose IoU with every object is below
    ``negative_iou`` is negative. Positive wins. Worked example, with objects a and b: IoUs (a .75, b .1) -> positive;
    (a .2, b .6), b's best -> positive for b; (a .2, b .5) -> ignored; (a .2, b .0) -> negative.

    Args:
        anchors: [n, 4] px of the resized image.
        objects: [m, 4] likewise, m may be 0; without those that are not to be learned.
        width, height: The resized image's, px.
        rule: The limits.
        ignore: Crowd regions [c, 4]: an anchor of which one covers more than ``CROWD_COVER`` is no negative.

    Raises StageError where no anchor lies within the image.
    """
    rows = np.flatnonzero(inside(anchors, width, height, rule.border_px))
    if not len(rows):
        raise StageError(
            f"no anchor lies within a resized image of {width} x {height} px; set rpn.border_px to null, which trains "
            "on anchors that cross its edges too, or add a smaller one to rpn.scales_px"
        )
    own = np.take(anchors, rows, axis=0)
    found = assign(own, objects)
    inner = np.full(len(rows), IGNORED, np.int8)
    inner[found.overlaps < rule.negative_iou] = NEGATIVE
    if ignore is not None and len(ignore):
        background = np.flatnonzero(inner == NEGATIVE)
        inner[background[cover(own[background], ignore) > CROWD_COVER]] = IGNORED
    inner[found.is_best | (found.overlaps >= rule.positive_iou)] = POSITIVE
    labels = np.full(len(anchors), IGNORED, np.int8)
    nearest = np.zeros(len(anchors), np.int64)
    labels[rows], nearest[rows] = inner, found.objects
    return AnchorLabels(labels, nearest)


@dataclass(frozen=True)
class MiniBatch:
    """Anchors of one image to learn from: ``rows`` int64 [k], the ``n_positive`` positive ones first.

    ``transforms`` float32 [n_positive, 4] take these to their objects.
    """

    rows: Rows
    n_positive: int
    transforms: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)


def draw(
    anchors: NDArray[Any],
    objects: NDArray[Any],
    labels: AnchorLabels,
    rng: np.random.Generator,
    *,
    batch: int = 256,
    positive_fraction: float = 0.5,
) -> MiniBatch:
    """Draw a mini-batch without replacement: at most so large a part positive, filled up with negatives.

    It has fewer than ``batch`` anchors where there are not enough negatives.
    """
    positive, negative = labels.positive, labels.negative
    n_positive = min(len(positive), int(batch * positive_fraction))
    chosen = rng.choice(positive, n_positive, replace=False)
    others = rng.choice(negative, min(len(negative), batch - n_positive), replace=False)
    return MiniBatch(np.concatenate([chosen, others]), n_positive, transforms_of(anchors, objects, labels, chosen))


def transforms_of(
    anchors: NDArray[Any], objects: NDArray[Any], labels: AnchorLabels, rows: Rows
) -> NDArray[np.float32]:
    """Return the transforms from positive anchors to their objects: rows int64 [p] -> float32 [p, 4]."""
    wanted = np.asarray(objects).reshape(-1, 4)[labels.objects[rows]]
    return encode(np.take(anchors, rows, axis=0), wanted).astype(np.float32)


def transform_statistics(transforms: Iterable[NDArray[Any]]) -> tuple[Floats, Floats]:
    """Average transforms [p, 4] of many images: mean and standard deviation, float64 [4] each, for the paper's loss.

    As the MATLAB code does over the positive anchors of all training images. Without any, 0 and 1; a deviation of 0
    (all the same) is 1.
    """
    count, total, squares = 0, np.zeros(4), np.zeros(4)
    for part in transforms:
        rows = np.asarray(part, np.float64).reshape(-1, 4)
        count, total, squares = count + len(rows), total + rows.sum(axis=0), squares + (rows * rows).sum(axis=0)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean * mean, 0))
    return mean, np.where(deviation > 1e-6, deviation, 1.0)
