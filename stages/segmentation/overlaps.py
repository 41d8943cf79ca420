"""How much each region shares with each object of an image, and what a regressor is to say of it (O2P's measure).

With o a region, m an object's mask and care the pixels that are not void: |o and m and care| / |(o or m) and care|.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Payload, Store
from manifests.masks import Masks
from stages.contract import Compute, ImageTask, ReadMasks, image_attrs
from stages.regions.image_regions import ImageRegions


def large_enough(masks: Masks, min_object_px: int) -> Masks:
    """Make void of objects that have fewer pixels, where no other object has them."""
    small = masks.objects.sum(axis=(1, 2)) < min_object_px
    if not small.any():
        return masks
    kept = masks.objects[~small]
    void = masks.void | (masks.objects[small].any(axis=0) & ~kept.any(axis=0))
    return replace(masks, objects=kept, classes=masks.classes[~small], rows=masks.rows[~small], void=void)


@dataclass(frozen=True)
class Overlaps:
    """One image's object of stage ``region_overlaps``: its n regions (all proposals) and its m objects.

    Attributes:
        iou: float32 [n, m].
        objects: float32 [m, m], the same of each two objects.
        classes: int64 [m], of the objects.
        rows: int64 [m], their box rows in the record, -1 for none.
    """

    iou: NDArray[np.float32]
    objects: NDArray[np.float32]
    classes: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Overlaps":
        """Take an object's arrays."""
        return cls(arrays["iou"], arrays["objects"], arrays["classes"], arrays["rows"])

    def boxed(self) -> NDArray[np.int64]:
        """Return the objects that have a box, whose features are known, int64 [k]."""
        found: NDArray[np.int64] = np.flatnonzero(self.rows >= 0)
        return found

    def targets(self, max_regions: int | None, n_classes: int) -> NDArray[np.float32]:
        """Largest overlap with an object of each class, of objects that have a box, then regions: [k + n, N]."""
        every = np.concatenate([self.objects[self.boxed()], self.iou[:max_regions]])
        return class_maxima(every, self.classes, n_classes)

    def of_any_class(self, max_regions: int | None) -> NDArray[np.float32]:
        """Largest overlap of these rows with an object of any class: float32 [k + n]."""
        every = np.concatenate([self.objects[self.boxed()], self.iou[:max_regions]])
        found: NDArray[np.float32] = every.max(axis=1, initial=0)
        return found

    def counts(self, max_regions: int | None, best_iou: float) -> NDArray[np.float64]:
        """How often each of these rows counts: once, and again for each object whose best region it is; [k + n].

        An object's best region is that with the largest overlap, the first of several, if it is above ``best_iou``.
        Deliberate: that of two objects counts twice more, where O2P counts it once more.
        """
        k, iou = len(self.boxed()), self.iou[:max_regions]
        counts = np.ones(k + len(iou))
        if len(iou):
            best = iou.argmax(axis=0)
            np.add.at(counts, k + best[iou.max(axis=0) > best_iou], 1)
        return counts

    def best(self, max_regions: int | None = None) -> NDArray[np.float64]:
        """Largest overlap of a region with each object, float64 [m]; 0 where there is no region."""
        found: NDArray[np.float64] = self.iou[:max_regions].max(axis=0, initial=0).astype(np.float64)
        return found


def class_maxima(overlaps: NDArray[np.float32], classes: NDArray[np.int64], n_classes: int) -> NDArray[np.float32]:
    """Largest overlap with the objects of each class, [n, m] -> float32 [n, N]; 0 where it has none."""
    out = np.zeros((len(overlaps), n_classes), np.float32)
    for column, label in enumerate(classes.tolist()):
        np.maximum(out[:, label], overlaps[:, column], out=out[:, label])
    return out


def overlaps_of(regions: ImageRegions, masks: Masks) -> Overlaps:
    """Measure an image's regions and objects against its objects."""
    cared = masks.objects & ~masks.void
    flat = cared.reshape(len(cared), masks.void.size).astype(np.float32)  # sums of ones: exact below 2**24 pixels
    inside = flat @ flat.T
    areas = np.diag(inside)
    together = np.maximum(areas[:, None] + areas[None] - inside, 1)
    return Overlaps(regions.shared(masks.objects, masks.void).overlaps(), inside / together, masks.classes, masks.rows)


def background_overlaps(regions: ImageRegions, masks: Masks) -> NDArray[np.float32]:
    """Measure an image's n regions against its background, all pixels without an object and not void: float32 [n]."""
    background = ~(masks.objects.any(axis=0) | masks.void)
    found: NDArray[np.float32] = regions.shared(background[None], masks.void).overlaps()[:, 0]
    return found


@dataclass(frozen=True)
class OverlapsCompute(Compute):
    """One image's proposals and masks to its overlaps."""

    store: Store
    read_masks: ReadMasks
    min_object_px: int

    def __call__(self, task: ImageTask) -> Payload:
        """Compute the image's overlaps."""
        ((stage, key),) = task.reads.items()
        record = task.image
        regions = ImageRegions(self.store.get(stage, key).arrays, record.height, record.width)
        found = overlaps_of(regions, large_enough(self.read_masks(record), self.min_object_px))
        arrays: dict[str, NDArray[Any]] = {
            "iou": found.iou,
            "objects": found.objects,
            "classes": found.classes,
            "rows": found.rows,
        }
        return Payload(arrays, image_attrs(record, len(regions)), "hdf5")
