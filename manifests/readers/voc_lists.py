"""VOC's lists of images, ImageSets/Main/*.txt: one per split, or one per class and split."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache.errors import DatasetError
from manifests.files import read_bytes, resolve_inside
from manifests.listing import is_hidden
from manifests.names import plain_name, shown_names
from manifests.text import decode_text, text_lines

from .findings import Findings
from .options import SPLIT_NAMES

_MEMBERSHIP = frozenset({"-1", "0", "1"})  # what stands behind an image id in the list of one class

Find = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class ListPlace:
    """A folder in which lists may be, and what stands before their names in messages.

    ``kind``: ``main`` is VOC's own place, and ``beside`` the same beside folders that were named one by one; ``sets``
    is ImageSets/ itself, ``top`` the dataset's folder. Lists in ``task``, the other folders of ImageSets/, and in
    ``other`` folders are not read.
    """

    folder: Path
    shown: str
    kind: Literal["main", "beside", "sets", "top", "task", "other"]

    @property
    def files(self) -> list[str]:
        """The names of all text files directly in it, sorted.

        A folder that cannot be listed has none; one that is there for lists is then refused, as its splits are meant.
        """
        try:
            names = sorted(entry.name for entry in self.folder.iterdir())
        except OSError as error:
            if self.kind in ("top", "other"):
                return []
            raise DatasetError(f"{self.shown}: cannot be listed ({error.strerror or error}); allow it") from None
        return [name for name in names if Path(name).suffix.lower() == ".txt" and not is_hidden(name)]


@dataclass(frozen=True)
class SplitLists:
    """The image ids of every split, in the lists' order, and what stands before the lists' names in messages."""

    splits: dict[str, list[str]]
    shown: str = "ImageSets/Main/"


@dataclass(frozen=True)
class _Line:
    """A line of a list: the image id, or None where it is none; ``flagged``: with a membership behind it."""

    where: str
    text: str
    image_id: str | None
    flagged: bool = False


def read_lists(places: Sequence[ListPlace], find: Find, findings: Findings, *, folders: bool = False) -> SplitLists:
    """Read the lists of the first place that has any; those of the others are noted.

    At VOC's own place every text file is a list. Elsewhere a list is read that has the name of a split and whose lines
    name images, most of them. ``folders``: the pictures' folders are splits, which lists at the top do not change.
    """
    lists: SplitLists | None = None
    unread: list[str] = []
    for place in places:
        if place.kind == "task" and lists is not None:
            continue  # VOC has lists for its other tasks beside those that were read
        names, plain = _lists_in(place, find)
        if lists is not None or (place.kind == "top" and folders):
            plain = []
        unread += [f"{place.shown}{name}" for name in names if name not in plain]
        if plain:
            if place.kind != "main":
                findings.note(f"the splits are those of {_shown(f'{place.shown}{name}' for name in plain)}")
            lists = SplitLists(_read_place(place, plain, find, findings), place.shown)
    if unread:
        more = f": {_shown(unread)}" if len(unread) > 1 else ""
        findings.note(f"{unread[0]}: is not read ({len(unread)} such lists{more}); VOC's lists are in ImageSets/Main")
    return lists or SplitLists({})


def _shown(names: Iterable[str]) -> str:
    first, *rest = names
    return shown_names([first, *rest[:7]]) + (", ..." if len(rest) > 7 else "")


def _lists_in(place: ListPlace, find: Find) -> tuple[list[str], list[str]]:
    """What may be lists of a place, and those of them that plainly are lists to read."""
    if place.kind == "main":
        return place.files, place.files
    if place.kind in ("top", "other"):
        names = [name for name in place.files if _has_split_name(name)]
        images = [name for name in names if _names_images(place, name, find)]
        if place.kind == "other":
            return images, []
        return [n for n in names if n in images or _is_split(n)], [n for n in images if _is_split(n)]
    if place.kind == "task":
        return place.files, []
    images = [name for name in place.files if _names_images(place, name, find)]
    return place.files, images if place.kind == "beside" else [name for name in images if _is_split(name)]


def _is_split(name: str) -> bool:
    return Path(name).stem.lower() in SPLIT_NAMES


def _has_split_name(name: str) -> bool:
    """Whether a split's name is part of a file's: ``cup_train.txt``, ``2007_test.txt``."""
    return not SPLIT_NAMES.isdisjoint(re.split(r"[^a-z]+", Path(name).stem.lower()))


def _names_images(place: ListPlace, name: str, find: Find) -> bool:
    """Whether most lines of a file name images of the dataset, so that it is plainly a list of them."""
    try:
        lines = _read_file(place, name, find)
    except DatasetError:
        return False
    known = sum(line.image_id is not None and bool(find(line.image_id)) for line in lines)
    return 2 * known > len(lines)


def _read_file(place: ListPlace, name: str, find: Find) -> list[_Line]:
    shown = f"{place.shown}{name}"
    text = decode_text(read_bytes(resolve_inside(place.folder.resolve(), name), shown), shown)
    lines = [line.strip() for line in text_lines(text) if line.strip()]
    return [_read_line(line, f"{shown} line {n}", find) for n, line in enumerate(lines, start=1)]


def _read_place(place: ListPlace, files: Sequence[str], find: Find, findings: Findings) -> dict[str, list[str]]:
    """Read the image ids of every split, in the lists' order; empty where no list has any.

    A line is an image id, or the name of a file as tools write it: in quotes, with spaces, folders or an extension.
    ``find`` gives the ids that such a text may mean. Lists of single classes (``aeroplane_train.txt``, ids with -1, 0
    or 1 behind them) are no splits, unless there are no others: then a split is what those of its name list together.
    """
    rows: dict[str, list[_Line]] = {}
    for name in files:
        try:
            rows[Path(name).stem] = _read_file(place, name, find)
        except DatasetError as error:
            findings.fatal(error)
    of_class = [split for split, lines in rows.items() if _is_class_specific(split, lines, rows)]
    plain = {split: lines for split, lines in rows.items() if split not in of_class}
    if of_class and not plain:
        return _united({split: rows[split] for split in of_class}, place.shown.rstrip("/"), findings)
    splits = {split: _listed(lines, findings) for split, lines in plain.items()}
    for split in [split for split, ids in splits.items() if not ids]:
        findings.note(f"{place.shown}{split}.txt: lists no image, so there is no split {split!r}")
        del splits[split]
    alone = [split for split in of_class if rows[split] and split.rsplit("_", 1)[-1] not in plain]
    if alone:
        findings.note(
            f"{place.shown}{alone[0]}.txt: is the list of one class, of a split that has no list itself, and is not "
            f"read ({len(alone)} such lists)"
        )
    return splits


def _read_line(text: str, where: str, find: Find) -> _Line:
    found = find(text)
    if len(found) == 1:
        return _Line(where, text, found[0])
    name, _, last = text.rpartition(" ") if " " in text else text.rpartition("\t")
    if name and last in _MEMBERSHIP:
        inner = find(name.strip())
        return _Line(where, text, inner[0] if len(inner) == 1 else plain_name(name), flagged=True)
    return _Line(where, text, None if found or len(text.split()) > 1 else plain_name(text))


def _is_class_specific(split: str, lines: Sequence[_Line], files: Collection[str]) -> bool:
    """``aeroplane_train``: ids with -1, 0 or 1 behind them; if it is empty, by its name beside a plain ``train``."""
    if not lines:
        return "_" in split and split.rsplit("_", 1)[1] in files
    return all(line.flagged for line in lines)


def _listed(lines: Sequence[_Line], findings: Findings) -> list[str]:
    ids: dict[str, None] = {}
    for line in lines:
        if line.image_id is None or line.flagged:
            findings.problem(f"{line.where}: {line.text!r} is not one image id; write one id per line")
        elif line.image_id in ids:
            findings.problem(f"{line.where}: image id {line.image_id!r} is listed twice; remove one line")
        else:
            ids[line.image_id] = None
    return list(ids)


def _united(lists: Mapping[str, Sequence[_Line]], at: str, findings: Findings) -> dict[str, list[str]]:
    """Splits from the lists of single classes: what all lists of one split's name hold, whatever the class."""
    splits: dict[str, dict[str, None]] = {}
    for name, lines in lists.items():
        ids = splits.setdefault(name.rsplit("_", 1)[-1], {})
        ids.update((line.image_id, None) for line in lines if line.image_id is not None)
    splits = {split: ids for split, ids in splits.items() if ids}
    if splits:
        findings.note(
            f"{at} has lists of single classes only (such as {next(iter(lists))}.txt); a split is what its "
            f"lists hold together: {', '.join(f'{split} {len(ids)}' for split, ids in splits.items())}"
        )
    return {split: list(ids) for split, ids in splits.items()}
