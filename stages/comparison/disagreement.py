"""The test images on which detectors disagree most.

Of each detector the detections are taken that a user would keep: those that score at least what balances precision and
recall best for their class. They have an F1 on every image, and detectors disagree on an image by the difference
between the largest and the smallest F1 there.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.scoring.matching import Matches
from stages.scoring.objects import Bools, FlatDetections, GroundTruth, Ints


def worth_keeping(detections: FlatDetections, shown_from: Mapping[str, float], classes: Sequence[str]) -> Bools:
    """Tell which detections score at least their class's operating point: bool [m]; a class without one keeps none."""
    least = np.array([shown_from.get(name, np.inf) for name in classes])
    kept: Bools = detections.scores >= least[detections.labels]
    return kept


def image_f1(detections: FlatDetections, matches: Matches, truth: GroundTruth, kept: Bools) -> NDArray[np.float64]:
    """Return the F1 of the ``kept`` detections (bool [m]) on each image: float64 [n_images] in [0, 1].

    ``2 right / (kept + objects)`` over all classes; difficult and crowd objects, and detections that hit them, do not
    count. An image on which there is nothing to find, and nothing was found, has 1.
    """

    def per_image(images: Ints) -> Ints:
        return np.bincount(images, minlength=truth.n_images)

    right = per_image(detections.image[kept & matches.right])
    shown = per_image(detections.image[kept & ~matches.ignored])
    objects = per_image(truth.image[~truth.ignored])
    total = shown + objects
    f1: NDArray[np.float64] = np.divide(2.0 * right, total, out=np.ones(truth.n_images), where=total > 0)
    return f1


def most_disputed(f1: NDArray[np.float64], image_ids: Sequence[int], limit: int) -> list[int]:
    """Return the indices of up to ``limit`` images, the largest disagreement first; of equals the smallest id.

    Args:
        f1: float64 [detectors, n_images].
    """
    apart = disagreement(f1)
    return sorted(range(len(image_ids)), key=lambda i: (-apart[i], image_ids[i]))[:limit]


def disagreement(f1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest F1 less the smallest on each image: [detectors, n_images] -> [n_images]."""
    # rounded: equal differences of unequal fractions are equal
    apart: NDArray[np.float64] = np.round(f1.max(axis=0) - f1.min(axis=0), 12)
    return apart
