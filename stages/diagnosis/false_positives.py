"""What false positives are, from the best-scored one on, and what AP each kind costs (paper figure 5, Hoiem et al.)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.scoring.matching import Matches
from stages.scoring.mistakes import MIN_CONTACT, Diagnosis, Verdict
from stages.scoring.normalised import wrong_above
from stages.scoring.objects import Bools, GroundTruth, Ints
from stages.scoring.voc import envelope

FALSE_POSITIVES = (25, 50, 100, 200, 400, 800, 1600, 3200)  # how many are looked at
MULTIPLES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # of the number of objects: detections looked at
KINDS = (Verdict.LOCALISATION, Verdict.SIMILAR, Verdict.OTHER, Verdict.BACKGROUND)


@dataclass(frozen=True)
class Mixture:
    """What there is among the best detections, by number: ``right`` (with ignored ones), and each kind.

    ``at``: how many false positives, or how many times the objects; None of a set for which there are not so many.
    """

    at: float
    right: int
    localisation: int
    similar: int
    other: int
    background: int


@dataclass(frozen=True)
class RankedClass:
    """One class's detections, best first.

    ``verdicts`` int64 [k]; ``repaired`` bool [r]: right or wrong of those left when each that has contact with an
    object of the class is moved onto it and further ones are dropped; ``n_objects`` that count.
    """

    verdicts: Ints
    repaired: Bools
    n_objects: int

    @property
    def n_false_positives(self) -> int:
        """How many of its detections are wrong."""
        return int(((self.verdicts != Verdict.RIGHT) & (self.verdicts != Verdict.IGNORED)).sum())


def ranked_classes(matches: Matches, repaired: Matches, diagnosis: Diagnosis, truth: GroundTruth) -> list[RankedClass]:
    """Take every class's part. ``repaired`` are the matches at IoU :data:`.mistakes.MIN_CONTACT` by the same rule."""
    out = []
    for label, n_objects in enumerate(truth.positives.tolist()):
        ranked = matches.ranked(label)
        drop = repaired.ignored | (~repaired.right & (repaired.overlap >= MIN_CONTACT))
        left = ranked[~drop[ranked]]
        out.append(RankedClass(diagnosis.verdict[ranked], repaired.right[left], n_objects))
    return out


def false_positive_mixtures(classes: Sequence[RankedClass], *, background_twice: bool) -> list[Mixture]:
    """Tell what the first 25, 50, ... 3200 false positives are; nothing for a number that is not reached.

    The classes' detections are added up at equal rank (the first of every class, then the second ...), as
    displayFPTrend.m does, down to the first rank at which there are as many.
    """
    counts = _by_rank(classes)
    wrong = counts[:, 1:].sum(axis=1) + (counts[:, 4] if background_twice else 0)
    return _mixtures(counts, wrong, [(float(n), float(n)) for n in FALSE_POSITIVES])


def detection_mixtures(classes: Sequence[RankedClass], *, background_twice: bool) -> list[Mixture]:
    """Tell what the best detections are, 1/8 ... 8 times as many as the classes together have objects.

    Added up at equal rank as in :func:`false_positive_mixtures`. With ``background_twice`` x is the authors' program's
    here, too (displayDetectionTrend.m): multiples of the objects that one class has in the mean, rounded, although the
    detections of all classes are counted.
    """
    if not classes:
        return []
    counts = _by_rank(classes)
    total = counts.sum(axis=1) + (counts[:, 4] if background_twice else 0)
    n_objects = float(sum(one.n_objects for one in classes))
    if background_twice:
        n_objects = float(np.floor(n_objects / len(classes) + 0.5))
    return _mixtures(counts, total, [(multiple, multiple * n_objects) for multiple in MULTIPLES]) if n_objects else []


def _by_rank(classes: Sequence[RankedClass]) -> NDArray[np.int64]:
    """Count right (or ignored) detections and each kind down to every rank: int64 [longest list, 5]."""
    longest = max((len(one.verdicts) for one in classes), default=0)
    counts = np.zeros((longest, 5), np.int64)
    for one in classes:
        column = np.where(one.verdicts == Verdict.IGNORED, 0, one.verdicts)
        counts[np.arange(len(column)), column] += 1
    return counts.cumsum(axis=0)


def _mixtures(counts: Ints, total: Ints, asked: Sequence[tuple[float, float]]) -> list[Mixture]:
    rows = [(at, int(np.searchsorted(total, number))) for at, number in asked]
    return [Mixture(at, *counts[row].tolist()) for at, row in rows if row < len(total)]


def recalls(one: RankedClass) -> list[tuple[float | None, float | None]]:
    """Return recall after 1/8 ... 8 times as many detections as objects: as matched, and with places repaired.

    The last recall where there are fewer detections, 0 where there is none; None for a class without objects.
    """

    def after(right: Bools, multiple: float) -> float | None:
        if not one.n_objects:
            return None
        top = max(1, int(np.floor(multiple * one.n_objects + 0.5)))
        return float(right[:top].sum() / one.n_objects)

    right = one.verdicts == Verdict.RIGHT
    return [(after(right, multiple), after(one.repaired, multiple)) for multiple in MULTIPLES]


def impacts(one: RankedClass) -> dict[str, float] | None:
    """Return AP (area) as it is, without each kind of false positive, with one kind alone, and with places repaired.

    Names: ``all``, ``repaired_localisation``, ``no_KIND``, ``only_KIND`` for localisation, similar, other, background,
    and ``no_background_or_other``, which is the authors' ``ignorebg``. None for a class without objects.
    """
    if not one.n_objects:
        return None
    at = np.flatnonzero(one.verdicts == Verdict.RIGHT)
    above = {kind: np.cumsum(one.verdicts == kind)[at] for kind in KINDS}

    def ap(*kinds: Verdict) -> float:
        return _ap(sum((above[kind] for kind in kinds), np.zeros(len(at), np.int64)), one.n_objects)

    def without(*left_out: Verdict) -> float:
        return ap(*(kind for kind in KINDS if kind not in left_out))

    found = {"all": ap(*KINDS), "repaired_localisation": _ap(wrong_above(one.repaired), one.n_objects)}
    found |= {f"no_{kind.name.lower()}": without(kind) for kind in KINDS}
    found["no_background_or_other"] = without(Verdict.BACKGROUND, Verdict.OTHER)
    return found | {f"only_{kind.name.lower()}": ap(kind) for kind in KINDS}


def _ap(wrong: Ints, n_objects: int) -> float:
    """Return the area under the curve from the number of wrong detections above each right one."""
    found = np.arange(1, len(wrong) + 1)
    return float(envelope(found / (found + wrong)).sum() / n_objects)


def confusions(
    matches: Matches, diagnosis: Diagnosis, truth: GroundTruth, classes: Sequence[str]
) -> dict[str, Mapping[str, int]]:
    """Count with which classes each class is confused among its best detections, as many as it has objects."""
    out: dict[str, Mapping[str, int]] = {}
    for label, n_objects in enumerate(truth.positives.tolist()):
        ranked = matches.ranked(label)
        top = ranked[~matches.ignored[ranked]][:n_objects]
        with_whom = diagnosis.confused[top]
        counts = np.bincount(with_whom[with_whom >= 0], minlength=len(classes))
        most = np.argsort(-counts, kind="stable")
        out[classes[label]] = {classes[j]: int(counts[j]) for j in most.tolist() if counts[j]}
    return out
