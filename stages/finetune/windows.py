"""Which windows fine-tuning sees, and how a mini-batch is drawn from them (paper section 2.3).

Follows the authors' finetuning/rcnn_make_window_file.m and Caffe's window_data_layer.cpp: an image's rows are
its ground truth (difficult objects included) and then its proposals; a row's label is the class it overlaps
most. Two deliberate differences. The authors print IoU with three decimals, so that 0.4995 became foreground:
here, as in the paper, the limit is 0.5 itself. And crowd regions, which VOC does not have, are not ground
truth, and proposals that lie in one are in neither pool.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import CROWD_COVER, Boxes, area, class_overlaps, cover

if TYPE_CHECKING:
    from manifests import ImageRecord

IGNORED = -1  # in neither pool: outside the IoU limits, or in a crowd region
BACKGROUND = 0


@dataclass(frozen=True)
class Limits:
    """IoU with the nearest object: foreground from ``fg`` on, background from ``bg_low`` to below ``bg``."""

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
        """The windows at ``rows``, in that order."""
        return Windows(self.images[rows], self.boxes[rows], self.labels[rows])

    @cached_property
    def foreground(self) -> NDArray[np.int64]:
        """Rows of the foreground pool, in order."""
        return np.flatnonzero(self.labels > BACKGROUND)

    @cached_property
    def background(self) -> NDArray[np.int64]:
        """Rows of the background pool, in order."""
        return np.flatnonzero(self.labels == BACKGROUND)


def label_boxes(
    boxes: Boxes,
    gt_boxes: Boxes,
    gt_labels: NDArray[np.int64],
    *,
    n_classes: int,
    limits: Limits = Limits(),
) -> NDArray[np.int64]:
    """Labels of boxes [n, 4]: int64 [n], 1 + class for foreground, 0 for background, -1 between the limits.

    ``limits`` are of the largest IoU with any ground truth (0 without any); a foreground box's class is that ground
    truth's, and of classes that overlap equally the first.
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
    """One image's windows in either pool, ground truth first: boxes float32 [n, 4], labels int64 [n] >= 0.

    Boxes without area are left out, since there is nothing to warp.
    """
    real = ~crowd
    boxes = np.concatenate([gt_boxes[real], proposals]).astype(np.float32)
    labels = label_boxes(boxes, gt_boxes[real], gt_labels[real], n_classes=n_classes, limits=limits)
    if crowd.any():
        covered = cover(boxes, gt_boxes[crowd]) > CROWD_COVER
        covered[: real.sum()] = False
        labels[covered] = IGNORED
    keep = (labels != IGNORED) & (area(boxes) > 0)
    return boxes[keep], labels[keep]


def collect(
    records: "Sequence[ImageRecord]",
    proposals_of: "Callable[[ImageRecord], Boxes]",
    held_out: NDArray[np.bool_],
    *,
    n_classes: int,
    limits: Limits,
) -> tuple[Windows, Windows]:
    """Windows of the images trained on and of those ``held_out`` [n]; both index ``records``."""
    sides: tuple[list[Windows], list[Windows]] = ([], [])
    for index, record in enumerate(records):
        boxes, labels = image_windows(
            record.boxes,
            record.labels,
            record.crowd,
            proposals_of(record),
            n_classes=n_classes,
            limits=limits,
        )
        sides[int(held_out[index])].append(Windows(np.full(len(labels), index, np.int64), boxes, labels))
    return concatenate(sides[0]), concatenate(sides[1])


def concatenate(parts: Sequence[Windows]) -> Windows:
    """All windows of several sets, in order."""
    return Windows(
        np.concatenate([np.zeros(0, np.int64), *(p.images for p in parts)]),
        np.concatenate([np.zeros((0, 4), np.float32), *(p.boxes for p in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(p.labels for p in parts)]),
    )


def hold_out(n_images: int, fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which images are never trained on: bool [n_images], ``fraction`` of them, but at least one of each
    kind.

    With a single image, or fraction 0, none is held out.
    """
    out = np.zeros(n_images, bool)
    if fraction > 0 and n_images > 1:
        count = min(max(round(fraction * n_images), 1), n_images - 1)
        out[rng.permutation(n_images)[:count]] = True
    return out


def draw_batch(
    windows: Windows, *, fg: int, bg: int, mirror: bool, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows [bg + fg] of one mini-batch, background first, and which of them to mirror (each with p = 0.5).

    Drawn uniformly with replacement from the pools of the whole dataset. A pool that is empty gives no row;
    the caller makes sure that there is foreground.
    """
    pools = ((windows.background, bg), (windows.foreground, fg))
    rows = np.concatenate([rng.choice(pool, n) for pool, n in pools if len(pool)])
    flips = rng.random(len(rows)) < 0.5 if mirror else np.zeros(len(rows), bool)
    return rows, flips


def draw_held_out(windows: Windows, *, count: int, fg_share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most ``count`` rows without replacement, ``fg_share`` of them foreground; sorted, so that one
    image's windows stay together. A pool that has too few gives all it has.
    """
    n_fg = round(count * fg_share)
    pools = ((windows.background, count - n_fg), (windows.foreground, n_fg))
    rows = [rng.choice(pool, min(n, len(pool)), replace=False) for pool, n in pools]
    return np.sort(np.concatenate(rows))
