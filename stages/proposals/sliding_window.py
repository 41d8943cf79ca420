"""A dense pyramid of sliding windows, the baseline that region proposals replace (paper section 2)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from stages.boxes.geometry import Boxes

from .ranking import Rng, order_candidates

MAX_WINDOWS = 5_000_000


def sliding_windows(
    width: int,
    height: int,
    rng: Rng,
    *,
    scales_px: Sequence[float],
    aspects: Sequence[float],
    stride: float,
    min_side_px: int,
    max_proposals: int | None,
) -> Boxes:
    """Windows of every scale and aspect over a width x height image, and the whole image: float32 [n, 4].

    Windows lie on an even grid that reaches all four edges, in steps of at most ``stride`` of their side, corners
    rounded to pixels. They are ranked as selective search's regions are: by the rank of their area (largest first)
    times a random number, so that a cut at ``max_proposals`` keeps all scales and prefers the large ones.

    Raises:
        StageError: the pyramid would have more than five million windows.
    """
    shapes = [(s * math.sqrt(a), s / math.sqrt(a)) for s in scales_px for a in aspects]
    shapes = sorted({(w, h) for w, h in shapes if w <= width and h <= height}, key=lambda wh: -wh[0] * wh[1])
    total = sum(_steps(width, w, stride) * _steps(height, h, stride) for w, h in shapes)
    if total > MAX_WINDOWS:
        raise StageError(
            f"a {width} x {height} image would get {total} sliding windows, more than {MAX_WINDOWS}; "
            "use larger proposals.sliding_window.scales_px or stride"
        )
    boxes = [np.array([[0, 0, width, height]], np.int32)] + [_grid(width, height, w, h, stride) for w, h in shapes]
    priorities = np.concatenate([np.full(len(b), i + 1.0) for i, b in enumerate(boxes)])
    windows = np.concatenate(boxes)
    return windows[order_candidates(windows, priorities, rng, min_side_px, max_proposals)].astype(np.float32)


def _steps(extent: int, side: float, stride: float) -> int:
    return math.ceil((extent - side) / (stride * side)) + 1


def _grid(width: int, height: int, w: float, h: float, stride: float) -> NDArray[np.int32]:
    x, y = np.meshgrid(
        np.linspace(0, width - w, _steps(width, w, stride)), np.linspace(0, height - h, _steps(height, h, stride))
    )
    return np.rint(np.column_stack([x.ravel(), y.ravel(), x.ravel() + w, y.ravel() + h])).astype(np.int32)
