"""VOC's lists of images, ImageSets/Main/*.txt: one per split, or one per class and split."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.errors import DatasetError
from manifests.files import read_bytes, resolve_inside
from manifests.names import plain_name
from manifests.text import decode_text, text_lines

from .findings import Findings

_MEMBERSHIP = frozenset({"-1", "0", "1"})  # what stands behind an image id in the list of one class

Find = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class _Line:
    """A line of a list: the image id, or None where it is none; ``flagged``: with a membership behind it."""

    where: str
    text: str
    image_id: str | None
    flagged: bool = False


def read_lists(folder: Path, find: Find, findings: Findings) -> dict[str, list[str]]:
    """Read the image ids of every split, in the lists' order; empty where there is no list.

    A line is an image id, or the name of a file as tools write it: in quotes, with spaces, folders or an extension.
    ``find`` gives the ids that such a text may mean. Lists of single classes (``aeroplane_train.txt``, ids with -1, 0
    or 1 behind them) are no splits, unless there are no others: then a split is what those of its name list together.
    """
    rows: dict[str, list[_Line]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".txt" or path.name.startswith("."):
            continue
        shown = f"ImageSets/Main/{path.name}"
        try:
            text = decode_text(read_bytes(resolve_inside(folder.resolve(), path.name), shown), shown)
        except DatasetError as error:
            findings.fatal(error)
        else:
            lines = [line.strip() for line in text_lines(text) if line.strip()]
            rows[path.stem] = [_read_line(line, f"{shown} line {n}", find) for n, line in enumerate(lines, start=1)]
    of_class = [split for split, lines in rows.items() if _is_class_specific(split, lines, rows)]
    plain = {split: lines for split, lines in rows.items() if split not in of_class}
    if of_class and not plain:
        return _united({split: rows[split] for split in of_class}, findings)
    splits = {split: _listed(lines, findings) for split, lines in plain.items()}
    for split in [split for split, ids in splits.items() if not ids]:
        findings.note(f"ImageSets/Main/{split}.txt: lists no image, so there is no split {split!r}")
        del splits[split]
    alone = [split for split in of_class if rows[split] and split.rsplit("_", 1)[-1] not in plain]
    if alone:
        findings.note(
            f"ImageSets/Main/{alone[0]}.txt: is the list of one class, of a split that has no list itself, and is not "
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


def _united(lists: Mapping[str, Sequence[_Line]], findings: Findings) -> dict[str, list[str]]:
    """Splits from the lists of single classes: what all lists of one split's name hold, whatever the class."""
    splits: dict[str, dict[str, None]] = {}
    for name, lines in lists.items():
        ids = splits.setdefault(name.rsplit("_", 1)[-1], {})
        ids.update((line.image_id, None) for line in lines if line.image_id is not None)
    splits = {split: ids for split, ids in splits.items() if ids}
    if splits:
        findings.note(
            f"ImageSets/Main has lists of single classes only (such as {next(iter(lists))}.txt); a split is what its "
            f"lists hold together: {', '.join(f'{split} {len(ids)}' for split, ids in splits.items())}"
        )
    return {split: list(ids) for split, ids in splits.items()}
