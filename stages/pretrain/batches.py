"""Mini-batches of pictures as the network takes them: random crops in other colours to train on, centre crops to judge.

What is random in batch ``i`` is drawn from ``(seed, i)`` alone (:mod:`stages.training.loop`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.features.warp import warp_regions
from stages.networks.spec import InputSpec
from stages.training.cross_entropy import LabelledBatch
from stages.training.loop import TrainingRun, generator

from .pictures import LabelledPictures
from .settings import PretrainSettings

_ORDERS = tuple(permutations(range(3)))  # of the colour channels
_MOST_PICTURES, _MOST_PIXELS = 1000, 100_000  # that the colours' components are found from; pixels of each


@dataclass(frozen=True)
class TrainingBatches:
    """The batches trained on, by number; called from several threads.

    ``sizes_px`` are the crops' sides, one for each epoch in turn; ``axes`` those along which ``settings.colour_std``
    moves the colours (:func:`colour_axes`), None for not.
    """

    data: LabelledPictures
    spec: InputSpec
    settings: PretrainSettings
    run: TrainingRun
    sizes_px: Sequence[int]
    axes: NDArray[np.float64] | None = None

    def __call__(self, number: int) -> LabelledBatch:
        """Draw pictures with replacement, crop, mirror and recolour them as the settings say."""
        data, settings = self.data, self.settings
        rng = generator(self.run.seed, self.run.stage, "batch", number)
        train_rows = np.flatnonzero(data.train)
        rows = rng.choice(train_rows, settings.batch)
        boxes = crop_boxes(data.shapes[rows], (settings.crop, settings.crop_max), rng)
        flips = rng.random(len(rows)) < 0.5 if settings.mirror else np.zeros(len(rows), bool)
        images = [data.images[int(row)] for row in rows]
        images = recolour(images, rng) if settings.recolour else images
        side = side_of_epoch(number, self.sizes_px, len(train_rows), settings.batch)
        crops = _crops(images, boxes, flips, replace(self.spec, side_px=side))
        if self.axes is not None:
            crops = shift_colours(crops, self.axes, settings.colour_std, self.spec, rng)
        return LabelledBatch(crops, data.labels[rows])


def held_out_batch(
    data: LabelledPictures, rows: NDArray[np.int64], spec: InputSpec, parts: tuple[float, float]
) -> LabelledBatch:
    """Make a batch of the centre crops of some pictures, not mirrored."""
    images = [data.images[int(row)] for row in rows]
    boxes = crop_boxes(data.shapes[rows], parts, None)
    return LabelledBatch(_crops(images, boxes, np.zeros(len(rows), bool), spec), data.labels[rows])


def side_of_epoch(number: int, sizes_px: Sequence[int], n_train: int, batch: int) -> int:
    """Return the side of a batch's crops, px: each epoch (as many pictures as are trained on) has the next size."""
    return sizes_px[number * batch // n_train % len(sizes_px)]


def crop_boxes(shapes: NDArray[np.int64], parts: tuple[float, float], rng: np.random.Generator | None) -> Boxes:
    """Choose one square crop of each picture.

    Args:
        shapes: Widths and heights [n, 2].
        parts: The least and the largest side of a crop, as parts of the picture's shorter side.
        rng: Draws sides between the two and places in the whole picture; None takes their mean, in the centre.

    Returns:
        float32 [n, 4], whole pixels.
    """
    shorter = shapes.min(axis=1, keepdims=True)
    least, most = (np.maximum(np.round(shorter * part).astype(np.int64), 1) for part in parts)
    if rng is None:
        widths = (least + most) // 2
        corners = (shapes - widths) // 2
    else:
        widths = rng.integers(least, most + 1)
        corners = rng.integers(0, shapes - widths + 1)
    return np.concatenate([corners, corners + widths], axis=1).astype(np.float32)


def _crops(
    images: Sequence[NDArray[np.uint8]], boxes: Boxes, flips: NDArray[np.bool_], spec: InputSpec
) -> NDArray[np.float32]:
    """Cut one box out of each image, as the network takes it: float32 [n, 3, side, side]."""
    return np.concatenate(
        [
            warp_regions(image, boxes[i : i + 1], spec, mode="warp", context_px=0, mirror=flips[i : i + 1])
            for i, image in enumerate(images)
        ]
    )


def recolour(images: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Put each picture's [h, w, 3] channels in a random order, and invert it with probability 0.5."""
    orders = rng.integers(0, len(_ORDERS), len(images))
    inverted = np.where(rng.random(len(images)) < 0.5, 255, 0).astype(np.uint8)
    out = []
    for image, which, flip in zip(images, orders, inverted, strict=True):
        changed = np.empty_like(image)
        for channel, source in enumerate(_ORDERS[which]):  # slices: indexing the last axis is many times slower
            changed[:, :, channel] = image[:, :, source]
        out.append(changed ^ flip)
    return out


def colour_axes(data: LabelledPictures, rng: np.random.Generator) -> NDArray[np.float64]:
    """Find the principal components of the training pictures' RGB pixels, white = 1 (Krizhevsky et al. 2012).

    From at most 1,000 pictures, drawn by ``rng``, and some 100,000 pixels of each, evenly spaced. Sums are of whole
    numbers and exact, and the signs are fixed.

    Returns:
        float64 [3, 3], one component a row, as long as the standard deviation along it.
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


def shift_colours(
    crops: NDArray[np.float32], axes: NDArray[np.float64], std: float, spec: InputSpec, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Move all pixels of each crop [n, 3, y, x], as the network takes it, along the axes by N(0, ``std``) each."""
    shifts = rng.normal(0, std, (len(crops), len(axes))) @ axes  # RGB
    if spec.color_order == "bgr":
        shifts = shifts[:, ::-1]
    by = (shifts * spec.value_range / np.array(spec.std)).astype(np.float32)
    changed: NDArray[np.float32] = crops + by[:, :, None, None]
    return changed
