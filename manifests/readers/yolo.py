"""Reads YOLO: images/ and labels/ with one line ``class cx cy w h`` per object, in fractions of the image's size."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import exists, read_bytes, read_inside, why_unsafe
from manifests.listing import Listing, is_hidden, list_pictures
from manifests.names import NameIndex, match_names, plain_name, same_name
from manifests.text import decode_text, text_lines
from manifests.values import read_integer, read_number

from .build import build_dataset
from .findings import Findings, FoundImage, FoundObject
from .options import SPLIT_NAMES, ReadOptions
from .unannotated import take_unannotated
from .yolo_layout import YoloLayout, find_layout

_MOST_FRACTION = 2.0  # of an image's side: no box that is merely a little wrong has more


def read_yolo(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read a YOLO dataset; returns it, the folder its file names are relative to, and notes for the user.

    ``path`` is a ``data.yaml``, darknet's ``obj.data``, or a folder with one; or a folder with ``classes.txt`` and
    images/ and labels/ (whose subfolders, if any, are the splits), with folders or lists of the splits, or with
    pictures and labels beside each other. An image without a label file has no objects, as YOLO means it. A label line
    of more than five numbers is a polygon; it is kept as segmentation, and its bounds are the box. The label files of
    the splits ``options.unannotated``, if there are any, are empty, or not read.
    DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    layout = find_layout(Path(path).resolve(), options, findings)
    files = _split_files(layout, findings)
    labels = _labels(layout, files)
    read = [
        _found_image(layout, file, labels.get(file), splits, options, findings)
        for file, splits in sorted(files.items())
    ]
    found = take_unannotated([image for image in read if image is not None], options, findings)
    annotated = {file for file, splits in files.items() if not options.is_unannotated(splits)}
    _note_bare(layout, labels, annotated, findings)
    _note_lone(layout, labels, annotated, findings)
    chosen = options.classes or tuple(layout.classes)
    categories = {label: i for i, label in enumerate(chosen, start=1)}
    name = name or layout.root.name
    dataset, notes = build_dataset(name, layout.root, found, categories, options, findings, layout.listing)
    return dataset, layout.root, notes


def _split_files(layout: YoloLayout, findings: Findings) -> dict[str, tuple[str, ...]]:
    """Splits by image file name (relative to the root); no splits where the source has just one nameless folder."""
    files: dict[str, tuple[str, ...]] = {}
    index = NameIndex(layout.listing.pictures)
    for split, places in layout.places.items():
        for place in places:
            listed = (layout.root / place).is_file()
            names = _listed(layout.root, place, index, findings) if listed else _below(layout, place)
            for file_name in names:
                files[file_name] = (*files.get(file_name, ()), *([split] if split else []))
    return files


def _below(layout: YoloLayout, folder: str) -> Sequence[str]:
    """The pictures in a folder, and below it."""
    if folder == ".":
        return layout.listing.pictures
    if any(map(is_hidden, PurePosixPath(folder).parts)):  # named by the user all the same
        return list_pictures(layout.root / folder).under(folder).pictures
    return [name for name in layout.listing.pictures if name.startswith(f"{folder}/")]


def _listed(root: Path, file: str, index: NameIndex, findings: Findings) -> list[str]:
    """Image file names of a list file, one per line; lines that begin with # are comments."""
    names = []
    shown = PurePosixPath(file).name
    lines = text_lines(decode_text(read_bytes(root / file, shown), shown))
    for number, line in enumerate(map(str.strip, lines), start=1):
        text = plain_name(line).removeprefix(f"{root.as_posix()}/")
        if not text:
            continue
        if why_unsafe(text) is None and exists(root / text):
            names.append(text)
            continue
        found = index.candidates(text)
        if line.startswith("#"):  # a comment, also of a path, but for files that are called so
            found = [name for name in found if any(part.startswith("#") for part in PurePosixPath(name).parts)]
            if not found:
                continue
        if len(found) == 1:
            findings.note(f"{shown}: line {number}: {line!r} is taken as {found[0]}", "taken as")
            names.append(found[0])
        elif len(found) > 1:
            findings.problem(f"{shown}: line {number}: {line!r} may mean {found[0]} or {found[1]}; write its path")
        elif reason := why_unsafe(text):
            findings.problem(f"{shown}: line {number}: {line!r}: {reason}; write it relative to {root}")
        else:
            names.append(text)
    return names


def label_file(file_name: str) -> str:
    """The label file of an image, both relative to the root: the last ``images`` folder becomes ``labels``.

    ``Images`` does, too: :func:`_labels` finds the file whatever the case of its folders.
    """
    path = PurePosixPath(file_name).with_suffix(".txt")
    parts = list(path.parts)
    for i in range(len(parts) - 2, -1, -1):
        if same_name(parts[i]) == "images":
            parts[i] = "labels"
            break
    return "/".join(parts)


def _labels(layout: YoloLayout, images: Iterable[str]) -> dict[str, str]:
    """The label file of each image that has one, whatever its name's case and Unicode form."""
    own = {image: label_file(image) for image in images if why_unsafe(image) is None}
    exact = {image: label for image, label in own.items() if exists(layout.root / label)}
    free = set(_texts(layout.listing)) - set(exact.values())
    loose = match_names({label for image, label in own.items() if image not in exact}, free, folders=False)
    return exact | {image: loose[label] for image, label in own.items() if image not in exact and label in loose}


