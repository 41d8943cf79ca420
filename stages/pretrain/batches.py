"""Batches of crops as the network takes them: random ones to train on, centre ones to see how it goes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..common.boxes import Boxes
from ..common.networks import InputSpec
from ..common.training import Batch, Course, generator
from ..common.warp import warp_regions
from .classification import ClassificationSet, crop_boxes, recolour
from .colour import moved
from .settings import PretrainSettings


@dataclass(frozen=True)
class TrainingBatches:
    """Any iteration's batch, drawn with replacement from (seed, iteration) alone; called from several threads.

    ``axes``: along which ``settings.colour_std`` moves the colours (:func:`~.colour.colour_axes`).
    """

    data: ClassificationSet
    spec: InputSpec
    settings: PretrainSettings
    course: Course
    sizes_px: Sequence[int]
    axes: NDArray[np.float64] | None = None

    def __call__(self, iteration: int) -> Batch:
        """Random crops, mirrored and of other colours as the settings say, of the epoch's size."""
        data, settings = self.data, self.settings
        rng = generator(self.course.seed, self.course.stage, "batch", iteration)
        train_rows = np.flatnonzero(data.train)
        rows = rng.choice(train_rows, settings.batch)
        boxes = crop_boxes(data.shapes[rows], (settings.crop, settings.crop_max), rng)
        flips = rng.random(len(rows)) < 0.5 if settings.mirror else np.zeros(len(rows), bool)
        images = [data.images[int(row)] for row in rows]
        images = recolour(images, rng) if settings.recolour else images
        side = side_of_epoch(iteration, self.sizes_px, len(train_rows), settings.batch)
        crops = _crops(images, boxes, flips, replace(self.spec, side_px=side))
        if self.axes is not None:
            crops = moved(crops, self.axes, settings.colour_std, self.spec, rng)
        return Batch(crops, data.labels[rows])


def side_of_epoch(iteration: int, sizes_px: Sequence[int], n_train: int, batch: int) -> int:
    """The side of an iteration's crops, px: each epoch (as many pictures as are trained on) has the next size."""
    return sizes_px[iteration * batch // n_train % len(sizes_px)]


def held_out_batch(
    data: ClassificationSet, rows: NDArray[np.int64], spec: InputSpec, parts: tuple[float, float]
) -> Batch:
    """The centre crops of some pictures, not mirrored."""
    images = [data.images[int(row)] for row in rows]
    boxes = crop_boxes(data.shapes[rows], parts, None)
    return Batch(_crops(images, boxes, np.zeros(len(rows), bool), spec), data.labels[rows])


def _crops(
    images: Sequence[NDArray[np.uint8]], boxes: Boxes, flips: NDArray[np.bool_], spec: InputSpec
) -> NDArray[np.float32]:
    return np.concatenate(
        [
            warp_regions(image, boxes[i : i + 1], spec, mode="warp", context_px=0, mirror=flips[i : i + 1])
            for i, image in enumerate(images)
        ]
    )
