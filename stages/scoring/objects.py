"""Ground truth and detections of all images as flat arrays: what every metric here works on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Annotated(Protocol):
    """The part of ``manifests.ImageRecord`` that scoring needs."""

    @property
    def boxes(self) -> Floats: ...
    @property
    def labels(self) -> Ints: ...
    @property
    def difficult(self) -> Bools: ...
    @property
    def crowd(self) -> Bools: ...


@dataclass(frozen=True)
class GroundTruth:
    """Annotated objects of a list of images; all arrays have length n, ordered by image.

    ``image`` [n] is an index into that list; ``boxes`` [n, 4] as everywhere (px, exclusive right/bottom edge).
    ``ignored`` objects neither count as missed nor make a detection wrong: VOC's difficult ones, and COCO's
    crowd regions, for which VOC has no notion of its own.
    """

    image: Ints
    labels: Ints
    boxes: Floats
    difficult: Bools
    crowd: Bools
    n_images: int
    n_classes: int

    @property
    def ignored(self) -> Bools:
        """Mask of the objects that are difficult or crowd: bool [n]."""
        return self.difficult | self.crowd

    @property
    def positives(self) -> Ints:
        """Number of objects of each class that count (VOC's npos): int64 [n_classes]."""
        return np.bincount(self.labels[~self.ignored], minlength=self.n_classes)

    def take(self, rows: Ints | Bools) -> "GroundTruth":
        """Return some of the objects, by their rows or by a mask; of images and classes there are as many as before."""
        parts = {name: getattr(self, name)[rows] for name in ("image", "labels", "boxes", "difficult", "crowd")}
        return replace(self, **parts)

    @classmethod
    def of(cls, images: Sequence[Annotated], n_classes: int) -> "GroundTruth":
        """Flatten the annotations of ``images``, keeping their order."""
        counts = [len(image.labels) for image in images]
        return cls(
            np.repeat(np.arange(len(images)), counts),
            _join([image.labels for image in images], np.int64),
            _join([image.boxes.reshape(-1, 4) for image in images], np.float32, (0, 4)),
            _join([image.difficult for image in images], np.bool_),
            _join([image.crowd for image in images], np.bool_),
            len(images),
            n_classes,
        )


@dataclass(frozen=True)
class FlatDetections:
    """Detections of a list of images; all arrays have length m, ordered by image.

    The order matters where scores are equal: the earlier detection ranks first, as in VOC's evaluation of a
    results file.
    """

    image: Ints
    labels: Ints
    boxes: Floats
    scores: Floats

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, per_image: Sequence[tuple[Floats, Floats, Ints]]) -> "FlatDetections":
        """Flatten ``(boxes [k, 4], scores [k], labels [k])`` of each image, keeping their order."""
        return cls(
            np.repeat(np.arange(len(per_image)), [len(scores) for _, scores, _ in per_image]),
            _join([labels for _, _, labels in per_image], np.int64),
            _join([boxes.reshape(-1, 4) for boxes, _, _ in per_image], np.float32, (0, 4)),
            _join([scores for _, scores, _ in per_image], np.float32),
        )

    def take(self, rows: Ints | Bools) -> "FlatDetections":
        """Return some of them: by their rows, or by a mask."""
        return FlatDetections(self.image[rows], self.labels[rows], self.boxes[rows], self.scores[rows])

    def above(self, thresholds: NDArray[np.floating]) -> "FlatDetections":
        """Drop those that score below their class's threshold (``thresholds`` [n_classes])."""
        return self.take(self.scores >= np.asarray(thresholds)[self.labels])

    def of_images(self, images: Ints) -> "FlatDetections":
        """Keep those of some images (int64 [k], rising), which are then numbered 0 to k - 1."""
        places = np.searchsorted(images, self.image)
        keep = np.append(images, -1)[places] == self.image
        return replace(self.take(keep), image=places[keep])


def _join(parts: Sequence[NDArray[Any]], dtype: type, empty: tuple[int, ...] = (0,)) -> NDArray[Any]:
    return np.concatenate(parts, dtype=dtype, casting="unsafe") if parts else np.zeros(empty, dtype)
