"""What selective search will cost on the pictures at hand, before it is paid."""

from collections.abc import Iterator, Sequence

import numpy as np

from manifests import ImageRecord

from .settings import ProposalsSettings

# [M] The authors' fast mode: boxes and seconds of one thread at 500 x 375 px, and how they grow with the pixels: at
# 640 x 480 px 3,494 boxes and 0.4 s, at 1280 x 960 12,600 and 3 s, at 4000 x 3000 109,000 and 76 s.
_BOXES, _BOXES_GROW = 2_400, 0.9
_SECONDS, _SECONDS_GROW = 0.2, 1.4
_LARGE_PX = 1_000  # width from which a picture is large
_SHARE = 0.1  # of all boxes: where large pictures have as many, the user is told
_WIDTH_PX = 500  # the authors' for ILSVRC


def large_pictures(images: Sequence[ImageRecord], settings: ProposalsSettings) -> Iterator[str]:
    """Say what ``resize_width_px`` would save where large pictures cost much; nothing where it is set or none do.

    Figures are of the picture of the large ones' median width and height, and rough: what a picture shows makes half or
    twice as many.
    """
    large = costly_pictures(images)
    if settings.method != "selective_search" or settings.resize_width_px is not None or not large:
        return
    width = float(np.median([image.width for image in large]))
    height = float(np.median([image.height for image in large]))
    boxes, seconds = _cost(width, height)
    fewer, sooner = _cost(_WIDTH_PX, height * _WIDTH_PX / width)
    yield (
        f"{len(large)} of the {len(images)} pictures are more than {_LARGE_PX:,} px wide: selective search finds about "
        f"{boxes:,.0f} boxes in one of {width:.0f} x {height:.0f} px, in {seconds:.2g} s of one thread, and each costs "
        f"its features; with proposals.resize_width_px: {_WIDTH_PX}, as the authors have it for ILSVRC, about "
        f"{fewer:,.0f} boxes in {sooner:.2g} s"
    )


def costly_pictures(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return the large pictures, where at their own size they have a tenth of all boxes or more; else none."""
    large = [image for image in images if image.width > _LARGE_PX]
    theirs, everyone = (sum(_cost(image.width, image.height)[0] for image in part) for part in (large, images))
    return large if theirs >= _SHARE * everyone else []


def _cost(width: float, height: float) -> tuple[float, float]:
    """Estimate boxes (to two digits) and seconds of a picture of so many pixels."""
    times = width * height / (500 * 375)
    return float(f"{_BOXES * times**_BOXES_GROW:.2g}"), _SECONDS * times**_SECONDS_GROW
