"""Fast and Faster R-CNN on a new image: the shared map, regions, their classes and boxes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.detections.search import IMAGE_BYTES, ProposalSearch, Report
from stages.detections.suppression import ImageDetections

from .maps import MapPass
from .proposer import Proposer
from .scorer import RoiScorer

# Bytes that a trunk takes at its peak for a pixel of the resized image, beside its weights, and a sixth more. Measured
# at 600 x 1000 px in float32: VGG-16 520 (its first two maps of 64 channels), ZF-5 490, ResNet-50 265, the demo's 70.
_MAP_BYTES = 600


@dataclass(frozen=True)
class RpnSearch:
    """Proposals of another network's RPN: on a map of its own."""

    map_pass: MapPass
    proposer: Proposer

    def __call__(self, pixels: NDArray[np.uint8], digest: str) -> Boxes:
        """Return the proposals of uint8 [H, W, 3] RGB, best first: [n, 4]."""
        height, width = pixels.shape[:2]
        fmap = self.map_pass(pixels, "image")
        return self.proposer(fmap, self.map_pass.size_of(width, height), digest, training=False).boxes

    def pixels_searched(self, width: int, height: int) -> int:
        """See :class:`stages.detections.search.Search`: no method looks at the pixels."""
        return 0

    def bytes_needed(self, width: int, height: int) -> int:
        """See :class:`stages.detections.search.Search`."""
        size = self.map_pass.size_of(width, height)
        return size.width * size.height * _MAP_BYTES


@dataclass(frozen=True)
class SharedSearch:
    """Computes the map once; regions come from an RPN on it, or from whatever looks at the pixels."""

    map_pass: MapPass
    regions: Proposer | ProposalSearch | RpnSearch
    scorer: RoiScorer

    def __call__(self, pixels: NDArray[np.uint8], digest: str, report: Report) -> ImageDetections:
        """See :class:`stages.detections.search.Search`."""
        height, width = pixels.shape[:2]
        size = self.map_pass.size_of(width, height)
        own = isinstance(self.regions, Proposer)
        report("feature map")
        fmap = self.map_pass(pixels, "image") if own or not self.scorer.by_scale else None
        report("looking for regions")
        if isinstance(self.regions, Proposer):
            assert fmap is not None
            boxes = self.regions(fmap, size, digest, training=False).boxes
        else:
            boxes = self.regions(pixels, digest)
        report("scoring")
        if self.scorer.by_scale:
            return self.scorer.kept(self.scorer.candidates_at_scales(self.map_pass, pixels, boxes, "image"))
        assert fmap is not None
        return self.scorer(fmap, size, boxes, width, height)

    def pixels_searched(self, width: int, height: int) -> int:
        """See :class:`stages.detections.search.Search`: pixels that a proposal method looks at."""
        return 0 if isinstance(self.regions, Proposer) else self.regions.pixels_searched(width, height)

    def bytes_needed(self, width: int, height: int) -> int:
        """See :class:`stages.detections.search.Search`."""
        sizes = [self.map_pass.size_of(width, height), *self.scorer.sizes_of(width, height)]
        given = 0 if isinstance(self.regions, Proposer) else self.regions.bytes_needed(width, height)
        largest = max(size.width * size.height for size in sizes)
        return max(given, width * height * IMAGE_BYTES) + largest * _MAP_BYTES
