"""Lists of images that a run leaves out as duplicates, and CSV files that give images ids: text that people edit."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cache.errors import DatasetError

from .dataset import Dataset, ImageRecord
from .files import read_bytes
from .names import NameIndex
from .readers.findings import summed_up
from .text import decode_text, text_lines

_COMMENT, _QUOTE = "#", '"'
_COLUMNS = ("image", "id")


def read_drop_list(path: Path, dataset: Dataset) -> list[ImageRecord]:
    """Read a list of images, one a line, by file name or by name without folder and extension.

    Empty lines, and those that begin with ``#``, say nothing. A name may be spelt as in any list
    (:class:`manifests.names.NameIndex`), or stand in JSON's quotes (:func:`drop_list_text`).

    Raises:
        DatasetError: a line for each that names no image of the dataset, or several, of many the first few; or the
            file cannot be read.
    """
    lines = text_lines(decode_text(read_bytes(path, str(path)), str(path)))
    named = [
        (number, text)
        for number, line in enumerate(lines, 1)
        if (text := line.strip()) and not text.startswith(_COMMENT)
    ]
    return list(dict.fromkeys(_named(path, named, dataset)))


def read_ids(path: Path, dataset: Dataset) -> dict[str, str]:
    """Read a CSV with the columns ``image`` and ``id``: ids by the images' file names. An empty id is none.

    Raises:
        DatasetError: as :func:`read_drop_list`; another heading, an image with two ids.
    """
    try:
        rows = list(csv.reader(text_lines(decode_text(read_bytes(path, str(path)), str(path)))))
    except csv.Error as error:
        raise DatasetError(f"{path}: is no CSV file ({error}); write two columns, image and id") from None
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not set(_COLUMNS) <= set(head):
        raise DatasetError(
            f"{path}: line 1 names no columns `image` and `id`; write `image,id` there, and a line for each image below"
        )
    image, label = (head.index(name) for name in _COLUMNS)
    filled = [(number, row) for number, row in enumerate(rows[1:], 2) if any(row)]
    if short := [number for number, row in filled if len(row) <= max(image, label)]:
        raise DatasetError(f"{path}: line {short[0]} has fewer columns than the heading; write image and id there")
    records = _named(path, [(number, row[image].strip()) for number, row in filled], dataset)
    found: dict[str, str] = {}
    problems = []
    for (number, row), record in zip(filled, records, strict=True):
        given = row[label].strip()
        if given and found.setdefault(record.file_name, given) != given:
            line = f"{path}: line {number}: {record.file_name} has another id above; keep one of them"
            problems.append((line, "another"))
    if problems:
        raise DatasetError(summed_up(problems))
    return found


def _named(path: Path, named: Iterable[tuple[int, str]], dataset: Dataset) -> list[ImageRecord]:
    """Return the images that lines of a file name, in the lines' order."""
    by_file = {image.file_name: image for image in dataset.images}
    by_name: dict[str, list[ImageRecord]] = {}
    for image in dataset.images:
        by_name.setdefault(image.name, []).append(image)
    index = NameIndex(by_file)
    found, problems = [], []
    for number, text in named:
        if (quoted := _unquoted(text)) in by_file:
            images: Sequence[ImageRecord] = [by_file[quoted]]
        elif text in by_file:
            images = [by_file[text]]
        else:
            images = by_name.get(text) or [by_file[name] for name in index.candidates(text)]
        if len(images) == 1:
            found.append(images[0])
        else:
            line = f"{path}: line {number}: {_what_is_wrong(text, images, dataset)}"
            problems.append((line, "several" if images else "none"))
    if problems:
        raise DatasetError(summed_up(problems))
    return found


def _what_is_wrong(text: str, images: Sequence[ImageRecord], dataset: Dataset) -> str:
    if images:
        return f"{text!r} may be {images[0].file_name} or {images[1].file_name}; write the whole file name"
    return f"dataset {dataset.name} has no image {text!r}; correct or remove the line"


def drop_list_text(heading: Iterable[str], images: Mapping[str, Iterable[str]]) -> str:
    """Write a list that :func:`read_drop_list` reads: each image's file name, above it why it is listed.

    A name that a line would not give back (``#1.jpg``, a space at an end) stands in JSON's quotes.
    """
    lines = [_comment(line) for line in heading]
    for file_name, reasons in images.items():
        lines += [_comment(reason) for reason in reasons] + [_line(file_name)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return f"{_COMMENT} {' '.join(text.splitlines())}"  # names in it may have line ends


def _line(file_name: str) -> str:
    """Return the line that names a file: the name itself where that is read back."""
    read_back = text_lines(file_name)[0].strip() == file_name and not file_name.startswith((_COMMENT, _QUOTE))
    return file_name if read_back else json.dumps(file_name, ensure_ascii=False)


def _unquoted(text: str) -> str | None:
    """Return the name in JSON's quotes; None where there is none."""
    if not text.startswith(_QUOTE):
        return None
    try:
        name = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return name if isinstance(name, str) else None
