"""What finds the objects of one new image, apart from whose it is: R-CNN's and SPP-net's way, region by region."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.bbox.regressor import BoxRegressor
from stages.boxes.geometry import Boxes
from stages.features.crops import Extractor
from stages.features.objects import narrow
from stages.features.spp.extraction import SppExtractor
from stages.features.warp import DrawMask, masks_from
from stages.proposals.methods import NEEDS_PIXELS, proposals_of
from stages.proposals.ranking import working_size
from stages.proposals.settings import ProposalsSettings
from stages.svm.classifier import Classifier

from .candidates import candidates_of
from .settings import DetectSettings
from .suppression import ImageDetections, suppressed

# Bytes a pixel. Measured: selective search takes 74 beside its label maps, 4 each; decoding and drawing take the rest.
_SEARCH_BYTES, IMAGE_BYTES = 80, 20
_REGIONS_AT_ONCE = 512


class Report(Protocol):
    """What a detector tells while it works: the part that begins and, within one, how much of it is done."""

    def __call__(self, part: str, done: int = 0, total: int = 0) -> None: ...


def tell_nobody(part: str, done: int = 0, total: int = 0) -> None:
    """Say nothing: the :class:`Report` of who asked for none."""


class Search(Protocol):
    """Finds the objects of an image; safe to call from several threads at once."""

    def __call__(self, pixels: NDArray[np.uint8], digest: str, report: Report) -> ImageDetections:
        """Search uint8 [H, W, 3] RGB; ``digest`` (hex) stands for the image where something is drawn."""

    def pixels_searched(self, width: int, height: int) -> int:
        """How many pixels regions are looked for in, of an image of this size; 0 where the method needs none."""

    def bytes_needed(self, width: int, height: int) -> int:
        """Memory that an image of this size takes while it is worked on, beside the network; measured, rounded up."""


@dataclass(frozen=True)
class ProposalSearch:
    """Proposals of the image, by the method that the dataset's were made by."""

    settings: ProposalsSettings
    seed: int

    def __call__(self, pixels: NDArray[np.uint8], digest: str) -> Boxes:
        """Return the proposals of uint8 [H, W, 3] RGB, best first: [n, 4]."""
        boxes: Boxes = self.arrays(pixels, digest)["boxes"]
        return boxes

    def arrays(self, pixels: NDArray[np.uint8], digest: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of a proposals object, the boxes and what :mod:`stages.regions.masks` reads."""
        height, width = pixels.shape[:2]
        given = pixels if self.settings.method in NEEDS_PIXELS else None
        return proposals_of(new_record(width, height, digest), given, self.settings, self.seed, None)[0]

    def pixels_searched(self, width: int, height: int) -> int:
        """See :class:`Search`."""
        searched_width, searched_height = working_size(width, height, self.settings.resize_width_px)
        return searched_width * searched_height if self.settings.method in NEEDS_PIXELS else 0

    def bytes_needed(self, width: int, height: int) -> int:
        """See :class:`Search`."""
        label_maps = len(self.settings.k) * len(self.settings.colors)
        return self.pixels_searched(width, height) * (_SEARCH_BYTES + 4 * label_maps) + width * height * IMAGE_BYTES


@dataclass(frozen=True)
class RegionSearch:
    """R-CNN and SPP-net: features of every region, SVMs, box regression.

    The regions' features come on top of :meth:`bytes_needed`: as many numbers as ``features.layers`` have, in
    ``storage``.
    """

    proposals: ProposalSearch
    extract: Extractor | SppExtractor
    classifier: Classifier
    regressor: BoxRegressor
    settings: DetectSettings
    storage: str

    def __call__(self, pixels: NDArray[np.uint8], digest: str, report: Report) -> ImageDetections:
        """See :class:`Search`."""
        height, width = pixels.shape[:2]
        report("looking for regions")
        boxes = self.proposals(pixels, digest)
        stored = features_in_parts(self.extract, pixels, boxes, self.storage, report)
        report("scoring")
        scored = candidates_of(stored, boxes, self.classifier, self.regressor, width, height, self.settings)
        return suppressed(scored, self.settings.nms_iou)

    def pixels_searched(self, width: int, height: int) -> int:
        """See :class:`Search`."""
        return self.proposals.pixels_searched(width, height)

    def bytes_needed(self, width: int, height: int) -> int:
        """See :class:`Search`."""
        return self.proposals.bytes_needed(width, height)


def features_in_parts(
    extract: Extractor | SppExtractor,
    pixels: NDArray[np.uint8],
    boxes: Boxes,
    storage: str,
    report: Report,
    masks: DrawMask | None = None,
) -> dict[str, NDArray[Any]]:
    """[n, d] per layer, rounded as the store rounds them, so that a cached image and a new one score the same.

    Some hundred regions at a time are held in the network's own precision, where their bits allow it. ``masks``: of
    crops whose background is at the mean, which an ``Extractor`` alone makes.
    """
    at_once = max(1, len(boxes))  # SPP pools all regions from one pass over the image
    if isinstance(extract, Extractor):  # whole batches
        at_once = extract.batch * -(-_REGIONS_AT_ONCE // extract.batch)
    parts: list[dict[str, NDArray[Any]]] = []
    for start in range(0, max(1, len(boxes)), at_once):
        report("features", start, len(boxes))
        few = boxes[start : start + at_once]
        if masks is not None and isinstance(extract, Extractor):
            features = extract(pixels, few, masks_from(masks, start))
        else:
            features = extract(pixels, few)
        parts.append({name: narrow(f, storage, name, "image") for name, f in features.items()})
    return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def new_record(width: int, height: int, digest: str) -> ImageRecord:
    """A record without objects, for the functions that a dataset's images go through."""
    return ImageRecord(
        id=0,
        file_name="image",
        width=width,
        height=height,
        sha256=digest,
        split="new",
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        difficult=np.zeros(0, bool),
        truncated=np.zeros(0, bool),
    )
