"""Training images as the shared network takes them: scaled, mirrored, in the authors' order, from pixels or from maps.

Boxes are in the original image's pixels; :class:`stages.fast.images.ScaledSize` leads to the resized one's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.fast.images import ScaledSize, network_image, scaled_size
from stages.finetune.batches import ArrayCache
from stages.networks.spec import InputSpec
from stages.training.images import ImageSide, Objects, objects_of


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
        self._objects = [objects_of(record, difficult=difficult) for record in records]

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
