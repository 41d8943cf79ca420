"""The windows that fine-tuning sees, and their labels (paper section 2.3).

Follows the authors' finetuning/rcnn_make_window_file.m and Caffe's window_data_layer.cpp: an image's rows are
its ground truth (difficult objects included) and then its proposals; a row's label is the class it overlaps
most. Two deliberate differences. The authors print IoU with three decimals, so that 0.4995 became foreground:
here, as in the paper, the limit is 0.5 itself. And crowd regions, which VOC does not have, are not ground
truth, and proposals that lie in one are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.boxes.geometry import Boxes, area, class_overlaps, in_crowd

IGNORED = -1  # left out: between the IoU limits, or in a crowd region
BACKGROUND = 0


@dataclass(frozen=True)
class Limits:
    """Limits of the IoU with the nearest object: foreground from ``fg`` on, background in [``bg_low``, ``bg``)."""

    fg: float = 0.5
    bg: float = 0.5
    bg_low: float = 0.0


@dataclass(frozen=True)
class Windows:
    """Labelled windows of several images.

    ``images`` int64 [n] indexes the list of images; ``boxes`` float32 [n, 4]; ``labels`` int64 [n] is 0 for
    background, 1 + class index for foreground.
    """

    images: NDArray[np.int64]
    boxes: Boxes
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> "Windows":
        """Select the windows at ``rows``, in that order."""
        return Windows(self.images[rows], self.boxes[rows], self.labels[rows])

    @cached_property
    def foreground(self) -> NDArray[np.int64]:
        """Rows of the foreground windows, in order."""
        return np.flatnonzero(self.labels > BACKGROUND)

    @cached_property
    def background(self) -> NDArray[np.int64]:
        """Rows of the background windows, in order."""
        return np.flatnonzero(self.labels == BACKGROUND)


def label_boxes(
    boxes: Boxes,
    gt_boxes: Boxes,
    gt_labels: NDArray[np.int64],
    *,
    n_classes: int,
    limits: Limits = Limits(),
) -> NDArray[np.int64]:
    """Label boxes by the ground truth that they overlap most.

    A foreground box's class is that ground truth's, and of classes that overlap equally the first.

    Args:
        boxes: [n, 4].
        limits: Apply to the largest IoU with any ground truth (0 without any).

    Returns:
        int64 [n]: 1 + class for foreground, 0 for background, -1 between the limits.
    """
    overlaps = class_overlaps(boxes, gt_boxes, gt_labels, n_classes)
    best = overlaps.max(axis=1)
    background = (best >= limits.bg_low) & (best < limits.bg)
    return np.where(best >= limits.fg, overlaps.argmax(axis=1) + 1, np.where(background, BACKGROUND, IGNORED))


def image_windows(
    gt_boxes: Boxes,
    gt_labels: NDArray[np.int64],
    crowd: NDArray[np.bool_],
    proposals: Boxes,
    *,
    n_classes: int,
    limits: Limits = Limits(),
) -> tuple[Boxes, NDArray[np.int64]]:
    """Return one image's windows, ground truth first: boxes float32 [n, 4], labels int64 [n] >= 0.

    Boxes between the limits or in a crowd region are left out, and those without area: there is nothing to warp.
    """
    real = ~crowd
    boxes = np.concatenate([gt_boxes[real], proposals]).astype(np.float32)
    labels = label_boxes(boxes, gt_boxes[real], gt_labels[real], n_classes=n_classes, limits=limits)
    keep = (labels != IGNORED) & usable(boxes, int(real.sum()), gt_boxes[crowd])
    return boxes[keep], labels[keep]


def usable(boxes: Boxes, n_objects: int, crowd_regions: Boxes) -> NDArray[np.bool_]:
    """Tell which of an image's boxes can be trained on: those with area that are in no crowd region, bool [n].

    The first ``n_objects`` are ground truth, which may lie in a crowd region.
    """
    out = in_crowd(boxes, crowd_regions)
    out[:n_objects] = False
    return ~out & (area(boxes) > 0)


def collect(
    records: Sequence[ImageRecord],
    proposals_of: Callable[[ImageRecord], Boxes],
    *,
    n_classes: int,
    limits: Limits,
) -> list[Windows]:
    """Collect the windows of each image, whose index is the one in ``records``."""
    parts = []
    for index, record in enumerate(records):
        boxes, labels = image_windows(
            record.boxes,
            record.labels,
            record.crowd,
            proposals_of(record),
            n_classes=n_classes,
            limits=limits,
        )
        parts.append(Windows(np.full(len(labels), index, np.int64), boxes, labels))
    return parts


def classes_shown(parts: Sequence[Windows], n_classes: int) -> NDArray[np.bool_]:
    """Tell which classes have a foreground window in which image, bool [images, n_classes]."""
    shown = np.zeros((len(parts), n_classes + 1), np.bool_)
    for index, part in enumerate(parts):
        shown[index, part.labels] = True
    return shown[:, BACKGROUND + 1 :]


def concatenate(parts: Sequence[Windows]) -> Windows:
    """Join several sets of windows, in order."""
    return Windows(
        np.concatenate([np.zeros(0, np.int64), *(p.images for p in parts)]),
        np.concatenate([np.zeros((0, 4), np.float32), *(p.boxes for p in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(p.labels for p in parts)]),
    )
