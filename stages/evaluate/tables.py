"""The evaluation's CSV files."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from .errors import ErrorCounts
from .proposals import IOU_STEPS, Coverage
from .voc import Curve

# The two sets of detections, as they are called in every file.
WITH_BBOX, WITHOUT_BBOX = "bbox", "no_bbox"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV document with Unix line ends; floats in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def pr_csv(curves: dict[str, list[Curve | None]], classes: Sequence[str]) -> str:
    """Precision-recall curves, one row per right detection and one for the end of the curve.

    The points between are straight falls of precision at the recall before them, so no curve loses anything.
    """
    rows = []
    for regression, per_class in curves.items():
        for name, one in zip(classes, per_class, strict=True):
            if one is None or not len(one.scores):
                continue
            at = np.union1d(np.flatnonzero(one.right), [len(one.scores) - 1])
            points = zip(one.scores[at].tolist(), one.recall[at].tolist(), one.precision[at].tolist(), strict=True)
            rows += [(regression, name, *point) for point in points]
    return csv_text(("regression", "class", "score", "recall", "precision"), rows)


def recall_iou_csv(overall: Coverage | None, each: Sequence[Coverage | None], classes: Sequence[str]) -> str:
    """Recall of proposals by the IoU asked for: all objects together (class empty), then each class."""
    rows = [
        (name, step, recall)
        for name, one in zip(("", *classes), (overall, *each), strict=True)
        if one is not None
        for step, recall in zip(IOU_STEPS, one.recall, strict=True)
    ]
    return csv_text(("class", "iou", "recall"), rows)


def errors_csv(counts: dict[str, list[ErrorCounts]], classes: Sequence[str]) -> str:
    """Kinds of mistakes among the best detections; see ``errors.ErrorCounts``."""
    header = ("regression", "class", "multiple", "ranked", "right", "localisation", "similar", "other", "background")
    rows = [
        (regression, classes[c.label], c.multiple, c.ranked, c.right, c.localisation, c.similar, c.other, c.background)
        for regression, per_class in counts.items()
        for c in per_class
    ]
    return csv_text(header, rows)
