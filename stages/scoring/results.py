"""Detections out of result files of other programs: what ``files.py`` writes, read.

Everything is checked, and all that is wrong is told at once: an image or class that the dataset lacks, a score that is
no number, a box that leaves its image.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from cache.text import counted
from manifests import Dataset, DatasetError, ImageRecord
from manifests.files import exists, read_bytes
from manifests.listing import is_hidden
from manifests.names import NameIndex, without_ending
from manifests.readers.findings import Findings
from manifests.select import TEST
from manifests.text import decode_text, parse_json, text_lines
from manifests.values import read_number

from .files import voc_image_ids
from .objects import FlatDetections

TOLERANCE_PX = 2.0  # a box may leave its image by so much and is then cut off, as at the import of a dataset
_FIELDS = ("image_id", "category_id", "bbox", "score")
_COMP = re.compile(r"comp\d+_det_(?P<rest>[^_]+_.+)\.txt")
_LIKE = re.compile(r"comp\d+_det_|_det_.*\.txt", re.IGNORECASE)  # of a name that may be meant for such a file
_PACKED = frozenset({".gz", ".zip", ".bz2", ".xz", ".zst"})
_TABLE = "comp4_classes.json"  # which file is which class's, where names say it in part
_NO_LINK = "put that file there, or remove the link"  # what to do where a listed file is not there
_TEXT = ", not a text"
_SHOWN = 3  # names, where there are more
_LONGEST = 60  # characters of a value
_KINDS = ((dict, "an object {...}"), (str, "a text"), (bool, "true or false"), ((int, float), "a number"))


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

    def __init__(self, dataset: Dataset, split: str) -> None:
        self.records = dataset.split(split)
        self._split = split
        self.by_id: dict[float, int] = {record.id: row for row, record in enumerate(self.records)}
        names = _ids(self.records)
        self._by_name = {name: row for row, name in enumerate(names)}
        self._index = NameIndex(names, folders=False)
        every = zip(_ids(dataset.images), dataset.images, strict=True)
        others = [(name, one) for name, one in every if split not in one.splits]
        self._other_ids = {one.id: one.split for _, one in others}
        self._other_names = {form: one.split for name, one in others for form in (one.file_name, one.name, name)}

    def row(self, name: str) -> int | None:
        """Find an image by what a line calls it: its id, or but for extension, case and the like one id alone."""
        for form in (name, without_ending(name)):
            if form in self._by_name:
                return self._by_name[form]
            if form in self._other_names:
                return None
        found = self._index.find(name)
        return None if found is None else self._by_name[found]

    def why_not_named(self, name: str) -> str:
        """Say why there can be no results of an image of this name: the dataset lacks it, or it was not searched."""
        for form in (name, without_ending(name)):
            if form in self._other_names:
                return self._elsewhere(name, self._other_names[form])
        if several := self._index.candidates(name)[:_SHOWN]:
            return f"image {name!r} may be {' or '.join(several)}; write one of these"
        return f"image {_short(name)} is {self._none()}"

    def why_not(self, image: Any) -> str:
        """Say why there can be no results of an image of this id, likewise."""
        if not _is_number(image):
            return f"image {_short(image)} is {self._none()}; write its number{_TEXT if isinstance(image, str) else ''}"
        if image in self._other_ids:
            return self._elsewhere(image, self._other_ids[image])
        return f"image {_short(image)} is {self._none()}"

    def _elsewhere(self, image: object, split: str) -> str:
        searched = f"the {counted(len(self.records), 'image')} of split {self._split}"
        return f"image {image} is in split {split}; give results of {searched} alone"

    def _none(self) -> str:
        first = self.records[0]
        return f"none of the {len(self.records)} {self._split} images, such as {first.id} ({first.name})"


def _ids(images: Sequence[ImageRecord]) -> list[str]:
    return voc_image_ids([image.file_name for image in images])


def read_coco_results(path: Path, dataset: Dataset, split: str, *, clip: bool = False) -> Results:
    """Read COCO's results JSON: a list of ``{image_id, category_id, bbox: [x, y, width, height], score}``.

    Args:
        dataset: whose image and category ids the file has.
        split: whose images were searched; a result of another one is a problem.
        clip: cut off what leaves an image by however much; without it by :data:`TOLERANCE_PX` at most.

    Raises DatasetError with every problem.
    """
    entries = parse_json(read_bytes(path, str(path), missing="correct the path"), str(path))
    if not isinstance(entries, list):
        raise DatasetError(f"{path}: {_no_list(entries)}")
    findings = Findings(skip=False)
    images = _Images(dataset, split)
    rows = _coco_rows(entries, str(path), dataset, images, findings)
    return _checked(list(rows), images.records, findings, clip=clip)


def _no_list(document: object) -> str:
    """Say what a JSON document is that is no list of results, and what to do."""
    wanted = f"COCO's results are a list of {{{', '.join(_FIELDS)}}}"
    kind = next((word for types, word in _KINDS if isinstance(document, types)), "null")
    if not isinstance(document, dict):
        return f"is {kind}, and {wanted}; give such a file"
    inside = [_short(key) for key, value in document.items() if isinstance(value, list)]
    if not inside:
        return f"is {kind} without any list in it, and {wanted}; give such a file"
    return f"is {kind}, and {wanted}; where {' or '.join(inside[:_SHOWN])} is that list, save it as a file of its own"


def read_voc_results(folder: Path, dataset: Dataset, split: str, *, clip: bool = False) -> Results:
    """Read a folder of VOC's ``comp4_det_test_CLASS.txt``: lines of ``image score x1 y1 x2 y2``, 1-based, inclusive.

    Arguments and errors as :func:`read_coco_results`.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is no folder of comp4_det_test_CLASS.txt files; correct the path")
    findings = Findings(skip=False)
    named, unread = _class_files(folder, dataset, split, findings)
    if findings.stops:  # what the wrong files hold would be wrong line by line
        findings.conclude()
    if not named:
        raise DatasetError(
            f"{folder}: there is no file such as comp4_det_test_CLASS.txt; correct the path{_told_unread(unread)}"
        )
    rows: list[_Row] = []
    images = _Images(dataset, split)
    for path, name in named.items():
        label = _label(name, dataset, str(path), findings)
        if label is not None:
            rows += _voc_rows(path, label, images, findings)
    for name in dataset.classes:
        if name not in named.values():
            like = _told_unread([file for file in unread if name.casefold() in unquote(file).casefold()])
            findings.note(f"{folder}: there is no file of class {name!r}: taken as no detections of it{like}")
    return _checked(rows, images.records, findings, clip=clip)


