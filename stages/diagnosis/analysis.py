"""A whole diagnosis of one set of detections, as a function of arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stages.scoring.matching import Matches, match
from stages.scoring.mistakes import MIN_CONTACT, diagnose, similarity
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.tide import Tide, tide
from stages.scoring.unfound import match_unfound
from stages.scoring.voc import area_ap, curve, eleven_point_ap, mean_ap

from .characteristics import Characteristic
from .false_positives import (
    MULTIPLES,
    Mixture,
    RankedClass,
    confusions,
    detection_mixtures,
    false_positive_mixtures,
    impacts,
    ranked_classes,
    recalls,
)
from .sensitivity import ClassSubsets, Sensitivity, class_subsets, mean_subset, sensitivities
from .settings import DiagnoseSettings
from .similar import groups, similar_sets

RULES: Mapping[str, Callable[[FlatDetections, GroundTruth, float], Matches]] = {"voc": match, "hoiem": match_unfound}


@dataclass(frozen=True)
class SetOfClasses:
    """Figure 5 of some classes, or of one.

    ``aps``: by what was changed (:func:`.false_positives.impacts`), means over the classes that have an object.
    ``recalls``: after 1/8 ... 8 times as many detections as objects, as matched and with places repaired, likewise.
    """

    n_objects: int
    n_false_positives: int
    false_positives: Sequence[Mixture]
    detections: Sequence[Mixture]
    recalls: Sequence[tuple[float | None, float | None]]
    aps: Mapping[str, float]


@dataclass(frozen=True)
class DiagnosisOfSet:
    """All that is found out of one set of detections.

    ``sets``: figure 5, of all classes, of each set of them (:func:`.similar.groups`), and of each class that has an
    object or a detection.
    ``subsets``: figure 6, of each class that has an object; ``means``: of every subset by characteristic normalised AP
    and its standard error, means over classes; ``sensitivity`` by group of characteristics.
    """

    voc2007: float | None
    voc2010: float | None
    normalised: float | None
    sets: Mapping[str, SetOfClasses]
    confusions: Mapping[str, Mapping[str, int]]
    subsets: Mapping[str, ClassSubsets]
    means: Mapping[str, Mapping[str, tuple[float, float] | None]]
    sensitivity: Mapping[str, Sensitivity]
    tide: Tide | None
    per_class: Mapping[str, Mapping[str, float | None]]

    @property
    def whole(self) -> SetOfClasses:
        """Figure 5 of all classes."""
        return next(iter(self.sets.values()))


def diagnose_set(
    detections: FlatDetections,
    truth: GroundTruth,
    classes: Sequence[str],
    characteristics: Sequence[Characteristic],
    settings: DiagnoseSettings,
) -> DiagnosisOfSet:
    """Find out what the false positives are and which objects are missed.

    Args:
        characteristics: of the objects of ``truth``, in its order.
    """
    rule = RULES[settings.matching]
    matches = rule(detections, truth, settings.iou)
    verdicts = diagnose(detections, matches, truth, similarity(classes, similar_sets(settings.similar_classes)))
    ranked = ranked_classes(matches, rule(detections, truth, MIN_CONTACT), verdicts, truth)
    curves = [curve(detections, matches, truth, label) for label in range(len(classes))]
    voc2007 = [None if one is None else eleven_point_ap(one.recall, one.precision) for one in curves]
    voc2010 = [None if one is None else area_ap(one.recall, one.precision) for one in curves]
    normal = n_normal(truth, settings)
    scored = {
        name: found
        for label, name in enumerate(classes)
        if (found := class_subsets(matches, truth, label, characteristics, normal)) is not None
    }
    groups = {one.name: one.group for one in characteristics}
    everything = list(scored.values())
    normalised = {name: one.whole.ap for name, one in scored.items()}
    return DiagnosisOfSet(
        voc2007=mean_ap(voc2007),
        voc2010=mean_ap(voc2010),
        normalised=mean_ap(list(normalised.values())),
        sets=_sets(ranked, classes, settings),
        confusions=confusions(matches, verdicts, truth, classes),
        subsets=scored,
        means={
            one.name: {subset: mean_subset(everything, one.name, subset) for subset in one.subsets}
            for one in characteristics
        },
        sensitivity=sensitivities(everything, groups),
        tide=tide(detections, truth, settings.iou),
        per_class={
            name: {"voc2007": voc2007[j], "voc2010": voc2010[j], "normalised": normalised.get(name)}
            for j, name in enumerate(classes)
        },
    )


def n_normal(truth: GroundTruth, settings: DiagnoseSettings) -> float:
    """Return the number of objects that precision is normalised to."""
    return settings.normal_objects or settings.normal_share * truth.n_images


def _sets(ranked: Sequence[RankedClass], classes: Sequence[str], settings: DiagnoseSettings) -> dict[str, SetOfClasses]:
    of = {name: _OfClass(one, impacts(one), recalls(one)) for name, one in zip(classes, ranked, strict=True)}
    sets = groups(settings.similar_classes, classes) | {name: (name,) for name in classes}
    return {
        name: _set_of([of[member] for member in members], background_twice=settings.background_twice)
        for name, members in sets.items()
        if any(of[member].ranked.n_objects or len(of[member].ranked.verdicts) for member in members)
    }


@dataclass(frozen=True)
class _OfClass:
    """What sets that have the class are made of."""

    ranked: RankedClass
    impacts: Mapping[str, float] | None
    recalls: Sequence[tuple[float | None, float | None]]


def _set_of(members: Sequence[_OfClass], *, background_twice: bool) -> SetOfClasses:
    ranked = [one.ranked for one in members]
    changed = [one.impacts for one in members if one.impacts is not None]
    at = range(len(MULTIPLES))
    return SetOfClasses(
        n_objects=sum(one.n_objects for one in ranked),
        n_false_positives=sum(one.n_false_positives for one in ranked),
        false_positives=false_positive_mixtures(ranked, background_twice=background_twice),
        detections=detection_mixtures(ranked, background_twice=background_twice),
        recalls=[
            (mean_ap([one.recalls[j][0] for one in members]), mean_ap([one.recalls[j][1] for one in members]))
            for j in at
        ],
        aps={name: sum(one[name] for one in changed) / len(changed) for name in changed[0]} if changed else {},
    )
