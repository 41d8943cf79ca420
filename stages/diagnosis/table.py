"""Characteristics out of a CSV table: one row per object and characteristic, ``annotation,name,value``."""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.text import nearest
from manifests import Dataset, DatasetError, ImageRecord
from manifests.files import read_bytes
from manifests.manifest_json import annotation_ids
from manifests.readers.findings import Findings
from manifests.text import decode_text
from manifests.values import read_integer

from .characteristics import MOST_VALUES, not_finite, numbers_of

HEADER = ("annotation", "name", "value")
_NAME = re.compile(r"[\w-]{1,40}(\.[\w-]{1,40})?")
_TAKEN = frozenset({"area", "aspect", "truncated", "occluded", "pose", "hidden"})


@dataclass(frozen=True)
class Table:
    """What a table says: by characteristic the value of each object, an index into those tested; and notes on it."""

    values: dict[str, dict[int, str]]
    notes: tuple[str, ...] = ()


def read_table(path: Path, rows: Mapping[int, int | None]) -> Table:
    """Read a table of characteristics.

    Args:
        rows: the object of each annotation id that the dataset has; None of one that is not tested, which is passed
            over.

    Raises DatasetError with every problem: a column that is not there, an annotation that
    the dataset lacks, an object with two values, nan or an infinity among numbers, more than
    :data:`.characteristics.MOST_VALUES` different words.
    """
    text = decode_text(read_bytes(path, str(path), missing="correct the path"), str(path))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    findings = Findings(skip=False)
    found: defaultdict[str, dict[int, str]] = defaultdict(dict)
    lines: defaultdict[str, list[int]] = defaultdict(list)  # that each value is in, in the order of ``found``
    seen: set[tuple[int, str]] = set()
    try:
        header = tuple(cell.strip().lower() for cell in next(reader, []))
        if header != HEADER:
            raise DatasetError(
                f"{path}: begins with {','.join(header)[:60]!r}; its first line must be {','.join(HEADER)}"
            )
        for cells in reader:
            where = f"{path}: line {reader.line_num}"
            if not cells:
                continue
            if (row := _checked(cells, where, rows, seen, findings)) is not None:
                annotation, name, value = row
                of = found[name]
                if (index := rows[annotation]) is not None:
                    of[index] = value
                    lines[name].append(reader.line_num)
    except csv.Error as error:
        findings.problem(f"{path}: line {reader.line_num}: is no CSV ({error}); correct it")
    for name, of in found.items():
        words = Counter(of.values())
        if (at := not_finite(list(of.values()))) is not None:
            findings.problem(
                f"{path}: line {lines[name][at]}: value {list(of.values())[at]!r} of {name} is no finite number, "
                "as others are; leave the line out"
            )
        elif len(words) > MOST_VALUES and numbers_of(list(words)) is None:
            findings.problem(
                f"{path}: characteristic {name} has {len(words)} different values, such as {next(iter(words))[:40]!r}; "
                f"{MOST_VALUES} at most, or numbers alone, which are put into bins"
            )
        elif not of:
            findings.note(f"{path}: no line of {name} is of an object that is tested, so it is left out", "untested")
    if not found:
        findings.note(f"{path}: has no line but its heading, so there is no characteristic in it")
    notes = findings.conclude()
    return Table({name: of for name, of in found.items() if of}, tuple(notes))


def _checked(
    cells: Sequence[str], where: str, rows: Mapping[int, int | None], seen: set[tuple[int, str]], findings: Findings
) -> tuple[int, str, str] | None:
    """Return a line's annotation, name and value; None where one is wrong, which the findings then tell."""
    if len(cells) != len(HEADER):
        findings.problem(f"{where}: has {len(cells)} values, not {len(HEADER)}: {','.join(HEADER)}", "cells")
        return None
    number, name, value = (cell.strip() for cell in cells)
    annotation = read_integer(number)
    if annotation is None or annotation not in rows:
        findings.problem(
            f"{where}: annotation {number[:40]!r} is none of the dataset's; give ids of its manifest.json", "annotation"
        )
    elif not _NAME.fullmatch(name):
        findings.problem(
            f"{where}: name {name[:60]!r}: letters, digits, '_', '-', 40 at most; part.wing is wing of the group part",
            "name",
        )
    elif name.partition(".")[0] in _TAKEN:
        findings.problem(
            f"{where}: name {name!r} is that of a characteristic that is always there, or of its group; choose another",
            "taken",
        )
    elif not value:
        findings.problem(f"{where}: annotation {annotation} has no value of {name}; leave the line out", "empty")
    elif (annotation, name) in seen:
        findings.problem(f"{where}: annotation {annotation} has a value of {name} already; give one", "twice")
    else:
        seen.add((annotation, name))
        return annotation, name, value
    return None


def object_rows(registered: Dataset, tested: Sequence[ImageRecord], classes: Sequence[str]) -> dict[int, int | None]:
    """Find the object of each annotation id of a registered dataset: its index among those of the images tested.

    None where its image is not tested, or the run leaves its class out. Objects are known again by image, class and
    box; equal ones of one image by their order.

    Args:
        classes: those of the run, which the tested images' labels index.
    """
    found: dict[int, int | None] = {}
    at: dict[int, Iterator[tuple[tuple[str, bytes], int]]] = {}
    start = 0
    for record in tested:
        at[record.id] = zip(_identities(record, classes), range(start, start + len(record.labels)), strict=True)
        start += len(record.labels)
    for record, ids in zip(registered.images, annotation_ids(registered), strict=True):
        places: defaultdict[tuple[str, bytes], list[int]] = defaultdict(list)
        for identity, index in at.get(record.id, ()):
            places[identity].append(index)
        for annotation, identity in zip(ids, _identities(record, registered.classes), strict=True):
            same = places.get(identity)
            found[annotation] = same.pop(0) if same else None
    return found


def _identities(record: ImageRecord, classes: Sequence[str]) -> list[tuple[str, bytes]]:
    return [(classes[label], box.tobytes()) for label, box in zip(record.labels.tolist(), record.boxes, strict=True)]


def no_such_table(folder: Path, name: str) -> str:
    """Say that there is no table of this name, and which there are."""
    there = sorted(path.stem for path in folder.glob("*.csv"))
    return (
        f"diagnose.characteristics = {name!r}: there is no {folder.name}/{name}.csv{nearest(name, there)}; put one "
        f"there (docs/analysis.md), or set it to null; there are: {', '.join(there) or 'none'}"
    )
