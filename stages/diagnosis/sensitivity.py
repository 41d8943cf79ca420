"""How much it matters what an object is like: normalised AP of subsets of objects (paper figure 6, Hoiem et al.)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.scoring.matching import Matches
from stages.scoring.normalised import NormalisedAP, normalised_ap, wrong_above
from stages.scoring.objects import GroundTruth

from .characteristics import Characteristic

LEAST_OBJECTS = (
    5  # a subset of fewer is not looked at for the lowest and highest (displayAverageSensitivityImpactPlot.m)
)


@dataclass(frozen=True)
class ClassSubsets:
    """One class: normalised AP of all its objects, and of every subset by characteristic; None of an empty one."""

    whole: NormalisedAP
    subsets: Mapping[str, Mapping[str, NormalisedAP | None]]


def class_subsets(
    matches: Matches, truth: GroundTruth, label: int, characteristics: Sequence[Characteristic], n_normal: float
) -> ClassSubsets | None:
    """Score every subset of a class; None for a class without objects that count.

    The objects of the class that are not in the subset make a detection that finds them neither right nor wrong; so do
    those of which the characteristic is not known. A characteristic known of no object of the class is left out.
    """
    members = np.flatnonzero((truth.labels == label) & ~truth.ignored)
    ranked = matches.ranked(label)
    ranked = ranked[~matches.ignored[ranked]]
    right = matches.right[ranked]
    wrong = wrong_above(right)
    whole = normalised_ap(wrong, len(members), n_normal)
    if whole is None:
        return None
    found = np.searchsorted(members, matches.nearest[ranked][right])
    scored = {}
    for one in characteristics:
        subset = one.of(members)
        if not (subset >= 0).any():
            continue
        of_found = subset[found]
        n_objects = np.bincount(subset[subset >= 0], minlength=len(one.subsets)).tolist()
        scored[one.name] = {
            name: normalised_ap(wrong[of_found == j], n_objects[j], n_normal) for j, name in enumerate(one.subsets)
        }
    return ClassSubsets(whole, scored)


@dataclass(frozen=True)
class Sensitivity:
    """Means over the classes of which a characteristic is known: normalised AP of the lowest and of the highest subset,
    and of all objects (the dashed line)."""

    low: float
    high: float
    whole: float
    n_classes: int


def sensitivities(classes: Sequence[ClassSubsets], groups: Mapping[str, str]) -> dict[str, Sensitivity]:
    """Find the lowest and highest subset of each group of characteristics, in the mean over classes.

    Subsets of fewer than :data:`LEAST_OBJECTS` objects are passed over, and so is a class that then has no subset.

    Args:
        groups: by the name of each characteristic, what it belongs to (``part`` of ``part.wing``).
    """
    extremes: dict[str, list[tuple[float, float, float]]] = {}
    for one in classes:
        by_group: dict[str, list[float]] = {}
        for name, subsets in one.subsets.items():
            aps = [part.ap for part in subsets.values() if part is not None and part.n_objects >= LEAST_OBJECTS]
            by_group.setdefault(groups[name], []).extend(aps)
        for group, aps in by_group.items():
            if aps:
                extremes.setdefault(group, []).append((min(aps), max(aps), one.whole.ap))
    ordered = [group for group in dict.fromkeys(groups.values()) if group in extremes]
    return {group: _mean(extremes[group]) for group in ordered}


def _mean(extremes: Sequence[tuple[float, float, float]]) -> Sensitivity:
    low, high, whole = np.mean(extremes, axis=0).tolist()
    return Sensitivity(low, high, whole, len(extremes))


def mean_subset(classes: Sequence[ClassSubsets], characteristic: str, subset: str) -> tuple[float, float] | None:
    """Average a subset over the classes that have at least :data:`LEAST_OBJECTS` such objects: AP, standard error.

    The error is the classes' own ones', taken as independent. None where no class has as many.
    """
    parts = [one.subsets.get(characteristic, {}).get(subset) for one in classes]
    found = [part for part in parts if part is not None and part.n_objects >= LEAST_OBJECTS]
    if not found:
        return None
    spread = np.sqrt(np.sum(np.square([part.standard_error for part in found]))) / len(found)
    return float(np.mean([part.ap for part in found])), float(spread)
