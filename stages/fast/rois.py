"""Labelled regions of interest (RoIs), how they are drawn, and their regression targets (Fast R-CNN sections 2.3, 3.1).

Follows py-faster-rcnn's proposal_target_layer.py and roi_data_layer: an image's RoIs are its ground truth and its
proposals; each has the class of the object that it overlaps most. Boxes are in the original image's pixels. Difficult
objects are for the caller to leave out, as both authors' programs do. Deliberate differences:

- Crowd regions, which VOC does not have, are no objects, and proposals in one are left out, as in fine-tuning.
- Where one class's targets do not vary at all, the authors divide by 0; here that coordinate keeps the fixed deviation.
- Statistics are of all foreground RoIs, and what is foreground has a target: the authors' have a limit of their own
  (``BBOX_THRESH``), which is .5 as the foreground's is, and makes foreground below it learn an empty target.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.boxes.coding import encode
from stages.boxes.geometry import Boxes, iou, mirrored_boxes
from stages.finetune.windows import BACKGROUND, IGNORED, Limits, usable

FIXED_STD = (0.1, 0.1, 0.2, 0.2)  # of joint training (py-faster-rcnn's BBOX_NORMALIZE_STDS), with means of 0
PAPER = Limits(fg=0.5, bg=0.5, bg_low=0.0)
LEAST_STD = 1e-4  # below, targets are all the same but for rounding


@dataclass(frozen=True)
class LabelledRois:
    """One image's RoIs that can be drawn.

    ``boxes`` float32 [n, 4]; ``labels`` int64 [n], 0 for background, 1 + class index for foreground; ``objects``
    float32 [n, 4], the object that a RoI overlaps most, and the RoI itself where there is no object.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    objects: Boxes

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> "LabelledRois":
        """Select the RoIs at ``rows``, in that order."""
        return LabelledRois(self.boxes[rows], self.labels[rows], self.objects[rows])

    def mirrored(self, width: int) -> "LabelledRois":
        """Return the same RoIs of the mirror image of an image ``width`` px wide."""
        return LabelledRois(mirrored_boxes(self.boxes, width), self.labels, mirrored_boxes(self.objects, width))

    def transforms(self) -> NDArray[np.float64]:
        """Return what takes each RoI to its object (:func:`~stages.boxes.coding.encode`): float64 [n, 4].

        Zeros for background, which learns none.
        """
        out = np.zeros((len(self), 4))
        foreground = self.labels > BACKGROUND
        out[foreground] = encode(self.boxes[foreground], self.objects[foreground])
        return out


def labelled_rois(
    gt_boxes: Boxes,
    gt_labels: NDArray[np.int64],
    crowd: NDArray[np.bool_],
    proposals: Boxes,
    limits: Limits = PAPER,
) -> LabelledRois:
    """Label one image's ground truth, which comes first, and proposals.

    A RoI's object is the one it overlaps most, the first of several; its label follows from their IoU (0 without any
    object). Left out are RoIs between the limits, in a crowd region, or without area.

    Args:
        gt_boxes: float32 [m, 4].
        gt_labels: int64 [m], class indices.
        crowd: bool [m], which of them are crowd regions.
        proposals: float32 [n, 4].
        limits: Foreground from ``fg`` on, background in [``bg_low``, ``bg``).
    """
    objects, classes = gt_boxes[~crowd], gt_labels[~crowd]
    boxes = np.concatenate([objects, proposals.reshape(-1, 4)]).astype(np.float32)
    if not len(objects):
        best, nearest, labels = np.zeros(len(boxes)), boxes, np.zeros(len(boxes), np.int64)
    else:
        overlaps = iou(boxes, objects)
        which = overlaps.argmax(axis=1)
        best, nearest, labels = overlaps.max(axis=1), objects[which].astype(np.float32), classes[which] + 1
    background = (best >= limits.bg_low) & (best < limits.bg)
    labels = np.where(best >= limits.fg, labels, np.where(background, BACKGROUND, IGNORED))
    keep = (labels != IGNORED) & usable(boxes, len(objects), gt_boxes[crowd])
    return LabelledRois(boxes[keep], labels[keep].astype(np.int64), nearest[keep])


def draw_rois(
    rois: LabelledRois, *, rois_per_image: int = 64, fg_fraction: float = 0.25, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw one image's part of a mini-batch, without replacement: rows int64 [k], foreground first.

    Foreground is ``fg_fraction`` of ``rois_per_image`` (rounded, a half to the even number) or all there is; background
    fills what is left or is all there is, so k may be less. Without background only foreground comes, and without
    foreground only background; an image with neither gives no row (the authors leave such images out).
    """
    foreground, background = np.flatnonzero(rois.labels > BACKGROUND), np.flatnonzero(rois.labels == BACKGROUND)
    n_fg = min(round(fg_fraction * rois_per_image), len(foreground))
    n_bg = min(rois_per_image - n_fg, len(background))
    return np.concatenate(
        [rng.choice(kind, n, replace=False) for kind, n in ((foreground, n_fg), (background, n_bg))]
    ).astype(np.int64)


@dataclass(frozen=True)
class TargetNorm:
    """The mean and deviation by which each class's transforms are normalised: float64 [n_classes, 4] both.

    Background, which the authors' arrays count too, has no row.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fixed(cls, n_classes: int) -> "TargetNorm":
        """Return the one that knows no data: mean 0, ``FIXED_STD``, for all classes."""
        return cls(np.zeros((n_classes, 4)), np.tile(np.array(FIXED_STD), (n_classes, 1)))

    def normalise(self, transforms: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Normalise each RoI's transform for its own class: [n, 4], labels [n] -> float32 [n, 4], 0 for background."""
        foreground = labels > BACKGROUND
        classes = labels[foreground] - 1
        out = np.zeros((len(labels), 4), np.float32)
        out[foreground] = (np.asarray(transforms)[foreground] - self.mean[classes]) / self.std[classes]
        return out

    def denormalise(self, predicted: NDArray[Any]) -> NDArray[np.float64]:
        """Return what predictions for every class stand for: [n, n_classes, 4] -> float64 [n, n_classes, 4]."""
        return np.asarray(predicted, np.float64) * self.std + self.mean


def target_norm(images: Iterable[LabelledRois], n_classes: int, *, mirror: bool) -> TargetNorm:
    """Measure mean and deviation of each class's transforms, over all foreground RoIs of a training set in one pass.

    These are the population's, ground truth (whose transform is 0) included; with ``mirror`` every image counts twice,
    as it is and mirrored, so that the mean of tx is 0. What a class does not show, since it has no foreground or its
    transforms do not vary, is as in :meth:`TargetNorm.fixed`.
    """
    counts = np.zeros((n_classes, 1))
    sums, squares = np.zeros((n_classes, 4)), np.zeros((n_classes, 4))
    for rois in images:
        foreground = rois.take(np.flatnonzero(rois.labels > BACKGROUND))
        classes, transforms = foreground.labels - 1, foreground.transforms()
        np.add.at(counts, classes, 1)
        np.add.at(sums, classes, transforms)
        np.add.at(squares, classes, transforms**2)
    if mirror:  # the mirror image's transform is (-tx, ty, tw, th)
        sums[:, 0] = 0
    n = np.maximum(counts, 1)
    mean = sums / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    fixed = TargetNorm.fixed(n_classes)
    known = std >= LEAST_STD
    return TargetNorm(np.where(counts > 0, mean, fixed.mean), np.where(known, std, fixed.std))