def _class_files(
    folder: Path, dataset: Dataset, split: str, findings: Findings
) -> tuple[dict[Path, str], Sequence[str]]:
    """Return the files of results with their classes, and the names of files that look like such and are none.

    The class is what the folder's table says, else what is in the name. A second file of a class and a file of another
    split's results are problems.
    """
    told = _table(folder)
    files: dict[Path, str] = {}
    unread: list[str] = []
    for path in sorted(folder.iterdir()):
        match = _COMP.fullmatch(path.name)
        if match is None:
            if _LIKE.search(path.name) and not is_hidden(path.name):
                unread.append(path.name)
            continue
        of, name = _split_and_class(match["rest"], dataset)
        name = told.get(path.name) or name
        if first := next((one for one, its in files.items() if its == name), None):
            findings.problem(
                f"{path}: is the second file of class {name!r}, beside {first.name}, and every detection would count; "
                "leave one of the two in the folder",
                "twice",
            )
        # Our own files are called test whatever split was searched, as are those of most programs.
        elif of not in (split, TEST) and of in dataset.splits:
            findings.problem(
                f"{path}: is by its name of split {of}, and the split searched is {split}; give the results of "
                f"{split}, or call the file so where it has them",
                "split",
            )
        files[path] = name
    return files, unread


def _table(folder: Path) -> dict[str, str]:
    """Return which file has which class, as the folder's table says; nothing where there is none."""
    path = folder / _TABLE
    if not exists(path) and not path.is_symlink():
        return {}
    told = parse_json(read_bytes(path, str(path), missing=_NO_LINK), str(path))
    if not isinstance(told, dict) or not all(isinstance(name, str) for name in told.values()):
        raise DatasetError(
            f'{path}: is no table {{"comp4_det_test_NAME.txt": "CLASS"}}; write it again, or remove it where names of '
            "files say the class"
        )
    return told


