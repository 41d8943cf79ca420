"""What the page is made of, read from the files of the stages before."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from cache.listing import Environments
from manifests import Dataset, ImageRecord
from stages.scoring.metrics import has_ground_truth

from .settings import ReportSettings

Row = Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """The final detections of one image: boxes [m, 4], scores [m], labels [m]."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class DenseFound:
    """What OverFeat's detector finds in one image, by its steps.

    Attributes:
        windows: float32 [n, 4]; scores: float32 [n, C]; coarse: bool [n], those at the pooling's own stride.
        edges: float32 [n, K, 4], the regressed boxes, by the classes ``edge_classes`` int64 [n, K] (-1: every class).
        boxes, confidences, labels: float32 [m, 4], float32 [m], int64 [m], the detections.
        member_windows, member_boxes: int64 [k], the window of each merged box's member, and that box's row.
    """

    windows: NDArray[np.float32]
    scores: NDArray[np.float32]
    coarse: NDArray[np.bool_]
    edges: NDArray[np.float32]
    edge_classes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    labels: NDArray[np.int64]
    member_windows: NDArray[np.int64]
    member_boxes: NDArray[np.int64]

    def edges_of(self, label: int) -> NDArray[np.float32]:
        """Return each window's box for a class, float32 [n, 4]; the window itself where the regressor was not asked."""
        asked = (self.edge_classes == label) | (self.edge_classes == -1)
        rows = np.arange(len(self.windows))
        return np.where(asked.any(axis=1)[:, None], self.edges[rows, asked.argmax(axis=1)], self.windows)


@dataclass(frozen=True)
class PageData:
    """All that the page shows.

    ``pr``, ``recall_iou``, ``errors``, ``mining`` and the two curves are rows of the CSV files of these names (no
    rows: that part did not run); ``shared_trainings`` those of Faster R-CNN's trainings, by node. ``tested`` are the
    images that were searched; ``pixels`` and ``found`` read one of them. ``shown_from``: per class the score from which
    a detection is drawn. ``classifier`` is ``svm`` or ``softmax``; ``regressed`` says whether box regression was on;
    ``combined`` names the saved detectors whose windows joined this one's. ``features_cost``: median seconds that one
    image's features took, by part, where that is known. ``parameters`` is by group; ``digests`` names what the page was
    made from; ``environments``, by stage, what computed its objects (empty: not shown). Of OverFeat's detector
    ``dense`` reads an image's windows, ``score_floor`` says which were taken, and ``localisation`` has its error rates.
    """

    dataset: Dataset
    tested: Sequence[ImageRecord]
    metrics: Mapping[str, Any]
    examples: Mapping[str, Any]
    shown_from: Mapping[str, float]
    pr: Sequence[Row]
    recall_iou: Sequence[Row]
    errors: Sequence[Row]
    mining: Sequence[Row]
    finetune: Sequence[Row]
    pretrain: Sequence[Row]
    classifier: str
    regressed: bool
    combined: Sequence[str]
    timings: Mapping[str, Mapping[str, Any]]
    features_cost: Mapping[str, float]
    parameters: Mapping[str, Any]
    digests: Mapping[str, str]
    settings: ReportSettings
    seed: int
    pixels: Callable[[ImageRecord], NDArray[np.uint8]] = field(repr=False)
    found: Callable[[ImageRecord], Found] = field(repr=False)
    environments: Mapping[str, Environments] = field(default_factory=dict)
    shared_trainings: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    dense: Callable[[ImageRecord], DenseFound] | None = field(default=None, repr=False)
    score_floor: float = 0.0
    localisation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def scored(self) -> bool:
        """Whether any test object is annotated; else the page shows what was found, and no score."""
        return has_ground_truth(self.metrics["protocol"])

    def shown_classes(self) -> list[str]:
        """The at most ``max_classes`` classes with most test objects, in class order: they get curves and pictures."""
        counts = np.zeros(len(self.classes), np.int64)
        for record in self.tested:
            counts += np.bincount(record.labels, minlength=len(counts))
        best = np.argsort(-counts, kind="stable")[: self.settings.max_classes]
        return [self.classes[j] for j in np.sort(best)]


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file; StageError if it lacks one of ``columns``. A file with a header only has no rows."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise StageError(f"{path}: lacks the column {lacking[0]!r}; made by another version: run `dvc repro`")
    return rows


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """A column as floats; an empty cell (no value at that point) is NaN."""
    return [float(row[column]) if row[column] else float("nan") for row in rows]
