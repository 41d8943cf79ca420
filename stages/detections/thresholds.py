"""The score each class must reach over a whole dataset (the authors' keep_top_k in rcnn_test.m)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Store
from manifests import ImageRecord

from .settings import DetectSettings


class ThresholdRule:
    """Finds, per class, the score at rank ``rank_factor x n_images`` among all images' candidates.

    The authors raise the threshold while they go and prune at the end. Regions dropped on the way score at most the
    threshold of that moment, which only rises, so they can change neither the score at that rank nor what is kept
    above it: taking the rank once, over every image's rows, gives the same threshold. Only a region that ties with the
    final threshold can be dropped there and kept here.
    """

    def __init__(self, n_classes: int, rank_factor: int, n_images: int) -> None:
        self._rank = rank_factor * n_images
        self._scores: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in range(n_classes)]
        self._waiting: list[list[NDArray[np.float32]]] = [[] for _ in range(n_classes)]

    def add(self, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        """One image's candidates: scores [k], labels [k]."""
        for j in np.unique(labels):
            self._waiting[j].append(np.asarray(scores[labels == j], np.float32))
            # keeps a class's memory at twice the rank or so
            if sum(map(len, self._waiting[j])) > self._rank:
                self._merge(int(j))

    def thresholds(self) -> list[float | None]:
        """Return each class's least score to keep; None where the class has no more detections than are kept."""
        for j in range(len(self._scores)):
            self._merge(j)
        return [float(s[self._rank - 1]) if len(s) > self._rank else None for s in self._scores]

    def _merge(self, j: int) -> None:
        merged = -np.sort(-np.concatenate([self._scores[j], *self._waiting[j]]))
        self._scores[j] = merged[: self._rank + 1]  # one beyond the rank tells that there are more
        self._waiting[j] = []


def dataset_thresholds(
    images: Iterable[tuple[NDArray[Any], NDArray[Any]]], classes: Sequence[str], rank_factor: int, n_images: int
) -> dict[str, float | None]:
    """Thresholds by class name, from every image's (scores, labels) of its candidates."""
    rule = ThresholdRule(len(classes), rank_factor, n_images)
    for scores, labels in images:
        rule.add(scores, labels)
    return dict(zip(classes, rule.thresholds(), strict=True))


def stored_thresholds(
    store: Store, detectors: Sequence[tuple[str, Sequence[str]]], classes: Sequence[str], rank_factor: int
) -> dict[str, float | None]:
    """Return the thresholds over one or more detectors' objects of the same images.

    Args:
        detectors: of each the stage that made its objects, and their keys, one an image.
    """
    names = ["candidates.scores", "candidates.labels"]
    objects = (store.get(stage, key, names).arrays for stage, keys in detectors for key in keys)
    images = ((arrays[names[0]], arrays[names[1]]) for arrays in objects)
    return dataset_thresholds(images, classes, rank_factor, len(detectors[0][1]))


def natural_boundary(classifier: str) -> float:
    """Return the score from which a detection is worth showing where no evaluation says better.

    An SVM's decision boundary, or half of all probability (``svm.classifier``: svm or softmax).
    """
    return 0.0 if classifier == "svm" else 0.5


# How many candidates of nearly one score an object has about it, by ``detect.order``.
CANDIDATES_PER_OBJECT = {"cut_then_suppress": 10, "suppress_then_cut": 2}


def candidates_wanted(mean_objects: float, order: str) -> int:
    """Return how many candidates of a class should be kept in an image of so many of its objects."""
    return round(4 * mean_objects * CANDIDATES_PER_OBJECT[order])


def objects_per_image(images: Sequence[ImageRecord], n_classes: int) -> list[float]:
    """Return, per class, the mean number of objects in those images that show any; 0 where none does."""
    means = []
    for j in range(n_classes):
        counts = np.array([np.count_nonzero(image.labels[~image.crowd] == j) for image in images])
        means.append(float(counts[counts > 0].mean()) if counts.any() else 0.0)
    return means


def crowded_classes(images: Sequence[ImageRecord], classes: Sequence[str], settings: DetectSettings) -> Iterator[str]:
    """One line per class with so many objects per image that the limits cut some off.

    Before suppression the limits count regions, not objects: [M] on bccd (11 red cells per image, all alike)
    ``rank_factor`` 40 leaves an AP of 54 of the 76 that 400 gives.
    """
    limit = min(settings.max_per_class, settings.rank_factor)
    per_object = CANDIDATES_PER_OBJECT[settings.order]
    what, other_order = "regions before suppression", "set detect.order to suppress_then_cut, or "
    if settings.order == "suppress_then_cut":
        what, other_order = "boxes after suppression", ""
    for name, mean in zip(classes, objects_per_image(images, len(classes)), strict=True):
        if mean * per_object > limit:
            yield (
                f"class {name!r} has {mean:.3g} objects in an image of it, and detect.max_per_class = "
                f"{settings.max_per_class} and detect.rank_factor = {settings.rank_factor} count {what}, "
                f"about {per_object} per object: if objects are missed, {other_order}raise both to about "
                f"{candidates_wanted(mean, settings.order)}"
            )
