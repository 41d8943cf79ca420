"""The box transform of R-CNN's regressors: what moves a proposal onto an object (paper appendix C, equations 1-9).

Widths are ``x2 - x1`` of this project's exclusive-edge boxes. The authors' bbox_regression code takes
``x2 - x1 + eps`` of 1-based *inclusive* boxes, one pixel less than their boxes' true width (elsewhere they add the 1).
Deliberate difference: we use the true width. It makes the code exact for a proposal that already fits, agrees with
torchvision's ``BoxCoder``, and gives a one-pixel box a width of 1 and not of 2.2e-16; encoding and decoding share the
convention, so that for regions of 20 px and more what remains is a rescaling of the targets by under 5%.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .geometry import Boxes

# The largest growth that a prediction can ask for: a 16 px box becomes 1,000 px, torchvision's bound. The authors have
# none; it keeps exp() of a wild extrapolation finite and touches no sensible prediction.
MAX_LOG_SCALE = float(np.log(1000.0 / 16.0))


def _centres(boxes: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[n, 4] -> centres [n, 2] and (width, height) [n, 2], px, float64."""
    b = np.asarray(boxes, np.float64).reshape(-1, 4)
    extent = b[:, 2:] - b[:, :2]
    return b[:, :2] + 0.5 * extent, extent


def encode(boxes: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """The transform that takes each box to its target: two [n, 4] -> float64 [n, 4] of ``tx, ty, tw, th``.

    ``tx = (Gx - Px) / Pw`` and ``tw = log(Gw / Pw)``, likewise in y. ValueError where a box or target has no area.
    """
    centre, extent = _centres(boxes)
    target_centre, target_extent = _centres(targets)
    if (extent <= 0).any() or (target_extent <= 0).any():
        raise ValueError("encode: every box and every target must have a positive width and height")
    return np.concatenate([(target_centre - centre) / extent, np.log(target_extent / extent)], axis=1)


def decode(boxes: NDArray[Any], transforms: NDArray[Any]) -> Boxes:
    """Boxes moved by their transforms: [n, 4] px, [n, 4] of ``tx, ty, tw, th`` -> float32 [n, 4], not clipped.

    The inverse of :func:`encode`; ``tw`` and ``th`` are held below :data:`MAX_LOG_SCALE`.
    """
    centre, extent = _centres(boxes)
    t = np.asarray(transforms, np.float64).reshape(-1, 4)
    moved = centre + t[:, :2] * extent
    half = 0.5 * extent * np.exp(np.minimum(t[:, 2:], MAX_LOG_SCALE))
    return np.concatenate([moved - half, moved + half], axis=1).astype(np.float32)
