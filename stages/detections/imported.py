"""Another program's detections as objects of the store and as a list that ``combine`` reads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache import Artifact, Payload, Recipe, digest_array
from manifests import Dataset, ImageRecord
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import image_attrs

from .saved import IMPORTED
from .suppression import BoxSet, Candidates, ImageDetections

_VERSION = 1


@dataclass(frozen=True)
class Origin:
    """Where detections come from.

    Attributes:
        detector: which program's, for people.
        digest: sha256 of the files that were read.
        classifier: what its scores are like: ``svm``, ``softmax``, or ``other`` (see ``saved.check_fit``).
        regressed: whether its boxes are better than proposals'.
    """

    detector: str
    digest: str
    classifier: str
    regressed: bool


def imported_objects(
    dataset: Dataset, records: Sequence[ImageRecord], found: Sequence[BoxSet], origin: Origin
) -> tuple[Artifact, list[tuple[Recipe, Payload]]]:
    """Return the objects to be stored, one an image, and their list.

    What an object's detections were suppressed to, and its candidates, are the same: the program's own.

    Args:
        records: the images searched, all of them.
        found: of each its detections, by class and best first.
    """
    objects = []
    for record, one in zip(records, found, strict=True):
        recipe = Recipe(
            IMPORTED,
            _VERSION,
            {"classes": list(dataset.classes), "classifier": origin.classifier, "regressed": origin.regressed},
            {"image": record.sha256, "detections": digest_array(one.boxes, one.scores, one.labels)},
        )
        objects.append((recipe, _payload(record, one, dataset, origin)))
    summary = {
        "dataset": dataset.name,
        "detector": origin.detector,
        "classifier": origin.classifier,
        "regressed": origin.regressed,
        "classes": list(dataset.classes),
        "images": [record.sha256 for record in records],
        "rank_factor": _rank_factor(found, len(dataset.classes)),
    }
    entries = tuple((record.id, recipe.key) for record, (recipe, _) in zip(records, objects, strict=True))
    return Artifact(IMPORTED, _VERSION, {}, {"results": origin.digest}, entries, summary), objects


def _payload(record: ImageRecord, found: BoxSet, dataset: Dataset, origin: Origin) -> Payload:
    attrs: dict[str, Any] = {
        **image_attrs(record, len(found)),
        "box_convention": BOX_CONVENTION,
        "classes": list(dataset.classes),
        "classifier": origin.classifier,
        "regressed": origin.regressed,
    }
    candidates = Candidates(found.boxes, found.boxes, found.scores, found.labels)
    return Payload({**ImageDetections(found, found).arrays(), **candidates.arrays()}, attrs, "hdf5")


def _rank_factor(found: Sequence[BoxSet], n_classes: int) -> int:
    """Return the least factor by which no class is cut: the program has chosen what it keeps."""
    labels = np.concatenate([one.labels for one in found]) if found else np.zeros(0, np.int64)
    most = int(np.bincount(labels, minlength=n_classes).max(initial=0))
    return max(1, math.ceil(most / max(len(found), 1)))
