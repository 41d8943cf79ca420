"""Batches of crops as the network takes them: random ones to train on, centre ones to see how it goes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.features.warp import warp_regions
from stages.networks.spec import InputSpec
from stages.training.loop import Batch, Course, generator

from .pictures import ClassificationSet, crop_boxes, recolour
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


_MOST_PICTURES, _MOST_PIXELS = 1000, 100_000  # that the components are found from; pixels of each


def colour_axes(data: ClassificationSet, rng: np.random.Generator) -> NDArray[np.float64]:
    """Principal components of the training pictures' RGB pixels, white = 1: [3, 3], one a row, as long as the standard
    deviation along it.

    Of at most 1,000 pictures, drawn by ``rng``, and some 100,000 pixels of each, evenly spaced. Sums are of whole
    numbers and exact, and the signs are fixed.
    """
    rows = rng.permutation(np.flatnonzero(data.train))[:_MOST_PICTURES]
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for row in rows:
        pixels = data.images[int(row)].reshape(-1, 3)
        pixels = pixels[:: 1 + len(pixels) // _MOST_PIXELS].astype(np.float64)
        count, total, products = count + len(pixels), total + pixels.sum(axis=0), products + pixels.T @ pixels
    mean = total / count
    variances, components = np.linalg.eigh(products / count - np.outer(mean, mean))
    axes: NDArray[np.float64] = (components * np.sqrt(variances.clip(0))).T / 255
    return np.where(axes.sum(axis=1, keepdims=True) < 0, -axes, axes)


def moved(
    crops: NDArray[np.float32], axes: NDArray[np.float64], std: float, spec: InputSpec, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Crops [n, 3, y, x] as the network takes them, all pixels of each moved by the axes times N(0, ``std``) each."""
    shifts = rng.normal(0, std, (len(crops), len(axes))) @ axes  # RGB
    if spec.color_order == "bgr":
        shifts = shifts[:, ::-1]
    by = (shifts * spec.value_range / np.array(spec.std)).astype(np.float32)
    changed: NDArray[np.float32] = crops + by[:, :, None, None]
    return changed