def _texts(listing: Listing) -> list[str]:
    return [name for name in listing.others if name.lower().endswith(".txt")]


def _note_bare(layout: YoloLayout, labels: Mapping[str, str], annotated: Iterable[str], findings: Findings) -> None:
    """Say which images that are to be annotated have no label file."""
    bare = sorted(name for name in _there(layout, annotated) if name not in labels)
    if bare:
        what = (
            "1 image has no label file and is" if len(bare) == 1 else f"{len(bare)} images have no label file and are"
        )
        findings.note(f"{what} taken to show nothing (such as {bare[0]})")


def _note_lone(layout: YoloLayout, labels: Mapping[str, str], annotated: Collection[str], findings: Findings) -> None:
    """Say which label files have no image, be it one that no list names; ``labels`` are those of the dataset's own."""
    folders = {str(PurePosixPath(label_file(name)).parent) for name in _there(layout, annotated)}
    unannotated = {str(PurePosixPath(label).parent) for image, label in labels.items() if image not in annotated}
    # also where no picture lies at all: in labels/, and beside pictures' folders in those of the other splits
    beside = any(str(PurePosixPath(name).parent) in folders for name in annotated)
    known = {same_name(folder) for folder in folders}
    spare = {same_name(folder) for folder in unannotated} - known

    def holds_labels(folder: PurePosixPath) -> bool:
        if same_name(str(folder)) in known:
            return True
        parts = [same_name(part).removeprefix("obj_").removesuffix("_data") for part in folder.parts]  # CVAT's
        named = "labels" in parts or (beside and not SPLIT_NAMES.isdisjoint(parts))
        return named and same_name(str(folder)) not in spare

    lists = {PurePosixPath(entry).name for entries in layout.places.values() for entry in entries}
    paired = {*labels.values(), *_labels(layout, layout.listing.pictures).values()}
    lone = [name for name in _texts(layout.listing) if name not in paired and holds_labels(PurePosixPath(name).parent)]
    lone = [name for name in lone if PurePosixPath(name).name not in {"classes.txt", *lists}]
    lone = [name for name in lone if not PurePosixPath(name).name.lower().startswith("readme")]
    if lone:
        what = "1 label file has no image" if len(lone) == 1 else f"{len(lone)} label files have no image"
        findings.note(f"{what} (such as {min(lone)})")


def _there(layout: YoloLayout, images: Iterable[str]) -> list[str]:
    return [name for name in images if why_unsafe(name) is None and exists(layout.root / name)]


def _found_image(
    layout: YoloLayout,
    file_name: str,
    label: str | None,
    splits: tuple[str, ...],
    options: ReadOptions,
    findings: Findings,
) -> FoundImage | None:
    where = label or label_file(file_name)
    if options.leaves_unread(splits):
        return FoundImage(file_name, where, (), splits=splits, relative=True, unread=label is not None)
    objects = []
    unreadable = 0
    if label is not None:
        try:
            lines = text_lines(decode_text(read_inside(layout.root, label), label))
        except DatasetError as error:
            findings.problem(error)
            line = f"left out: {where}: the whole image {file_name}: its label file cannot be read"
            findings.left_out([file_name], line, "unread")
            return None
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                objects.append(_found_object(text.split(), layout.classes, f"line {number}"))
            except ValueError as error:
                findings.problem(f"{where}: line {number}: {error}; correct or remove it", str(error))
                unreadable += 1
    return FoundImage(file_name, where, objects, splits=splits, relative=True, unreadable=unreadable)


def _found_object(parts: list[str], classes: list[str], where: str) -> FoundObject:
    """One label line, in fractions of the image's size; ValueError saying what is wrong with it."""
    if len(parts) != 5 and (len(parts) < 7 or len(parts) % 2 == 0):
        raise ValueError(f"it has {len(parts)} numbers, not the 5 of a box or a polygon's 1 + 2n")
    label = read_integer(parts[0])
    if label is None or not 0 <= label < len(classes):
        raise ValueError(f"class number {parts[0][:40]!r} is not one of 0..{len(classes) - 1}")
    try:
        numbers = [read_number(part) for part in parts[1:]]
    except ValueError:
        commas = "; write decimal points, not commas" if any("," in part for part in parts) else ""
        raise ValueError(f"{' '.join(parts)[:60]!r} is not all numbers{commas}") from None
    if any(_MOST_FRACTION < abs(number) < math.inf for number in numbers):
        raise ValueError(
            "it has numbers far above 1, but YOLO's are fractions of the image's width and height; "
            "if these are pixels, divide them by the image's size"
        )
    details: dict[str, Any] = {}
    if len(numbers) == 4:
        cx, cy, w, h = numbers
        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    else:
        xs, ys = numbers[0::2], numbers[1::2]
        box = (min(xs), min(ys), max(xs), max(ys))
        details["segmentation"] = [numbers]
    return FoundObject(where, classes[label], box, " ".join(parts[1:5]), details=details)
