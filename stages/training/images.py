"""Images as a training takes them: what is in each, mirrored or not, and the order of the epochs.

Boxes are in the original image's pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.boxes.geometry import Boxes, mirrored_boxes


@dataclass(frozen=True)
class ImageSide:
    """An image as it is trained on once an epoch: its index in the list of images, and whether it is mirrored."""

    image: int
    mirrored: bool


@dataclass(frozen=True)
class Objects:
    """What is annotated in one image: boxes [n, 4], labels int64 [n], crowd regions [m, 4]."""

    boxes: Boxes
    labels: NDArray[np.int64]
    crowds: Boxes

    def mirrored(self, width: int) -> "Objects":
        """Return the same of the mirror image, ``width`` px wide."""
        return Objects(mirrored_boxes(self.boxes, width), self.labels, mirrored_boxes(self.crowds, width))


def objects_of(record: ImageRecord, *, difficult: bool) -> Objects:
    """Return an image's objects, the difficult ones only where ``difficult``, and its crowd regions."""
    counted = ~record.crowd if difficult else ~(record.crowd | record.difficult)
    boxes = record.boxes.astype(np.float32)
    return Objects(boxes[counted], record.labels[counted].astype(np.int64), boxes[record.crowd])


def in_epochs(
    entries: Sequence[ImageSide],
    wide: Sequence[bool],
    per_batch: int,
    rng_of: Callable[[int], np.random.Generator],
) -> Callable[[int], tuple[ImageSide, ...]]:
    """Return what gives mini-batch ``number`` of a run: epochs are permutations, as in py-faster-rcnn.

    With several images a batch all of one have the same orientation. Where an orientation's images do not fill their
    last batch, some are taken again (ours; the authors' always come in pairs, an image and its mirror image). May be
    called from several threads.

    Args:
        wide: of each entry, whether it is at least as wide as high.
        rng_of: makes the generator of epoch ``number``.
    """
    groups = [np.flatnonzero(np.array(wide, bool) == side) for side in (True, False)]
    if per_batch == 1:
        groups = [np.arange(len(entries))]
    groups = [group for group in groups if len(group)]
    batches_per_epoch = sum(-(-len(group) // per_batch) for group in groups)

    @lru_cache(maxsize=2)
    def epoch(number: int) -> NDArray[np.int64]:
        rng = rng_of(number)
        parts = [_batches(rng.permutation(group), per_batch) for group in groups]
        together = np.concatenate(parts)
        return together[rng.permutation(len(together))]

    def batch(number: int) -> tuple[ImageSide, ...]:
        chosen = epoch(number // batches_per_epoch)[number % batches_per_epoch]
        return tuple(entries[i] for i in chosen.tolist())

    return batch


def _batches(order: NDArray[np.int64], per_batch: int) -> NDArray[np.int64]:
    """Cut an order into batches [k, per_batch], its beginning once more behind its end where that is needed."""
    count = -(-len(order) // per_batch)
    return np.resize(order, count * per_batch).reshape(count, per_batch)
