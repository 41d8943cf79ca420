"""What is known of a region: the cached features of its box, and those of its foreground (paper section 5).

``full`` ignores the region's shape: the rows that stage ``features`` has stored, of ground truth and proposals. ``fg``
sees the same crop with every pixel outside the region at the mean, context too. Rows of both, for an image: its
objects that have a box and a mask, in the boxes' order, then its proposals, best first. Of training images' objects
there may be those of their mirror images as well, in objects of their own (``region_features.mirror_truth``, O2P).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Payload, Store
from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import mirrored_boxes
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
class FgCompute(Compute):
    """One image's objects and regions to the features of their foregrounds."""

    on_device = True
    store: Store
    read_image: ReadImage
    read_masks: ReadMasks
    network: Network
    regions: RegionSettings
    network_settings: NetworkSettings
    device: str
    layer: str
    max_regions: int | None
    min_object_px: int
    made_of: Mapping[str, Any]

    @cached_property
    def extract(self) -> Extractor:
        """The extractor, on the device of this process."""
        crop = Crop(self.regions.crop, self.regions.context_px)
        return extractor(self.network, [self.layer], crop, self.network_settings, self.device)

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.extract

    def __call__(self, task: ImageTask) -> Payload:
        """The features of the image's foregrounds."""
        record = task.image
        ((stage, key),) = task.reads.items()
        found = ImageRegions(self.store.get(stage, key).arrays, record.height, record.width)
        proposals = self.store.get(stage, key, ["boxes"]).arrays["boxes"][: self.max_regions]
        masks = large_enough(self.read_masks(record), self.min_object_px)
        boxed = masks.rows >= 0
        boxes = np.concatenate([record.boxes[masks.rows[boxed]], proposals.reshape(-1, 4)]).astype(np.float32)
        try:
            features = self.extract(self.read_image(record), boxes, drawing(masks.objects[boxed], found))[self.layer]
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        stored = narrow(features, self.regions.storage, self.layer, record.file_name)
        attrs = {**self.made_of, **image_attrs(record, len(boxes)), "objects": int(boxed.sum())}
        return Payload({self.layer: stored}, attrs, "zarr")


@dataclass(frozen=True)
class MirroredCompute(Compute):
    """One image's objects to the features of their mirror images: of boxes, of foregrounds, or of both in a row."""

    on_device = True
    read_image: ReadImage
    read_masks: ReadMasks
    network: Network
    regions: RegionSettings
    network_settings: NetworkSettings
    device: str
    layer: str
    features: str
    min_object_px: int
    made_of: Mapping[str, Any]

    @cached_property
    def extractors(self) -> tuple[tuple[Extractor, bool], ...]:
        """What looks at a mirror image, on the device of this process, and whether at foregrounds alone."""
        kinds = {"full": (False,), "fg": (True,), "full_fg": (False, True)}[self.features]
        crops = (
            Crop(self.regions.crop, self.regions.context_px, "mean" if fg else self.regions.padding) for fg in kinds
        )
        made = (extractor(self.network, [self.layer], crop, self.network_settings, self.device) for crop in crops)
        return tuple(zip(made, kinds, strict=True))

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.extractors

    def __call__(self, task: ImageTask) -> Payload:
        """The features of the image's objects in its mirror image, in the boxes' order."""
        record = task.image
        masks = large_enough(self.read_masks(record), self.min_object_px)
        boxed = masks.rows >= 0
        boxes = mirrored_boxes(record.boxes[masks.rows[boxed]], record.width)
        objects = masks.objects[boxed][:, :, ::-1]
        pixels = np.ascontiguousarray(self.read_image(record)[:, ::-1])

        def draw(row: int, window: Window) -> NDArray[np.bool_]:
            x1, y1, x2, y2 = window
            return objects[row, y1:y2, x1:x2]

        try:
            parts = [extract(pixels, boxes, draw if fg else None)[self.layer] for extract, fg in self.extractors]
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        stored = narrow(np.concatenate(parts, axis=1), self.regions.storage, self.layer, record.file_name)
        return Payload({self.layer: stored}, {**self.made_of, **image_attrs(record, len(boxes))}, "zarr")


def drawing(objects: NDArray[np.bool_], regions: ImageRegions) -> DrawMask:
    """Return what draws the masks of objects, bool [k, H, W], and after them of an image's regions."""

    def draw(row: int, window: Window) -> NDArray[np.bool_]:
        x1, y1, x2, y2 = window
        return objects[row, y1:y2, x1:x2] if row < len(objects) else regions.mask(row - len(objects), window)

    return draw


def object_rows(record: ImageRecord, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of objects in the image's features, where crowds have none: int64 [k] of box rows -> int64 [k]."""
    found: NDArray[np.int64] = (np.cumsum(~record.crowd) - 1)[rows].astype(np.int64)
    return found