def _split_and_class(rest: str, dataset: Dataset) -> tuple[str, str]:
    """Part ``SPLIT_CLASS`` of a file's name; at the first ``_``, or where the dataset has such a split and class."""
    parts = rest.split("_")
    ways = [("_".join(parts[:n]), unquote("_".join(parts[n:]))) for n in range(1, len(parts))]
    if ways[0][1] in dataset.classes:
        return ways[0]
    known = (way for way in ways if way[0] in dataset.splits and way[1] in dataset.classes)
    return next(known, ways[0])


def _told_unread(files: Sequence[str]) -> str:
    """Say of files that look like results that they are not read, and why; "" where there are none."""
    told = [
        f"{file} (compressed; unpack it)"
        if Path(file).suffix.lower() in _PACKED
        else f"{file} (not called comp4_det_test_CLASS.txt)"
        for file in files[:_SHOWN]
    ]
    return f"; not read: {', '.join(told)}" if told else ""


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
        image, category, box, score = (entry[name] for name in _FIELDS)
        if not _is_number(image) or image not in images.by_id:
            findings.problem(f"{where}: {images.why_not(image)}", "image")
        elif not _is_number(category) or category not in labels:
            known = ", ".join(f"{i} ({name})" for i, name in zip(dataset.category_ids, dataset.classes, strict=True))
            more = f"; write a number{_TEXT}" if isinstance(category, str) else ""
            findings.problem(
                f"{where}: category_id {_short(category)} is none of the dataset's: {known}{more}", "class"
            )
        elif not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            findings.problem(f"{where}: bbox {_short(box)} is not [x, y, width, height] in px", "box")
        elif not _is_number(score):
            more = f"; write one{_TEXT}" if isinstance(score, str) else ""
            findings.problem(f"{where}: score {_short(score)} is no number{more}", "score")
        else:
            x, y, width, height = map(_as_float, box)
            edges = (x, y, x + width, y + height)
            yield _Row(where, images.by_id[image], labels[category], edges, _as_float(score))


def _voc_rows(path: Path, label: int, images: "_Images", findings: Findings) -> Iterator[_Row]:
    try:
        lines = text_lines(decode_text(read_bytes(path, str(path), missing=_NO_LINK), str(path)))
    except DatasetError as error:
        findings.problem(error)
        return
    for number, line in enumerate(lines, 1):
        where, parts = f"{path}: line {number}", line.split()
        if not parts:
            continue
        try:
            score, x1, y1, x2, y2 = _five_numbers(parts)
        except ValueError as error:
            why = f": {error}" if str(error) else ""
            findings.problem(f"{where}: {line[:60]!r} is not `image score x1 y1 x2 y2`{why}", "fields")
            continue
        row = images.row(parts[0])
        if row is None:
            findings.problem(f"{where}: {images.why_not_named(parts[0])}", "image")
        else:
            yield _Row(where, row, label, (x1 - 1, y1 - 1, x2, y2), score)


def _five_numbers(parts: Sequence[str]) -> list[float]:
    """Return what stands behind the image; ValueError, which may say why, where it is not five numbers."""
    if len(parts) != 6:
        raise ValueError
    return [read_number(part) for part in parts[1:]]


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


def _short(value: object) -> str:
    """Return a value of a document as it is shown: at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: float) -> float:
    """Return a number of a document; JSON has whole numbers beyond any float, which are infinite then."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


READERS: Mapping[str, Callable[..., Results]] = {"coco": read_coco_results, "voc": read_voc_results}
