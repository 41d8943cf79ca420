"""Cropping and warping 2,000 regions for a 227 px network, one thread, beside ``cv2.warpAffine`` per region.

Both sides start at the decoded uint8 image and end at float32 crops with the mean subtracted, missing pixels 0, in the
same channels-last batch buffer. The peer is given where each region comes from and goes to. Its sampling is the same
(half-pixel centres, the region's edges repeated), and the crops are compared; uint8 crops, which would still have to
be converted, are timed too.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

import cv2
import numpy as np

from benchmarks import harness
from benchmarks.harness import Figure, median_ratio, take_turns
from stages.features.warp import placements, warp_regions
from stages.networks.spec import InputSpec

REGIONS = 2000
BATCH = 100
CONTEXT_PX = 16
SPEC = InputSpec(227, "bgr", 255.0, (104.0, 117.0, 123.0))


def picture() -> Any:
    """A photograph 500 px wide, or smooth noise where there is none: uint8 [H, W, 3] RGB."""
    folder = harness.photographs()
    if folder is None:
        small = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
        return cv2.resize(small, (500, 400), interpolation=cv2.INTER_CUBIC)
    bgr = harness.read_bgr(min((folder / "images").iterdir()))
    return cv2.cvtColor(cv2.resize(bgr, (500, bgr.shape[0] * 500 // bgr.shape[1])), cv2.COLOR_BGR2RGB)


def regions(height: int, width: int) -> Any:
    """Boxes with sides from 20 px to the image's, most of them small, as selective search finds: float32 [2000, 4]."""
    rng = np.random.default_rng(1)
    sides = np.exp(rng.uniform(np.log(20), np.log([width, height]), (REGIONS, 2)))
    corner = rng.uniform(0, 1, (REGIONS, 2)) * ([width, height] - sides)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


class Peer:
    """warpAffine of each region's part of the image."""

    def __init__(self, image: Any, boxes: Any) -> None:
        self._image = image
        height, width = image.shape[:2]
        placed = placements(boxes, width, height, SPEC.side_px, mode="warp", context_px=CONTEXT_PX)
        self._placed = list(zip(*(p.tolist() for p in placed), strict=True))

    def float32(self, out: Any) -> None:
        """The mean subtracted once, then every region."""
        pixels = self._image[..., ::-1].astype(np.float32) - np.asarray(SPEC.mean, np.float32)
        for i, (source, target) in enumerate(self._placed):
            crop = out[i % len(out)]
            x1, y1, x2, y2 = target
            crop[:y1], crop[y2:], crop[y1:y2, :x1], crop[y1:y2, x2:] = 0, 0, 0, 0
            self._warp(pixels, source, target, crop[y1:y2, x1:x2])

    def uint8(self) -> None:
        """Every region as bytes, without the mean and without filling what is missing."""
        pixels = np.ascontiguousarray(self._image[..., ::-1])
        for source, target in self._placed:
            self._warp(pixels, source, target, None)

    @staticmethod
    def _warp(pixels: Any, source: list[int], target: list[int], inside: Any) -> None:
        w, h = target[2] - target[0], target[3] - target[1]
        part = pixels[source[1] : source[3], source[0] : source[2]]
        x, y = (source[2] - source[0]) / w, (source[3] - source[1]) / h
        matrix = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(part, matrix, (w, h), dst=inside, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def figures(device: str) -> Iterator[Figure]:
    """One figure; the device makes no difference."""
    cv2.setNumThreads(1)
    image = picture()
    boxes = regions(*image.shape[:2])
    peer = Peer(image, boxes)
    own, other = (np.zeros((BATCH, SPEC.side_px, SPEC.side_px, 3), np.float32) for _ in range(2))

    def ours() -> None:
        for begin in range(0, REGIONS, BATCH):
            part = boxes[begin : begin + BATCH]
            warp_regions(image, part, SPEC, context_px=CONTEXT_PX, out=own.transpose(0, 3, 1, 2))

    float32, uint8, taken = take_turns(lambda: peer.float32(other), peer.uint8, ours)
    apart = np.abs(own - other)  # of the last batch
    # OpenCV before 5 rounds where it samples to 1/32 px
    if apart.max() > 2 or apart.mean() > 0.05:
        raise AssertionError(f"the crops differ by up to {apart.max():.2f} levels, {apart.mean():.3f} on average")
    yield Figure(
        f"cropping and warping {REGIONS:,} regions, 227 px, CPU, one thread",
        f"{median(taken):.3f} s",
        f"cv2.warpAffine per region: {median(float32):.3f} s float32",
        median_ratio(float32, taken),
        2,
        f"crops differ by {apart.mean():.1e} of 255 levels on average, at most {apart.max():.1e}; warpAffine on bytes, "
        f"before conversion: {median(uint8):.3f} s, {median_ratio(uint8, taken):.2f}x",
    )


if __name__ == "__main__":
    harness.main(figures)
