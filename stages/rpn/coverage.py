"""Which objects the anchors reach before any training, and scales that would reach them (ours).

An object that no anchor overlaps well is hardly learned: of bccd's platelets, 39 px, the paper's anchors at 600 px have
none above an IoU of 0.5 for 99%. So the report says, per class, how many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .anchors import Anchors, Floats

REACHED_IOU = 0.5  # an anchor that overlaps an object by more reaches it
_STEPS_PER_OCTAVE = 2  # candidate scales: a half octave apart, some scale fits any square to an IoU of 0.7
_ENOUGH = 0.99  # of the objects that some scale reaches; the rest are outliers


@dataclass(frozen=True)
class AnchorCoverage:
    """What anchors reach. ``objects`` and ``missed`` int64 [N] count a class's objects, and those without an anchor.

    ``scales_px`` would reach nearly all objects (rising; empty where nothing is missed), and ``unreachable`` int64 [N]
    counts those that no scale reaches in the given ratios: they need other ratios, or a map with a smaller stride.
    """

    objects: NDArray[np.int64]
    missed: NDArray[np.int64]
    unreachable: NDArray[np.int64]
    scales_px: tuple[float, ...]


def coverage(
    objects: NDArray[Any],
    labels: NDArray[np.int64],
    best: NDArray[Any],
    n_classes: int,
    anchors: Anchors,
    stride: tuple[float, float],
) -> AnchorCoverage:
    """Count the objects without an anchor, and suggest scales.

    Args:
        objects: [m, 4] of all training images, px of the resized images.
        labels: Their classes, int64 [m].
        best: The largest IoU of each with an anchor that is trained on (``stages.boxes.assignment``), [m].
        anchors: Their ratios and rule are kept in the suggestion.
        stride: The map's in x and y, px.
    """
    sides = np.asarray(objects, np.float64).reshape(-1, 4)
    sides = sides[:, 2:] - sides[:, :2]
    missed = np.asarray(best) <= REACHED_IOU
    counts = np.bincount(labels, minlength=n_classes)
    candidates = _candidates(sides)
    reached = np.stack(
        [_reached(sides, anchors, scale, stride) for scale in candidates] or [np.zeros(len(sides), bool)]
    )
    scales = _cover(reached, 1.0 / counts[labels]) if missed.any() else []
    return AnchorCoverage(
        counts,
        np.bincount(labels[missed], minlength=n_classes),
        np.bincount(labels[missed & ~reached.any(axis=0)], minlength=n_classes),
        tuple(candidates[i] for i in scales),
    )


def _candidates(sides: Floats) -> list[float]:
    """Return whole scales a half octave apart, from below the smallest object's sqrt(area) to above the largest's."""
    own = np.sqrt(sides.prod(axis=1))
    own = own[own > 0]
    if not len(own):
        return []
    low, high = np.log2(own.min()), np.log2(own.max())
    steps = np.arange(np.floor(low * _STEPS_PER_OCTAVE), np.ceil(high * _STEPS_PER_OCTAVE) + 1) / _STEPS_PER_OCTAVE
    return [float(scale) for scale in np.unique(np.round(2.0**steps)) if scale > 0]


def _reached(sides: Floats, anchors: Anchors, scale: float, stride: tuple[float, float]) -> NDArray[np.bool_]:
    """Tell which objects [m, 2] an anchor of this scale overlaps by more than ``REACHED_IOU``, bool [m].

    Its centre is taken to be a quarter of a stride away in either direction, the mean over all places of an object. An
    image's edges, which forbid anchors near them, are not considered.
    """
    shapes = Anchors((scale,), anchors.ratios, anchors.rule).shapes()
    own = (shapes[:, 2:] - shapes[:, :2])[:, None]  # [ratios, 1, 2]
    apart = np.asarray(stride, np.float64) / 4
    shared = np.minimum(np.minimum(own, sides), ((own + sides) / 2 - apart).clip(0)).prod(axis=2)
    union = own.prod(axis=2) + sides.prod(axis=1) - shared
    found: NDArray[np.bool_] = (shared > REACHED_IOU * union).any(axis=0)
    return found


def _cover(reached: NDArray[np.bool_], weights: Floats) -> Sequence[int]:
    """Choose rows of ``reached`` [candidates, m] that together reach the objects: each time the one that adds most.

    Every class weighs the same, however many objects it has. Ends when nearly all of the reachable weight is reached.
    """
    left = reached.any(axis=0)
    enough = (1 - _ENOUGH) * weights[left].sum()
    chosen = []
    while left.any() and weights[left].sum() > enough:
        gains = reached[:, left] @ weights[left]
        chosen.append(int(gains.argmax()))
        left &= ~reached[chosen[-1]]
    return sorted(chosen)
