"""Taking only so many objects of each class from training images that are annotated in part (paper section 4.3).

The paper's train_N: of ILSVRC's train, beside val1, at most N objects of each class. In the authors' code N counts
images. Images whose objects are all annotated are never cut: what would be left of them would teach that the rest is
background.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from .dataset import Dataset, ImageRecord

Counted = Literal["boxes", "images"]


def limited(dataset: Dataset, split: str, most: int, counted: Counted) -> Dataset:
    """Keep of a split's images that are annotated in part only so many as ``most`` of each class need.

    Images are asked in an order drawn from their names, so that one image more moves no other. With ``boxes`` the first
    ``most`` objects of each class stay, and the images that still have one; with ``images`` all objects of every image
    that is among the first ``most`` of some class. Crowd regions are no objects, and go with their image.
    """
    partial = [image for image in dataset.images if split in image.splits and not image.exhaustive]
    drawn = sorted(partial, key=_place)
    choose = _by_boxes if counted == "boxes" else _by_images
    kept = {image.id: image for image in choose(drawn, most, len(dataset.classes))}
    asked = {image.id for image in partial}
    images = (kept.get(image.id) if image.id in asked else image for image in dataset.images)
    return replace(dataset, images=tuple(image for image in images if image is not None))


def _place(image: ImageRecord) -> bytes:
    return hashlib.sha256(f"train limit\0{image.file_name}".encode()).digest()


def _by_images(images: Sequence[ImageRecord], most: int, n_classes: int) -> Iterator[ImageRecord]:
    seen = np.zeros(n_classes, np.int64)
    for image in images:
        shown = np.unique(image.labels[~image.crowd])
        if (seen[shown] < most).any():
            yield image
        seen[shown] += 1


def _by_boxes(images: Sequence[ImageRecord], most: int, n_classes: int) -> Iterator[ImageRecord]:
    seen = np.zeros(n_classes, np.int64)
    for image in images:
        keep = np.zeros(len(image.labels), bool)
        for row in np.flatnonzero(~image.crowd).tolist():
            keep[row] = seen[image.labels[row]] < most
            seen[image.labels[row]] += 1
        if keep.any():
            yield image if keep.all() else with_objects(image, keep)


def with_objects(image: ImageRecord, keep: np.ndarray) -> ImageRecord:
    """Return the image with the objects where ``keep`` bool [n] alone."""
    return replace(
        image,
        boxes=image.boxes[keep],
        labels=image.labels[keep],
        difficult=image.difficult[keep],
        truncated=image.truncated[keep],
        crowd=image.crowd[keep],
        details=tuple(detail for detail, kept in zip(image.details, keep, strict=True) if kept),
    )
