"""Detections out of result files of other programs: what ``files.py`` writes, read.

Everything is checked, and all that is wrong is told at once: an image or class that the dataset lacks, a score that is
no number, a box that leaves its image.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from manifests import Dataset, DatasetError, ImageRecord
from manifests.readers.findings import Findings

from .files import voc_image_ids
from .objects import FlatDetections

TOLERANCE_PX = 2.0  # a box may leave its image by so much and is then cut off, as at the import of a dataset
_FIELDS = ("image_id", "category_id", "bbox", "score")
_COMP = re.compile(r"comp\d+_det_[^_]+_(?P<name>.+)\.txt")
_TABLE = "comp4_classes.json"  # which file is which class's, where names say it in part


@dataclass(frozen=True)
class Results:
    """Detections of a list of images, in its order, and what the user should know of them."""

    detections: FlatDetections
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    """One detection as a file has it: ``box`` x1, y1, x2, y2, px, 0-based, right and bottom exclusive."""

    where: str
    image: int  # row of the image in the list asked for
    label: int
    box: tuple[float, float, float, float]
    score: float


class _Images:
    """The images that were searched, by their ids (COCO) and by their names (VOC): each one's row in the list."""

    def __init__(self, dataset: Dataset, records: Sequence[ImageRecord]) -> None:
        self._records = records
        self.by_id: dict[float, int] = {record.id: row for row, record in enumerate(records)}
        names = voc_image_ids([record.file_name for record in records])
        self.by_name = {name: row for row, name in enumerate(names)}
        every = voc_image_ids([record.file_name for record in dataset.images])
        self._split: dict[Any, str] = {name: image.split for name, image in zip(every, dataset.images, strict=True)}
        self._split |= {image.id: image.split for image in dataset.images}

    def why_not(self, image: Any) -> str:
        """Say why there can be no results of an image: the dataset lacks it, or it was not to be searched."""
        number, first = len(self._records), self._records[0]
        split = self._split.get(image) if isinstance(image, str | int | float) else None
        if split is not None:
            return (
                f"image {image} is in split {split}; give results of the {number} images of split {first.split} alone"
            )
        return f"image {image!r} is none of the {number} {first.split} images, such as {first.id} ({first.name})"


def read_coco_results(path: Path, dataset: Dataset, records: Sequence[ImageRecord], *, clip: bool = False) -> Results:
    """Read COCO's results JSON: a list of ``{image_id, category_id, bbox: [x, y, width, height], score}``.

    Args:
        dataset: whose image and category ids the file has.
        records: the images that were searched; a result of another one is a problem.
        clip: cut off what leaves an image by however much; without it by :data:`TOLERANCE_PX` at most.

    Raises DatasetError with every problem.
    """
    try:
        entries = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file; correct the path") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); give the results' JSON file") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is not JSON ({error}); write it again") from None
    if not isinstance(entries, list):
        raise DatasetError(
            f"{path}: is a {type(entries).__name__}, and COCO's results form a list of {{{', '.join(_FIELDS)}}}; give "
            "such a file"
        )
    findings = Findings(skip=False)
    rows = _coco_rows(entries, path.name, dataset, _Images(dataset, records), findings)
    return _checked(list(rows), records, findings, clip=clip)


def read_voc_results(folder: Path, dataset: Dataset, records: Sequence[ImageRecord], *, clip: bool = False) -> Results:
    """Read a folder of VOC's ``comp4_det_test_CLASS.txt``: lines of ``image score x1 y1 x2 y2``, 1-based, inclusive.

    Arguments and errors as :func:`read_coco_results`.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is no folder of comp4_det_test_CLASS.txt files; correct the path")
    named = _class_files(folder)
    if not named:
        raise DatasetError(f"{folder}: there is no file such as comp4_det_test_CLASS.txt; correct the path")
    findings = Findings(skip=False)
    rows: list[_Row] = []
    images = _Images(dataset, records)
    for path, name in named.items():
        label = _label(name, dataset, path.name, findings)
        if label is not None:
            rows += _voc_rows(path, label, images, findings)
    for name in dataset.classes:
        if name not in named.values():
            findings.note(f"{folder}: there is no file of class {name!r}: taken as no detections of it")
    return _checked(rows, records, findings, clip=clip)


def _class_files(folder: Path) -> dict[Path, str]:
    """Return the files of results with their classes: what the folder's table says, else what is in their names."""
    table = folder / _TABLE
    try:
        told = json.loads(table.read_bytes()) if table.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{table}: is not JSON ({error}); write the results again") from None
    found = {path: match["name"] for path in sorted(folder.iterdir()) if (match := _COMP.fullmatch(path.name))}
    return {path: str(told.get(path.name) or unquote(name)) for path, name in found.items()}


