"""What is known of a region: the cached features of its box, and those of its foreground (paper section 5).

``full`` ignores the region's shape: the rows that stage ``features`` has stored, of ground truth and proposals. ``fg``
sees the same crop with every pixel outside the region at the mean, context too. Rows of both, for an image: its
objects that have a box and a mask, in the boxes' order, then its proposals, best first. Of training images' objects
there may be those of their mirror images as well, in objects of their own (``region_features.mirror_truth``, O2P).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Payload, Store
from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import Boxes, mirrored_boxes
from stages.contract import Compute, ImageTask, ReadImage, ReadMasks, image_attrs
from stages.features.crops import Crop, Extractor, extractor
from stages.features.objects import narrow
from stages.features.settings import RegionSettings
from stages.features.warp import DrawMask
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings
from stages.regions.image_regions import ImageRegions, Window

from .overlaps import large_enough

STAGE = "region_features"


@dataclass(frozen=True)
class MaskedCompute(Compute):
    """Crops of an image through the network, as they are or with all that lies outside a mask at the mean.

    ``made_of`` is what the rows depend on beside the image, kept as attributes.
    """

    on_device = True
    read_image: ReadImage
    read_masks: ReadMasks
    network: Network
    regions: RegionSettings
    network_settings: NetworkSettings
    device: str
    layer: str
    min_object_px: int
    made_of: Mapping[str, Any]

    def look(self, *, fg: bool) -> Extractor:
        """Move the network to the device, for foregrounds or for whole crops."""
        # What lies outside a region is at the mean, outside the image too.
        crop = Crop(self.regions.crop, self.regions.context_px, "mean" if fg else self.regions.padding)
        return extractor(self.network, [self.layer], crop, self.network_settings, self.device)

    def objects(self, record: ImageRecord) -> tuple[Boxes, NDArray[np.bool_]]:
        """Return the boxes, float32 [k, 4] px, and masks, bool [k, H, W], of the objects that have both."""
        masks = large_enough(self.read_masks(record), self.min_object_px)
        boxed = masks.rows >= 0
        return record.boxes[masks.rows[boxed]].astype(np.float32), masks.objects[boxed]

    def payload(self, record: ImageRecord, rows: NDArray[np.float32], **attrs: Any) -> Payload:
        """Make the object of an image's rows, [n, d]; StageError where they do not fit into the storage."""
        stored = narrow(rows, self.regions.storage, self.layer, record.file_name)
        return Payload({self.layer: stored}, {**self.made_of, **image_attrs(record, len(rows)), **attrs}, "zarr")


@dataclass(frozen=True)
class FgCompute(MaskedCompute):
    """One image's objects and regions to the features of their foregrounds."""

    store: Store
    max_regions: int | None

    @cached_property
    def extract(self) -> Extractor:
        """The extractor, on the device of this process."""
        return self.look(fg=True)

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.extract

    def __call__(self, task: ImageTask) -> Payload:
        """Compute the foregrounds' features; StageError naming the image where a box has no area."""
        record = task.image
        ((stage, key),) = task.reads.items()
        found = ImageRegions(self.store.get(stage, key).arrays, record.height, record.width)
        proposals = self.store.get(stage, key, ["boxes"]).arrays["boxes"][: self.max_regions]
        truth, objects = self.objects(record)
        boxes = np.concatenate([truth, proposals.reshape(-1, 4)]).astype(np.float32)
        with named(record):
            features = self.extract(self.read_image(record), boxes, drawing(objects, found))[self.layer]
        return self.payload(record, features, objects=len(objects))


@dataclass(frozen=True)
class MirroredCompute(MaskedCompute):
    """One image's objects to the features of their mirror images: of boxes, of foregrounds, or of both in a row."""

    features: str

    @cached_property
    def extractors(self) -> tuple[tuple[Extractor, bool], ...]:
        """What looks at a mirror image, on the device of this process, and whether at foregrounds alone."""
        kinds = {"full": (False,), "fg": (True,), "full_fg": (False, True)}[self.features]
        return tuple((self.look(fg=fg), fg) for fg in kinds)

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.extractors

    def __call__(self, task: ImageTask) -> Payload:
        """Compute the mirrored objects' features, in the boxes' order; StageError where a box has no area."""
        record = task.image
        boxes, objects = self.objects(record)
        pixels, flipped = np.ascontiguousarray(self.read_image(record)[:, ::-1]), objects[:, :, ::-1]
        boxes = mirrored_boxes(boxes, record.width)
        with named(record):
            parts = [
                extract(pixels, boxes, drawing(flipped) if fg else None)[self.layer] for extract, fg in self.extractors
            ]
        return self.payload(record, np.concatenate(parts, axis=1))


@contextmanager
def named(record: ImageRecord) -> Iterator[None]:
    """Put the image's name before a StageError of what is done inside."""
    try:
        yield
    except StageError as error:
        raise StageError(f"{record.file_name}: {error}") from error


def drawing(objects: NDArray[np.bool_], regions: ImageRegions | None = None) -> DrawMask:
    """Return what draws the masks of objects, bool [k, H, W], and after them of regions, if there are any."""

    def draw(row: int, window: Window) -> NDArray[np.bool_]:
        x1, y1, x2, y2 = window
        if regions is None or row < len(objects):
            return objects[row, y1:y2, x1:x2]
        return regions.mask(row - len(objects), window)

    return draw


def object_rows(record: ImageRecord, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of objects in the image's features, where crowds have none: int64 [k] of box rows -> int64 [k]."""
    found: NDArray[np.int64] = (np.cumsum(~record.crowd) - 1)[rows].astype(np.int64)
    return found
