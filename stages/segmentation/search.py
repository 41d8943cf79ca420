"""What segments one new image, apart from whose it is: regions, their features, scores, and the map pasted of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.detections.search import ProposalSearch, Report, features_in_parts
from stages.features.crops import Extractor
from stages.features.spp.extraction import SppExtractor
from stages.regions.image_regions import ImageRegions

from .paste import Ranked, distinct, paste, pasted
from .region_features import drawing
from .regressors import Regressors
from .settings import PasteSettings, RegionFeaturesSettings


@dataclass(frozen=True)
class SegmentedImage:
    """A map of classes, uint8 [H, W] (0 background, c + 1 class c), and the regions that it was pasted of.

    ``regions`` are best first; ``boxes`` float32 [k, 4] px and ``masks`` bool [k, H, W] are theirs.
    """

    labels: NDArray[np.uint8]
    regions: Ranked
    boxes: NDArray[np.float32]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class SegmentSearch:
    """Segments images as the pipeline did; safe to call from several threads at once."""

    proposals: ProposalSearch
    extract: Extractor | SppExtractor
    extract_fg: Extractor | SppExtractor  # of regions without their surroundings
    model: Regressors
    paste: PasteSettings
    regions: RegionFeaturesSettings
    threshold: float
    storage: str

    def __call__(self, pixels: NDArray[np.uint8], digest: str, report: Report) -> SegmentedImage:
        """Segment uint8 [H, W, 3] RGB; ``digest`` (hex) stands for the image where something is drawn."""
        height, width = pixels.shape[:2]
        report("looking for regions")
        arrays = self.proposals.arrays(pixels, digest)
        found = ImageRegions(arrays, height, width)
        rows = self._rows(pixels, arrays["boxes"][: self.regions.max_regions], found, report)
        report("pasting")
        least = min(self.threshold, self.paste.least)
        every = self.model.ranked(rows, self.paste.rank_regions)
        n_classes = len(self.model.classes)
        order = distinct(every, least, self.paste, found.mask, (self.threshold, n_classes))
        kept = pasted(order, self.threshold, self.paste, n_classes)
        masks = np.zeros((len(kept.regions), height, width), bool)
        for i, region in enumerate(kept.regions.tolist()):
            masks[i] = found.mask(region)
        of_region = dict(zip(kept.regions.tolist(), masks, strict=True))
        return SegmentedImage(
            paste(kept, of_region.__getitem__, (height, width)), kept, arrays["boxes"][kept.regions], masks
        )

    def _rows(
        self, pixels: NDArray[np.uint8], boxes: NDArray[np.float32], found: ImageRegions, report: Report
    ) -> NDArray[Any]:
        """The regions' features, as :func:`.rows.read_rows` gives them of a cached image."""
        parts, layer = [], self.regions.layer
        if self.regions.features != "fg":
            parts.append(features_in_parts(self.extract, pixels, boxes, self.storage, report)[layer])
        if self.regions.features != "full":
            none = np.zeros((0, *pixels.shape[:2]), bool)
            draw = drawing(none, found)
            parts.append(features_in_parts(self.extract_fg, pixels, boxes, self.storage, report, draw)[layer])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def above(self, threshold: float | None) -> "SegmentSearch":
        """The same with another threshold; None: with its own."""
        return self if threshold is None else replace(self, threshold=threshold)
