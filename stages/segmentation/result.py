"""Everything that segmentation's page and ``reports/segmentation.json`` tell: figures, and what made them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests import Dataset, ImageRecord

from .measures import Measures
from .settings import PasteSettings, RegionFeaturesSettings, SegmentEvaluateSettings, SvrSettings


@dataclass(frozen=True)
class Pasted:
    """A region of an image's map: its box (px), class, and score."""

    box: tuple[float, float, float, float]
    label: int
    score: float


@dataclass(frozen=True)
class ImageResult:
    """One test image: both maps, uint8 [H, W], the pasted regions, and its mean IoU (None: truth and result have no
    class but background)."""

    record: ImageRecord
    truth: NDArray[np.uint8]
    result: NDArray[np.uint8]
    regions: Sequence[Pasted]
    iou: float | None


@dataclass(frozen=True)
class Oracle:
    """Mean best mask IoU of the objects, over the classes and per class, among all regions or the first ones."""

    mean: float | None
    each: tuple[float | None, ...]


@dataclass(frozen=True)
class SegmentationFigures:
    """The figures of a run.

    Attributes:
        counts: int64 [N + 1, N + 1], the confusion of pixels.
        own: figures of the maps; background, boxes: of the two plain references on the same images.
        oracle_all, oracle_used: what the regions allow at most: of all proposals, and of those that take part.
        threshold: what stage ``paste`` tells of it.
        regions: used regions per image, on average.
        empty: images with no pasted region.
        all_void: images of which nothing is known.
        paste, features, svr: the parameters.
    """

    dataset: Dataset
    tested: Sequence[ImageRecord]
    counts: NDArray[np.int64]
    own: Measures
    background: Measures
    boxes: Measures
    oracle_all: Oracle
    oracle_used: Oracle
    threshold: Mapping[str, Any]
    regions: float
    empty: int
    all_void: int
    paste: PasteSettings
    features: RegionFeaturesSettings
    svr: SvrSettings

    @property
    def names(self) -> tuple[str, ...]:
        """Background, and the classes."""
        return ("background", *self.dataset.classes)

    @property
    def chosen(self) -> tuple[float, float]:
        """C and epsilon: those named, or of several those that were chosen."""
        found = self.threshold.get("chosen") or self.svr.pairs()[0]
        return float(found[0]), float(found[1])

    def document(self) -> dict[str, Any]:
        """Return ``reports/segmentation.json``: figures are parts of 1, null where there is nothing to measure."""
        absent = [name for name, value in zip(self.names, self.own.iou, strict=True) if value is None]
        return {
            "mean_iou": self.own.mean_iou,
            "iou": dict(zip(self.names, self.own.iou, strict=True)),
            "absent": absent,
            "pixel_accuracy": self.own.pixel_accuracy,
            "mean_class_accuracy": self.own.mean_class_accuracy,
            "oracle": {
                "all_regions": self.oracle_all.mean,
                "used_regions": self.oracle_used.mean,
                "used_by_class": dict(zip(self.dataset.classes, self.oracle_used.each, strict=True)),
            },
            "references": {"background": self.background.mean_iou, "filled_boxes": self.boxes.mean_iou},
            "images": len(self.tested),
            "images_without_regions": self.empty,
            "images_all_void": self.all_void,
            "features": self.features.features,
            "layer": self.features.layer,
            "regions_per_image": self.regions,
            "C": self.chosen[0],
            "epsilon": self.chosen[1],
            "threshold": self.threshold["threshold"],
            "threshold_from": self.paste.threshold if isinstance(self.paste.threshold, str) else "given",
            "threshold_goal": self.threshold["goal"],
            "confusion": self.counts.tolist(),
        }


@dataclass(frozen=True)
class SegmentationPage:
    """What the page shows beside the figures."""

    figures: SegmentationFigures
    images: Mapping[str, Sequence[ImageResult]]  # by heading
    pixels: Callable[[ImageRecord], Any]
    settings: SegmentEvaluateSettings
    parameters: Mapping[str, Any]
    digests: Mapping[str, str]
