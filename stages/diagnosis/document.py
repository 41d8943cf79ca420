"""A diagnosis of one or two sets of a detector's detections, and the document of all its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cache.text import counted
from manifests import ImageRecord
from stages.scoring.mistakes import similarity
from stages.scoring.objects import FlatDetections, GroundTruth

from .analysis import DiagnosisOfSet, diagnose_set, n_normal
from .characteristics import Characteristic, from_boxes, from_manifest, from_table
from .settings import DiagnoseSettings
from .similar import similar_sets


@dataclass(frozen=True)
class Diagnosed:
    """What was diagnosed, and what was found.

    ``found``: by the name of the set of detections, ``bbox`` (with box regression, or the only set) first. ``said``:
    what reading the detections has to say, one line each.
    """

    title: str
    classes: Sequence[str]
    truth: GroundTruth
    settings: DiagnoseSettings
    characteristics: Sequence[Characteristic]
    found: Mapping[str, DiagnosisOfSet]
    said: Sequence[str] = ()

    @property
    def first(self) -> DiagnosisOfSet:
        """The diagnosis of the first set."""
        return next(iter(self.found.values()))

    @cached_property
    def notes(self) -> list[str]:
        """What could not be found out or is not shown, and why, one line each; first what was ``said``."""
        out = [*self.said]
        if lacking := [name for name, count in self.counts.items() if not count]:
            out.append(f"no object that counts, so left out of the means: {', '.join(lacking)}")
        if self.left_out:
            out.append(self.left_out)
        if not self.first.whole.n_false_positives:
            out.append("there are no false positives, so there is nothing to tell apart")
        for one in self.characteristics:
            sizes = self.sizes(one)
            there = [name for name, size in sizes.items() if size]
            if len(there) < 2:
                out.append(
                    f"characteristic {one.name}: one value alone ({', '.join(there) or 'none'}), so nothing to compare"
                )
            elif empty := [name for name, size in sizes.items() if not size]:
                out.append(f"characteristic {one.name}: no object is in {', '.join(empty)}")
        return out

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many objects that count each class has."""
        return dict(zip(self.classes, self.truth.positives.tolist(), strict=True))

    @cached_property
    def shown_classes(self) -> list[str]:
        """The classes that the page shows one by one: ``max_classes`` of those that have objects, in their order."""
        most = sorted(self.first.subsets, key=lambda name: -self.counts[name])[: self.settings.max_classes]
        return [name for name in self.classes if name in most]

    @property
    def left_out(self) -> str:
        """Say how many classes the page does not show one by one; empty where it shows all that have objects."""
        shown, there = len(self.shown_classes), len(self.first.subsets)
        if shown == there:
            return ""
        return f"{shown} of {there} classes are shown one by one, those with most objects; diagnosis.json has all"

    @cached_property
    def has_similar(self) -> bool:
        """Whether any two classes of the dataset are similar, so that there can be mistakes of this kind."""
        return bool(similarity(self.classes, similar_sets(self.settings.similar_classes)).any())

    def sizes(self, characteristic: Characteristic) -> dict[str, int]:
        """Count the objects of each subset, of all classes."""
        counts = dict.fromkeys(characteristic.subsets, 0)
        for found in self.first.subsets.values():
            for name, part in found.subsets.get(characteristic.name, {}).items():
                counts[name] += 0 if part is None else part.n_objects
        return counts

    def summary(self) -> str:
        """Say the main figures in a line."""
        one = self.first
        scores = [("VOC 2007", one.voc2007), ("VOC 2010", one.voc2010), ("normalised", one.normalised)]
        shown = ", ".join(f"{name} {100 * score:.2f}" for name, score in scores if score is not None)
        return f"AP {shown}; {counted(one.whole.n_false_positives, 'false positive')}"

    def document(self) -> dict[str, Any]:
        """Return all figures as a JSON value: ``protocol``, ``notes``, and a part for each set of detections."""
        protocol = {
            "title": self.title,
            "images": self.truth.n_images,
            "objects": int(self.truth.positives.sum()),
            "ignored": int(self.truth.ignored.sum()),
            "normal_objects": n_normal(self.truth, self.settings),
        } | self.settings.model_dump(mode="json", include={"iou", "matching", "similar_classes", "background_twice"})
        return {"protocol": protocol, "notes": self.notes} | {name: asdict(one) for name, one in self.found.items()}


def diagnosed(
    title: str,
    tested: Sequence[ImageRecord],
    classes: Sequence[str],
    found: Mapping[str, FlatDetections],
    table: Mapping[str, Mapping[int, str]],
    settings: DiagnoseSettings,
    said: Sequence[str] = (),
) -> Diagnosed:
    """Diagnose each set of detections of the same images.

    Args:
        tested: the images, which the detections index.
        table: further characteristics by name, of each object that has one its value; objects are numbered through
            all images.
        said: notes on the detections, that head the diagnosis's own.
    """
    truth = GroundTruth.of(tested, len(classes))
    details = [detail for record in tested for detail in record.details]
    truncated = np.concatenate([record.truncated for record in tested])
    characteristics = [
        *from_boxes(truth),
        *from_manifest(truncated, details),
        *from_table(table, len(truth.labels)),
    ]
    each = {name: diagnose_set(one, truth, classes, characteristics, settings) for name, one in found.items()}
    return Diagnosed(title, classes, truth, settings, characteristics, each, said)


def nothing_annotated(tested: Sequence[ImageRecord], where: str) -> str | None:
    """Say that no object of the images counts, so that nothing can be diagnosed; None where one does.

    ``where``: what named the images.
    """
    if any((~(record.difficult | record.crowd)).any() for record in tested):
        return None
    return (
        f"{where}: no object that counts is annotated in the {counted(len(tested), 'image')}, so there is nothing to "
        "diagnose; name a split that is annotated"
    )
