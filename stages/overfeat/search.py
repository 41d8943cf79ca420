"""OverFeat's detector on a new image: maps at every scale, windows scored and regressed, boxes merged."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.dense.maps import DenseMapPass
from stages.dense.scales import scaled_px
from stages.detections.search import IMAGE_BYTES, Report
from stages.detections.suppression import ImageDetections

from .combining import combined, entering, suppressed_windows
from .scorer import WindowScorer
from .settings import MergeSettings

# Bytes for a pixel of the image at its largest scale, and for one at each scale. Measured at six scales in float32, in
# all for a pixel of the largest: vgg16 530, overfeat_fast 490, overfeat_accurate 400, squeezenet1_0 180. Of smaller
# scales only the maps are kept, at most 2 values a pixel, as stored and pooled.
_LARGEST_BYTES, _KEPT_BYTES = 600, 20


@dataclass(frozen=True)
class DenseSearch:
    """Computes an image's maps and slides the detector over them; see :class:`stages.detections.search.Search`.

    ``settings`` are those by which the pipeline merged, with the ``t`` that it found.
    """

    map_pass: DenseMapPass
    scales_px: tuple[int, ...]
    scorer: WindowScorer
    settings: MergeSettings

    def __call__(self, pixels: NDArray[np.uint8], digest: str, report: Report) -> ImageDetections:
        """See :class:`stages.detections.search.Search`: nothing is drawn, whatever the digest."""
        height, width = pixels.shape[:2]
        maps = {}
        for done, scale in enumerate(self.scales_px):
            report("feature maps", done, len(self.scales_px))
            maps[scale] = self.map_pass(pixels, scale, "image")
        report("scoring windows")
        windows = self.scorer(maps, width, height, "image")
        report("merging boxes")
        found = entering(windows, self.settings, width, height)
        return ImageDetections(combined(found, self.settings).bbox, suppressed_windows(found, self.settings.nms_iou))

    def pixels_searched(self, width: int, height: int) -> int:
        """See :class:`stages.detections.search.Search`: no method looks at the pixels."""
        return 0

    def bytes_needed(self, width: int, height: int) -> int:
        """See :class:`stages.detections.search.Search`."""
        sizes = [scaled_px(width, height, scale, self.scorer.windows) for scale in self.scales_px]
        pixels = [scaled_width * scaled_height for scaled_width, scaled_height in sizes]
        return width * height * IMAGE_BYTES + max(pixels) * _LARGEST_BYTES + sum(pixels) * _KEPT_BYTES
