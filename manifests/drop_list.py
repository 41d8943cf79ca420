"""Lists of images that a run leaves out as duplicates, and CSV files that give images ids: text that people edit."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from cache.errors import DatasetError

from .dataset import Dataset, ImageRecord
from .files import read_bytes
from .text import decode_text, text_lines

_COMMENT = "#"
_COLUMNS = ("image", "id")


def read_drop_list(path: Path, dataset: Dataset) -> list[ImageRecord]:
    """Read a list of images, one a line, by file name or by name without folder and extension.

    Empty lines, and those that begin with ``#``, say nothing.

    Raises:
        DatasetError: a line for each that names no image of the dataset, or several; or the file cannot be read.
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
            problems.append(f"{path}: line {number}: {record.file_name} has another id above; keep one of them")
    if problems:
        raise DatasetError(problems)
    return found


def _named(path: Path, named: Iterable[tuple[int, str]], dataset: Dataset) -> list[ImageRecord]:
    """Return the images that lines of a file name, in the lines' order."""
    by_file = {image.file_name: image for image in dataset.images}
    by_name: dict[str, list[ImageRecord]] = {}
    for image in dataset.images:
        by_name.setdefault(image.name, []).append(image)
    found, problems = [], []
    for number, text in named:
        images = [by_file[text]] if text in by_file else by_name.get(text, [])
        if len(images) == 1:
            found.append(images[0])
        else:
            problems.append(f"{path}: line {number}: {_what_is_wrong(text, images, dataset)}")
    if problems:
        raise DatasetError(problems)
    return found


def _what_is_wrong(text: str, images: list[ImageRecord], dataset: Dataset) -> str:
    if images:
        return f"{text!r} may be {images[0].file_name} or {images[1].file_name}; write the whole file name"
    return f"dataset {dataset.name} has no image {text!r}; correct or remove the line"


def drop_list_text(heading: Iterable[str], images: Mapping[str, Iterable[str]]) -> str:
    """Write a list that :func:`read_drop_list` reads: each image's file name, above it why it is listed."""
    lines = [f"{_COMMENT} {line}" for line in heading]
    for file_name, reasons in images.items():
        lines += [f"{_COMMENT} {reason}" for reason in reasons] + [file_name]
    return "\n".join(lines) + "\n"
