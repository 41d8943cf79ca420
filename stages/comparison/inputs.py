"""What a comparison is made of: several detectors' results on the test images of one dataset."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from manifests import Dataset, ImageRecord
from stages.boxes.geometry import Boxes
from stages.scoring.objects import FlatDetections
from stages.scoring.settings import EvaluateSettings

from .settings import CompareSettings

_MOST_NAMED = 3  # classes that a message names


@dataclass(frozen=True)
class NodeCost:
    """The last run of one node that computed something.

    Args:
        seconds: of the whole run.
        peak_mb: largest memory, MiB; None: not known.
        images: how many images it computed.
        per_image: seconds that one image took (median, one thread) by part of the work; empty: not measured.
    """

    seconds: float
    peak_mb: float | None = None
    images: int = 0
    per_image: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """One detector's results on the test images.

    Args:
        name, kind: ``sppnet``, kind ``rcnn``.
        title: what the detector is, for people (``summary.detector`` of its detections).
        classes: the classes it detects, in the order of its labels.
        images: SHA-256 of the bytes of each image that it searched, in any order.
        found: detections after suppression, by ``bbox`` (with box regression) and ``no_bbox``, as
            :func:`stages.scoring.reading.read_detections` gives them; they index the comparison's ``tested``.
        proposals: the regions of each image of ``tested``, best first: float32 [n, 4] each; None: it has none.
        costs: by node of the detector's graph.
        test_nodes: those of the nodes that a new image passes, in order.
        training_seconds, disk_bytes: of all that was trained, and of all objects; None: not known.
        parameters: by group.
        digests: sha256 by file that the results were read from.
    """

    name: str
    kind: str
    title: str
    classes: Sequence[str]
    images: Sequence[str]
    found: Mapping[str, FlatDetections]
    proposals: Sequence[Boxes] | None = None
    costs: Mapping[str, NodeCost] = field(default_factory=dict)
    test_nodes: Sequence[str] = ()
    training_seconds: float | None = None
    disk_bytes: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparisonData:
    """All that the comparison is made of.

    Args:
        tested: the test images, in the order that the detections' ``image`` indexes.
        detectors: at least one, with names of their own; the others are compared to the first.
        scoring: the protocol that all are scored by, whatever each detector's own evaluation was set to.
        pixels: reads a test image: uint8 [H, W, 3] RGB.
    """

    dataset: Dataset
    tested: Sequence[ImageRecord]
    detectors: Sequence[Compared]
    scoring: EvaluateSettings
    settings: CompareSettings
    seed: int
    pixels: Callable[[ImageRecord], NDArray[np.uint8]] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def object_counts(self) -> NDArray[np.int64]:
        """Number of test objects of each class that count: int64 [n_classes]."""
        counts = np.zeros(len(self.classes), np.int64)
        for record in self.tested:
            counts += np.bincount(record.labels[~(record.difficult | record.crowd)], minlength=len(counts))
        return counts

    def shown_classes(self) -> list[str]:
        """Return the at most ``max_classes`` classes with most test objects, in class order."""
        best = np.argsort(-self.object_counts, kind="stable")[: self.settings.max_classes]
        return [self.classes[j] for j in np.sort(best)]


class Searched(Protocol):
    """The part of :class:`Compared` that says on what a detector was tested; an artifact's summary has it, too."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def images(self) -> Sequence[str]: ...


def check_comparable(results: Sequence[Searched]) -> None:
    """Refuse a detector whose classes or test images are not the first one's: StageError, a line for each."""
    first, *others = results
    problems = []
    for other in others:
        if list(other.classes) != list(first.classes):
            problems.append(
                f"comparison: {other.name} and {first.name} do not detect the same classes: "
                f"{_classes_apart(other, first)}; run `dvc repro` for both on the dataset as it is now"
            )
        elif Counter(other.images) != Counter(first.images):
            shared = (Counter(other.images) & Counter(first.images)).total()
            problems.append(
                f"comparison: {other.name} was tested on {len(other.images)} images and {first.name} on "
                f"{len(first.images)}, of which {shared} are the same; run `dvc repro` for both on the dataset as it "
                "is now"
            )
    if problems:
        raise StageError("\n".join(problems))


def _classes_apart(other: Searched, first: Searched) -> str:
    parts = []
    for one, two in ((other, first), (first, other)):
        known = set(two.classes)
        alone = [name for name in one.classes if name not in known]
        more = f" and {len(alone) - _MOST_NAMED} more" if len(alone) > _MOST_NAMED else ""
        if alone:
            parts.append(f"{', '.join(alone[:_MOST_NAMED])}{more} only {one.name}'s")
    return ", ".join(parts) or "they are in another order"
