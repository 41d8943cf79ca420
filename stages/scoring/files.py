"""The texts of the evaluation's files: CSV tables for plots, and results in COCO's and in VOC's own form."""

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np

from .mistakes import ErrorCounts
from .objects import FlatDetections
from .proposals import IOU_STEPS, Coverage
from .voc import Curve

# The two sets of detections, as they are called in every file.
WITH_BBOX, WITHOUT_BBOX = "bbox", "no_bbox"

_COMP4 = "comp4_det_test_{}.txt"
_LONGEST_FILE_NAME = 143  # bytes: what encrypted home folders (eCryptfs) leave of the usual 255


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a CSV document with Unix line ends; floats in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def pr_csv(curves: dict[str, list[Curve | None]], classes: Sequence[str]) -> str:
    """Write precision-recall curves, one row per right detection and one for the end of the curve.

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
    """Write the recall of proposals by the IoU asked for: all objects together (class empty), then each class."""
    rows = [
        (name, step, recall)
        for name, one in zip(("", *classes), (overall, *each), strict=True)
        if one is not None
        for step, recall in zip(IOU_STEPS, one.recall, strict=True)
    ]
    return csv_text(("class", "iou", "recall"), rows)


def errors_csv(counts: dict[str, list[ErrorCounts]], classes: Sequence[str]) -> str:
    """Write the kinds of mistakes among the best detections; see :class:`.mistakes.ErrorCounts`."""
    header = ("regression", "class", "multiple", "ranked", "right", "localisation", "similar", "other", "background")
    rows = [
        (regression, classes[c.label], c.multiple, c.ranked, c.right, c.localisation, c.similar, c.other, c.background)
        for regression, per_class in counts.items()
        for c in per_class
    ]
    return csv_text(header, rows)


def coco_results(
    detections: FlatDetections, image_ids: Sequence[int], category_ids: Sequence[int]
) -> list[dict[str, object]]:
    """Return COCO's results form: ``bbox`` is x, y, width, height in px, 0-based; nothing is rounded."""
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(
        detections.image.tolist(),
        detections.labels.tolist(),
        boxes.tolist(),
        detections.scores.tolist(),
        strict=True,
    )
    return [
        {"image_id": image_ids[image], "category_id": category_ids[label], "bbox": box, "score": score}
        for image, label, box, score in rows
    ]


def comp4_names(classes: Sequence[str]) -> list[str]:
    """Return the file name of each class's comp4 results, which any file system can hold beside the others.

    Characters that a file name cannot have are percent-encoded. A name that is too long, or differs from another one
    in case only, is cut and ends in a digest of the class; :func:`comp4_table` tells what it stands for.
    """
    encoded = [quote(name, safe=" ()+,") for name in classes]
    of_one_case = Counter(name.casefold() for name in encoded)
    room = _LONGEST_FILE_NAME - len(_COMP4.format(""))
    names = []
    for label, name in zip(classes, encoded, strict=True):
        if len(name) > room or of_one_case[name.casefold()] > 1:
            tail = "~" + hashlib.sha256(label.encode()).hexdigest()[:12]
            head = name[: room - len(tail)]
            names.append(_COMP4.format(re.sub(r"%.?$", "", head) + tail))  # no half of an escape
        else:
            names.append(_COMP4.format(name))
    return names


def comp4_table(classes: Sequence[str]) -> str | None:
    """Write a JSON document of comp4 files and their classes; None where each file's name says its class."""
    names = comp4_names(classes)
    if names == [_COMP4.format(quote(name, safe=" ()+,")) for name in classes]:
        return None
    return json.dumps(dict(zip(names, classes, strict=True)), indent=1, ensure_ascii=False) + "\n"


def comp4_lines(detections: FlatDetections, label: int, image_names: Sequence[str]) -> str:
    """Write one class in VOC's form, ``image score x1 y1 x2 y2``: 1-based, right and bottom edge inclusive.

    Nothing is rounded. Best score first (VOC allows any order); equal scores keep the detections' order.
    """
    rows = np.flatnonzero(detections.labels == label)
    rows = rows[np.argsort(-detections.scores[rows].astype(np.float64), kind="stable")]
    boxes = detections.boxes[rows].astype(np.float64)
    boxes[:, :2] += 1
    lines = [
        f"{image_names[image]} {score!r} " + " ".join(map(repr, box)) + "\n"
        for image, score, box in zip(
            detections.image[rows].tolist(), detections.scores[rows].tolist(), boxes.tolist(), strict=True
        )
    ]
    return "".join(lines)


def ilsvrc_lines(detections: FlatDetections, numbers: Sequence[int], category_ids: Sequence[int]) -> Iterator[str]:
    """Write detections as ILSVRC's devkit takes them: ``image class score x1 y1 x2 y2``, one a line.

    The image is its number in the list, the class its id. Scores have three decimals (the authors' form), boxes two;
    these are 1-based, right and bottom edge inclusive.
    """
    boxes = detections.boxes.astype(np.float64)
    boxes[:, :2] += 1
    rows = zip(detections.image, detections.labels, detections.scores, boxes, strict=True)
    for image, label, score, (x1, y1, x2, y2) in rows:
        yield f"{numbers[image]} {category_ids[label]} {score:.3f} {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f}\n"


def voc_image_ids(file_names: Sequence[str]) -> list[str]:
    """Return VOC's image ids: file names without folder and extension, whitespace percent-encoded.

    Where two images of different folders share a name, all images keep their folder, and where ``a b`` and ``a%20b``
    would be one, ``%`` is encoded too, so that ids stay unique.
    """
    paths = [PurePosixPath(name) for name in file_names]
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [str(path.with_suffix("")) for path in paths]
    if len(set(stems)) < len(stems):
        stems = [str(path) for path in paths]
    ids = [_without_spaces(stem) for stem in stems]
    return ids if len(set(ids)) == len(set(stems)) else [_without_spaces(stem.replace("%", "%25")) for stem in stems]


def _without_spaces(name: str) -> str:
    return "".join(quote(c) if c.isspace() else c for c in name)
