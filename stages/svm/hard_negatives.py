"""The hard negatives of one image: regions away from the class's objects that its SVM scores above the margin.

Where asked for, negatives that show nearly the same as another are dropped (SPP paper section 4.2;
``svm.duplicate_iou``), or those of the same cells as another (the authors' spp_train.m; ``svm.drop_equal``).
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes, area
from stages.boxes.nms import exceeds
from stages.kernels.threads import Threads

from .classifier import Classifier
from .settings import SvmSettings

SCORED_AT_ONCE = 512  # rows of an image, by one thread
_BITS = 64


class MiningImage(Protocol):
    """What mining reads of one image's features: n regions, ground truth among them, N classes."""

    @property
    def image_id(self) -> int:
        """The image's id in the manifest."""

    @property
    def boxes(self) -> Boxes:
        """The regions, float32 [n, 4]: ground truth first, then proposals, best first."""

    @property
    def is_gt(self) -> NDArray[np.bool_]:
        """Which regions are ground truth, bool [n]."""

    @property
    def gt_class(self) -> NDArray[np.int64]:
        """The objects' classes, int64 [n]; -1 for proposals."""

    @property
    def overlaps(self) -> NDArray[np.float32]:
        """The overlap with each class, float32 [n, N] (``stages.features.featureset.ImageFeatures``)."""

    @property
    def features(self) -> NDArray[Any]:
        """The layer that the SVMs see, float16 or float32 [n, d], unscaled."""


# What tells an image's regions apart, int64 [n, k]: regions of equal rows show the network the same.
Responses = Callable[[MiningImage], NDArray[np.int64]]


def hard_negatives(
    image: MiningImage,
    model: Classifier,
    settings: SvmSettings,
    unfitted: NDArray[np.bool_],
    threads: Threads,
    responses: Responses | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Find the hard negatives of an image, for all classes by one product of its features with their weights.

    Args:
        image: n regions.
        model: the SVMs as they are now.
        settings: ``margin``, and what a negative is.
        unfitted: bool [N], classes that were never fitted: all their negatives are hard.
        threads: share out the scoring.
        responses: as of :func:`negatives`.

    Returns:
        (bool [n, N], the scores float32 [n, N]).
    """
    if not len(image.overlaps):
        return np.zeros((0, len(unfitted)), np.bool_), np.zeros((0, len(unfitted)), np.float32)
    blocks = [image.features[i : i + SCORED_AT_ONCE] for i in range(0, len(image.features), SCORED_AT_ONCE)]
    scores = np.concatenate(threads.map(model.scores, blocks))
    return ((scores > settings.margin) | unfitted) & negatives(image, settings, responses), scores


def negatives(image: MiningImage, settings: SvmSettings, responses: Responses | None = None) -> NDArray[np.bool_]:
    """Return which regions are negatives of which class, bool [n, N].

    These are the regions whose IoU with every object of the class is strictly below ``negative_iou``, or 0 where that
    is 0, other classes' ground truth included; but not the duplicates that ``duplicate_iou`` asks to drop, nor, with
    ``responses``, a region that is not the first of those of equal responses: of all rows, ground truth and what is no
    negative included (spp_train.m).
    """
    far = image.overlaps < settings.negative_iou if settings.negative_iou > 0 else image.overlaps == 0
    if responses is not None:
        far &= first_of_equal(responses(image))[:, None]
    if settings.duplicate_iou is None:
        return far
    return distinct_negatives(image.boxes, image.is_gt, far, settings.duplicate_iou)


def distinct_negatives(
    boxes: Boxes, is_gt: NDArray[np.bool_], negative: NDArray[np.bool_], most_iou: float
) -> NDArray[np.bool_]:
    """Drop each class's near duplicates among the negatives of an image.

    In the order of the boxes a class keeps a negative unless its IoU with one that it has kept already is above
    ``most_iou``. Ground truth (of other classes) is never dropped. Classes do not see each other: what is no negative
    of a class drops none of its negatives.

    Args:
        boxes: float32 [n, 4], ground truth first, then proposals, best first.
        is_gt: bool [n].
        negative: bool [n, N].
        most_iou: in (0, 1).

    Returns:
        bool [n, N], the negatives that each class keeps.
    """
    sides = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4).T)
    words = _packed(negative)
    _drop(sides, area(boxes), np.asarray(is_gt, np.bool_), most_iou, words)
    bits = np.unpackbits(words.view(np.uint8), axis=1, count=negative.shape[1], bitorder="little")
    return bits.astype(np.bool_)


def first_of_equal(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows [n, k] are the first of those that equal them, bool [n]."""
    first = np.zeros(len(rows), np.bool_)
    first[np.unique(rows, axis=0, return_index=True)[1]] = True
    return first


def _packed(negative: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack bool [n, N] into bits, 64 classes a word: uint64 [n, words]."""
    rows, classes = negative.shape
    padded = np.zeros((rows, -(-classes // _BITS) * _BITS), np.bool_)
    padded[:, :classes] = negative
    return np.packbits(padded, axis=1, bitorder="little").view("<u8")


@njit(cache=True, nogil=True, error_model="numpy")
def _drop(sides: Any, areas: Any, is_gt: Any, most_iou: float, words: Any) -> None:
    """Clear the bits of dropped negatives in words uint64 [n, words]; sides float64 [4, n] are x1, y1, x2, y2."""
    x1, y1, x2, y2 = sides[0], sides[1], sides[2], sides[3]
    n, count = words.shape
    near = np.empty(n, np.bool_)
    for i in range(n):
        keepers = np.uint64(0)
        for w in range(count):
            keepers |= words[i, w]
        if keepers == 0:
            continue
        for k in range(i + 1, n):  # each pair is compared once for all classes; no branch, so that it is vectorised
            width = max(min(x2[i], x2[k]) - max(x1[i], x1[k]), 0.0)
            height = max(min(y2[i], y2[k]) - max(y1[i], y1[k]), 0.0)
            shared = width * height
            near[k] = exceeds(shared, areas[i] + areas[k] - shared, most_iou)
        for k in range(i + 1, n):
            if near[k] and not is_gt[k]:
                for w in range(count):
                    words[k, w] &= ~words[i, w]
