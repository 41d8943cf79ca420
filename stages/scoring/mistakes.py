"""Kinds of mistakes that the false positives are (paper section 3.4 and figure 5, after Hoiem et al., ECCV 2012)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import paired_iou

from .matching import Matches, pairs_by_group
from .objects import Bools, FlatDetections, GroundTruth, Ints

# Less overlap than this with an object is an accident: the detection fired on background.
MIN_CONTACT = 0.1
# Detections looked at, in multiples of the number of objects of the class.
RANK_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


class Verdict(IntEnum):
    """Verdict on a detection. False positives are told apart in the order of the paper's definitions."""

    RIGHT = 0
    LOCALISATION = 1  # IoU with an object of its class of at least 0.1 but too little, or a duplicate
    SIMILAR = 2  # IoU of at least 0.1 with an object of a similar class
    OTHER = 3  # ... of a dissimilar class
    BACKGROUND = 4  # nothing there
    IGNORED = 5  # found a difficult object


def similarity(classes: Sequence[str], sets: Sequence[Sequence[str]]) -> Bools:
    """Tell which two different classes share one of the sets: bool [N, N]."""
    similar = np.zeros((len(classes), len(classes)), bool)
    for names in sets:
        members = [j for j, name in enumerate(classes) if name in names]
        similar[np.ix_(members, members)] = True
    np.fill_diagonal(similar, False)
    return similar


@dataclass(frozen=True)
class Diagnosis:
    """The ``verdict`` on each detection, int64 [m] (:class:`Verdict`), and the class ``confused`` with it, or -1."""

    verdict: Ints
    confused: Ints


def diagnose(detections: FlatDetections, matches: Matches, truth: GroundTruth, similar: Bools) -> Diagnosis:
    """Sort every detection into :class:`Verdict`; objects of all kinds, difficult too, can be what was hit."""
    verdict = np.full(len(detections), int(Verdict.BACKGROUND))
    confused = np.full(len(detections), -1)
    other = ~similar & ~np.eye(len(similar), dtype=bool)
    (overlap_similar, near_similar), (overlap_other, near_other) = contacts(detections, truth, (similar, other))
    class_similar, class_other = (
        np.where(near >= 0, truth.labels[near], -1) if len(truth.labels) else near
        for near in (near_similar, near_other)
    )
    for kind, overlap, labels in (
        (Verdict.OTHER, overlap_other, class_other),
        (Verdict.SIMILAR, overlap_similar, class_similar),
        (Verdict.LOCALISATION, matches.overlap, np.full(len(detections), -1)),
    ):
        hit = overlap >= MIN_CONTACT
        verdict[hit], confused[hit] = int(kind), labels[hit]
    for kind, which in ((Verdict.RIGHT, matches.right), (Verdict.IGNORED, matches.ignored)):
        verdict[which], confused[which] = int(kind), -1
    return Diagnosis(verdict, confused)


def contacts(
    detections: FlatDetections, truth: GroundTruth, among: Sequence[Bools]
) -> list[tuple[NDArray[np.float64], Ints]]:
    """Find each detection's largest IoU with an object of certain classes, and that object.

    Args:
        among: bool [N, N] each: of which classes the objects are, by the detection's.

    Returns:
        Of each of these float64 [m], int64 [m], the first of equals; 0 and -1 where there is no object in the image, or
        no class to look at. Where the IoU is 0 the object means nothing.
    """
    found = [(np.zeros(len(detections)), np.full(len(detections), -1)) for _ in among]
    for pairs in pairs_by_group(detections.image, truth.image):
        rows = pairs.rows[pairs.owner]
        iou = paired_iou(detections.boxes[rows], truth.boxes[pairs.objects])
        labels, objects = detections.labels[rows], truth.labels[pairs.objects]
        for classes, (overlap, nearest) in zip(among, found, strict=True):
            if not classes.any():
                continue
            asked = np.where(classes[labels, objects], iou, 0)
            best = np.maximum.reduceat(asked, pairs.starts)
            place = np.where(asked == best[pairs.owner], np.arange(len(asked)), len(asked))
            overlap[pairs.rows] = best
            nearest[pairs.rows] = pairs.objects[np.minimum.reduceat(place, pairs.starts)]
    return found


@dataclass(frozen=True)
class ErrorCounts:
    """The numbers of each kind among the ``ranked`` best detections of a class (ignored ones are passed over).

    ``multiple``: of as many detections as that many times the class's objects.
    """

    label: int
    multiple: float
    ranked: int
    right: int
    localisation: int
    similar: int
    other: int
    background: int


def count_errors(matches: Matches, truth: GroundTruth, diagnosis: Diagnosis) -> Iterator[ErrorCounts]:
    """Count kinds among the best ``RANK_MULTIPLES`` times as many detections as the class has objects."""
    for label, positives in enumerate(truth.positives.tolist()):
        ranked = matches.ranked(label)
        kinds = diagnosis.verdict[ranked[~matches.ignored[ranked]]]
        for multiple in RANK_MULTIPLES if positives else ():
            top = kinds[: max(1, round(multiple * positives))]
            counts = np.bincount(top, minlength=int(Verdict.IGNORED)).tolist()
            yield ErrorCounts(label, multiple, len(top), *counts[: int(Verdict.IGNORED)])
