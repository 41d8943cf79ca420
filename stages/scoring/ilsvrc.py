"""Average precision as ILSVRC's devkit has it (eval_detection.m), of any dataset.

A detection takes the best object that none before has found, if it overlaps that object by the object's own limit:
0.5, and less for a small one, where a few pixels of the annotator's hand are much of it. Classes of single images that
the blacklist names are out: their objects are not to be found, and their detections are neither right nor wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord

from .objects import FlatDetections, Floats, GroundTruth, Ints
from .unfound import match_unfound
from .voc import area_ap, curve, mean_ap

MOST_IOU = 0.5
TOLERANCE_PX = 10  # by which a box may be larger than its object on either axis, both sides together


def least_ious(boxes: Floats) -> NDArray[np.float64]:
    """Return each object's least IoU: min(0.5, wh / ((w + 10)(h + 10))). [n, 4] px -> float64 [n].

    E.g. 0.25 for 10 x 10 px, 0.45 for 20 x 20, 0.5 from some 25 x 25 on.
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    limits: NDArray[np.float64] = np.minimum(
        MOST_IOU, width * height / ((width + TOLERANCE_PX) * (height + TOLERANCE_PX))
    )
    return limits


def unscored_pairs(images: Sequence[ImageRecord]) -> Ints:
    """List the images and classes that are not scored: int64 [k, 2] of an image's place in the list and a label."""
    pairs = [(place, label) for place, image in enumerate(images) for label in image.unscored]
    return np.array(pairs, np.int64).reshape(-1, 2)


def ilsvrc_scores(
    detections: FlatDetections, truth: GroundTruth, classes: Sequence[str], unscored: Ints
) -> dict[str, Any]:
    """Return mean, median and AP of each class (None: no object counts, so that it is in neither).

    Args:
        unscored: int64 [k, 2] as of :func:`unscored_pairs`.

    Difficult objects and crowd regions, which ILSVRC does not have, are ignored as by
    :func:`.unfound.match_unfound`.
    """
    out = unscored[:, 1] * truth.n_images + unscored[:, 0]
    found = detections.take(~np.isin(detections.labels * truth.n_images + detections.image, out))
    objects = truth.take(~np.isin(truth.labels * truth.n_images + truth.image, out))
    matches = match_unfound(found, objects, least_ious(objects.boxes))
    curves = [curve(found, matches, objects, label) for label in range(truth.n_classes)]
    each = [None if one is None else area_ap(one.recall, one.precision) for one in curves]
    scored = [ap for ap in each if ap is not None]
    median = float(np.median(scored)) if scored else None
    return {"mAP": mean_ap(each), "median": median, "AP": dict(zip(classes, each, strict=True))}
