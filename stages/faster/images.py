"""Training images as the shared network takes them: scaled, mirrored, in the authors' order, from pixels or from maps.

Boxes are in the original image's pixels; :class:`stages.fast.images.ScaledSize` leads to the resized one's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.boxes.geometry import Boxes, mirrored_boxes
from stages.fast.images import ScaledSize, network_image, scaled_size
from stages.finetune.batches import ArrayCache
from stages.networks.spec import InputSpec


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


class TrainingImages:
    """The images of one training: their sizes, what is in them, and the order of the epochs.

    Args:
        records: the images.
        short_px, long_px: the scale (``maps``).
        difficult: whether difficult objects are objects; else they are nothing, and regions on them background (as the
            authors' programs have it).
        mirror: whether each image's mirror image is trained on, too.
    """

    def __init__(
        self, records: Sequence[ImageRecord], *, short_px: int, long_px: int, difficult: bool, mirror: bool
    ) -> None:
        self.records = list(records)
        self.sizes = [scaled_size(record.width, record.height, short_px, long_px) for record in records]
        self.mirror = mirror
        self._objects = [_objects(record, difficult) for record in records]

    @property
    def entries(self) -> list[ImageSide]:
        """All of an epoch: every image as it is and, where ``mirror``, mirrored."""
        sides = (False, True) if self.mirror else (False,)
        return [ImageSide(image, mirrored) for mirrored in sides for image in range(len(self.records))]

    def objects(self, entry: ImageSide) -> Objects:
        """Return what is annotated in an image or its mirror image."""
        found = self._objects[entry.image]
        return found.mirrored(self.records[entry.image].width) if entry.mirrored else found

    def wide(self, entry: ImageSide) -> bool:
        """Tell whether an image is at least as wide as it is high."""
        record = self.records[entry.image]
        return record.width >= record.height


def _objects(record: ImageRecord, difficult: bool) -> Objects:
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


class Inputs(Protocol):
    """Gives what the trained part of the network takes of an image: pixels or the shared map."""

    def __call__(self, entry: ImageSide) -> NDArray[np.float32]:
        """Return [1, c, h, w]; safe to call from several threads."""


@dataclass(frozen=True)
class PixelInputs:
    """The resized pixels; ``images`` gives those of the original by the image's index."""

    images: ArrayCache[int]
    sizes: Sequence[ScaledSize]
    spec: InputSpec

    def __call__(self, entry: ImageSide) -> NDArray[np.float32]:
        """Scale the image, or its mirror image: float32 [1, 3, h, w] in channels-last memory."""
        return network_image(self.images[entry.image], self.spec, self.sizes[entry.image], mirror=entry.mirrored)


@dataclass(frozen=True)
class MapInputs:
    """Stored maps, by image and side: [y, x, c] of any precision."""

    maps: ArrayCache[tuple[int, bool]]

    def __call__(self, entry: ImageSide) -> NDArray[np.float32]:
        """Return the map as float32 [1, c, y, x] in channels-last memory."""
        fmap: NDArray[Any] = self.maps[entry.image, entry.mirrored]
        return np.ascontiguousarray(fmap, np.float32)[None].transpose(0, 3, 1, 2)
