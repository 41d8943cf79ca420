"""One image's feature object: which rows it has, what it holds, how it is computed, and what its key names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Payload, Store, digest_array
from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import BOX_CONVENTION, CROWD_COVER, Boxes, class_overlaps, cover
from stages.contract import Compute, ImageTask, ReadImage, image_attrs
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings

from .crops import Extractor
from .method import extractor_of
from .settings import FeaturesSettings
from .spp.extraction import SppExtractor

_ORDER = "channel, row, column; after the ReLU; unscaled"
_PYRAMID_ORDER = "pool5: levels in their order, in each channel, row, column; after the ReLU; unscaled"


@dataclass(frozen=True)
class Regions:
    """An image's rows, ground truth first: boxes float32 [n, 4], is_gt bool [n], gt_class int64 [n] (-1 for
    proposals), difficult bool [n], overlaps float32 [n, N] (:func:`regions_of`)."""

    boxes: Boxes
    is_gt: NDArray[np.bool_]
    gt_class: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    overlaps: NDArray[np.float32]


def regions_of(record: ImageRecord, proposals: NDArray[Any], n_classes: int) -> Regions:
    """Ground truth (difficult objects included, crowds not), then proposals [m, 4], best first.

    ``overlaps`` is the IoU with the best object of each class, but for crowds; difficult objects count like any other
    (the authors' imdb/roidb_from_voc.m). A proposal that lies in a COCO crowd region of a class may well
    show objects of it, so that it must not become a negative: its overlap is then the part of it inside the crowd
    region. VOC has none.
    """
    single = ~record.crowd
    gt = record.boxes[single].astype(np.float32)
    proposals = np.asarray(proposals, np.float32).reshape(-1, 4)
    boxes = np.concatenate([gt, proposals])
    none = len(proposals)
    overlaps = class_overlaps(boxes, gt, record.labels[single], n_classes)
    for j in np.unique(record.labels[record.crowd]):
        inside = cover(proposals, record.boxes[record.crowd & (record.labels == j)])
        crowded = np.where(inside > CROWD_COVER, inside, 0).astype(np.float32)
        overlaps[len(gt) :, j] = np.maximum(overlaps[len(gt) :, j], crowded)
    return Regions(
        boxes,
        np.arange(len(boxes)) < len(gt),
        np.concatenate([record.labels[single].astype(np.int64), np.full(none, -1, np.int64)]),
        np.concatenate([record.difficult[single], np.zeros(none, np.bool_)]),
        overlaps,
    )


def ground_truth_digest(record: ImageRecord) -> str:
    """sha256 of what the object holds of the annotations: boxes, labels, difficult flags, and crowds if there are."""
    single, crowd = ~record.crowd, record.crowd
    crowds = (record.boxes[crowd], record.labels[crowd]) if crowd.any() else ()
    return digest_array(record.boxes[single], record.labels[single], record.difficult[single], *crowds)


def narrow(features: NDArray[np.float32], storage: str, layer: str, image: str) -> NDArray[Any]:
    """float32 [n, d] in the storage's precision; ``StageError`` where a value is not finite or would not be."""
    with np.errstate(over="ignore"):
        stored: NDArray[Any] = features.astype(storage)
    bad = ~np.isfinite(stored)
    if bad.any():
        row, unit = (int(v) for v in np.argwhere(bad)[0])
        value = float(features[row, unit])
        why = "does not fit float16 (largest 65504); set features.storage to float32 or"
        raise StageError(
            f"{image}: {layer} unit {unit} of region {row} is {value:g}, which "
            f"{why if np.isfinite(value) else 'is not a number; network.weights or network.input are wrong:'} "
            "check network.input (colour order, range, mean) against what the weights expect"
        )
    return stored


def payload(
    record: ImageRecord,
    regions: Regions,
    features: Mapping[str, NDArray[np.float32]],
    storage: str,
    made_of: Mapping[str, Any],
) -> Payload:
    """The stored form: one array per layer beside the rows' boxes and overlaps, with attributes that explain them."""
    layers = {name: narrow(values, storage, name, record.file_name) for name, values in features.items()}
    rows = {
        "boxes": regions.boxes,
        "is_gt": regions.is_gt,
        "gt_class": regions.gt_class,
        "difficult": regions.difficult,
        "overlaps": regions.overlaps,
    }
    attrs = {
        **made_of,
        **image_attrs(record, len(regions.boxes)),
        "box_convention": BOX_CONVENTION,
        "rows": "ground truth first, then proposals, best first",
        "ground_truth_count": int(regions.is_gt.sum()),
        "layers": {name: int(values.shape[1]) for name, values in layers.items()},
        "feature_order": _PYRAMID_ORDER if made_of.get("method") == "spp" else _ORDER,
    }
    return Payload({**rows, **layers}, attrs, "zarr")


@dataclass(frozen=True)
class FeaturesCompute(Compute):
    """One image's regions to their features. The extractor is made where it computes: the device is known there."""

    on_device = True
    store: Store
    read_image: ReadImage
    network: Network
    settings: FeaturesSettings
    network_settings: NetworkSettings
    device: str
    n_classes: int
    made_of: Mapping[str, Any]

    @cached_property
    def extract(self) -> Extractor | SppExtractor:
        """The extractor, on the device of this process."""
        return extractor_of(self.network, self.made_of["layers"], self.settings, self.network_settings, self.device)

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.extract

    def __call__(self, task: ImageTask) -> Payload:
        """The features of the image's ground truth and proposals."""
        record = task.image
        proposals = np.zeros((0, 4), np.float32)  # of an image whose objects alone are used
        for stage, key in task.reads.items():
            proposals = self.store.get(stage, key, ["boxes"]).arrays["boxes"]
        regions = regions_of(record, proposals, self.n_classes)
        try:
            features = self.extract(self.read_image(record), regions.boxes)
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        return payload(record, regions, features, self.settings.storage, self.made_of)