def _coco_rows(
    entries: Sequence[Any], file: str, dataset: Dataset, images: "_Images", findings: Findings
) -> Iterator[_Row]:
    labels = {category: label for label, category in enumerate(dataset.category_ids)}
    for number, entry in enumerate(entries, 1):
        where = f"{file}: result {number}"
        lacking = [name for name in _FIELDS if name not in entry] if isinstance(entry, dict) else list(_FIELDS)
        if lacking:
            findings.problem(f"{where}: has no {', '.join(lacking)}; give all of {', '.join(_FIELDS)}", "fields")
            continue
        image, category = entry["image_id"], entry["category_id"]
        if not _is_number(image) or image not in images.by_id:
            findings.problem(f"{where}: {images.why_not(image)}", "image")
        elif not _is_number(category) or category not in labels:
            known = ", ".join(f"{i} ({name})" for i, name in zip(dataset.category_ids, dataset.classes, strict=True))
            findings.problem(f"{where}: category_id {category!r} is none of the dataset's: {known}", "class")
        elif not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4 or not all(map(_is_number, entry["bbox"])):
            findings.problem(f"{where}: bbox {entry['bbox']!r} is not [x, y, width, height] in px", "box")
        elif not _is_number(entry["score"]):
            findings.problem(f"{where}: score {entry['score']!r} is no number", "score")
        else:
            x, y, width, height = map(float, entry["bbox"])
            box = (x, y, x + width, y + height)
            yield _Row(where, images.by_id[image], labels[category], box, float(entry["score"]))


def _voc_rows(path: Path, label: int, images: "_Images", findings: Findings) -> Iterator[_Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        findings.problem(f"{path.name}: cannot be read ({error}); write it again")
        return
    for number, line in enumerate(lines, 1):
        where, parts = f"{path.name}: line {number}", line.split()
        if not parts:
            continue
        numbers = [_float(part) for part in parts[1:]]
        if len(parts) != 6 or None in numbers:
            findings.problem(f"{where}: {line[:60]!r} is not `image score x1 y1 x2 y2`", "fields")
        elif parts[0] not in images.by_name:
            findings.problem(f"{where}: {images.why_not(parts[0])}", "image")
        else:
            score, x1, y1, x2, y2 = (float(part) for part in parts[1:])
            yield _Row(where, images.by_name[parts[0]], label, (x1 - 1, y1 - 1, x2, y2), score)


def _label(name: str, dataset: Dataset, file: str, findings: Findings) -> int | None:
    if name in dataset.classes:
        return dataset.classes.index(name)
    findings.problem(f"{file}: class {name!r} is none of the dataset's: {', '.join(dataset.classes)}", "class")
    return None


def _checked(rows: Sequence[_Row], records: Sequence[ImageRecord], findings: Findings, *, clip: bool) -> Results:
    """Check scores and boxes, and sort the detections by image; DatasetError with all problems."""
    per_image: list[list[_Row]] = [[] for _ in records]
    cut = 0
    with np.errstate(over="ignore"):
        for row in rows:
            kept, out = _inside(row, records[row.image], findings, clip=clip)
            cut += out > 0
            if kept is not None:
                per_image[row.image].append(kept)
    if cut:
        findings.note(f"{cut} boxes left their image and were cut off at its edge")
    empty = sum(not found for found in per_image)
    if empty:
        findings.note(f"{empty} of {len(records)} images have no detections")
    notes = findings.conclude()
    return Results(FlatDetections.of([_arrays(found) for found in per_image]), tuple(notes))


def _inside(row: _Row, record: ImageRecord, findings: Findings, *, clip: bool) -> tuple[_Row | None, float]:
    """Return the detection cut off at the image's edge, None for one that is wrong, and by how many px it left it."""
    x1, y1, x2, y2 = row.box
    if not np.isfinite(np.float32(row.score)):
        findings.problem(f"{row.where}: score {row.score} is no finite number; leave the result out", "score")
        return None, 0
    if not all(map(math.isfinite, row.box)) or x2 <= x1 or y2 <= y1:
        findings.problem(f"{row.where}: box {_shown(row)} has no extent; leave the result out", "empty")
        return None, 0
    out = max(-x1, -y1, x2 - record.width, y2 - record.height, 0.0)
    if out > TOLERANCE_PX and not clip:
        findings.problem(
            f"{row.where}: box {_shown(row)} leaves the {record.width} x {record.height} image {record.name} by "
            f"{out:.4g} px; correct it, or --clip cuts it off",
            "outside",
        )
        return None, 0
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(record.width)), min(y2, float(record.height)))
    corners = np.array(box, np.float32)
    if corners[0] >= corners[2] or corners[1] >= corners[3]:
        findings.problem(f"{row.where}: box {_shown(row)} is empty inside its image; leave the result out", "empty")
        return None, 0
    return _Row(row.where, row.image, row.label, box, row.score), out


def _arrays(rows: Sequence[_Row]) -> tuple[Any, Any, Any]:
    """Return boxes, scores and labels, by class and best first; equal scores keep the file's order."""
    ordered = sorted(rows, key=lambda row: (row.label, -row.score))
    return (
        np.array([row.box for row in ordered], np.float32).reshape(-1, 4),
        np.array([row.score for row in ordered], np.float32),
        np.array([row.label for row in ordered], np.int64),
    )


def _shown(row: _Row) -> str:
    return " ".join(f"{value:.6g}" for value in row.box)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


READERS: Mapping[str, Callable[..., Results]] = {"coco": read_coco_results, "voc": read_voc_results}
