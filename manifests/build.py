"""From what a reader found in its source to a checked dataset: the checks that all formats share."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import Dataset, ImageRecord
from .errors import DatasetError
from .files import sha256_of, why_unsafe
from .findings import Findings
from .images import ImageSource, decode_oriented
from .options import ReadOptions
from .splits import drawn_split, most_specific


@dataclass(frozen=True)
class FoundObject:
    """An object as the source has it; ``box`` already x1, y1, x2, y2, px, 0-based, right/bottom exclusive."""

    where: str  # for messages, e.g. "object 3"
    label: str
    box: tuple[float, float, float, float]
    shown: str  # the box in the source's own terms, for messages
    difficult: bool = False
    truncated: bool = False
    crowd: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundImage:
    """An image as the source has it.

    ``where`` names its annotation, for messages; ``stated`` is the source's width and height. ``relative``: boxes and
    polygons are fractions of the upright image's width and height (YOLO), not pixels. ``category`` is the class of the
    whole picture, in a source without boxes.
    """

    file_name: str
    where: str
    objects: Sequence[FoundObject]
    id: int | None = None
    stated: tuple[int, int] | None = None
    splits: tuple[str, ...] = ()
    relative: bool = False
    category: str | None = None


@dataclass(frozen=True)
class _File:
    sha256: str
    width: int
    height: int
    orientation: int


def build_dataset(
    name: str,
    root: Path,
    found: Sequence[FoundImage],
    categories: Mapping[str, int],
    options: ReadOptions,
    findings: Findings,
) -> tuple[Dataset, list[str]]:
    """Check every image and box, and make the dataset; returns it with all notes.

    ``categories`` are the classes in order, with their category ids. Images keep the source's ids, or get 1.. in the
    order of their file names. Raises DatasetError with all problems, those already in ``findings`` among them.
    """
    found = sorted(_usable_names(root, found, findings), key=lambda image: image.file_name)
    if not found:
        findings.fatal(f"{root}: the dataset has no images; check the path and the format")
    splits = _splits(found, options, findings)
    tally: Counter[str] = Counter()
    label_of = {label: i for i, label in enumerate(categories)}
    records = []
    for number, (image, file) in enumerate(zip(found, _check_files(root, found, options), strict=True), start=1):
        if isinstance(file, DatasetError):
            findings.problem(file)
            if image.stated is not None:  # so that what is wrong with its boxes is told in the same report
                size = _File("", *image.stated, orientation=1)
                list(_checked(image.where, image.objects, size, label_of, options, findings, Counter()))
            continue
        stated_objects = _in_upright_pixels(image, file, findings, tally)
        if stated_objects is None:
            continue
        objects = list(_checked(image.where, stated_objects, file, label_of, options, findings, tally))
        if stated_objects and not objects:
            # kept, it would teach that what it shows is background
            findings.note(f"left out: {image.where}: none of its {len(stated_objects)} boxes can be used")
        else:
            records.append(_record(image, number, file, splits[image.file_name], objects, label_of))
    if found and not records and not findings.stops:
        findings.fatal(f"{root}: no usable image is left; correct the other problems first")
    _note_drawn(found, records, options, findings)
    _note_tally(tally, findings)
    _note_repeated_pictures(records, findings)
    dataset = Dataset(name, tuple(categories), tuple(records), tuple(categories.values()))
    return dataset, findings.conclude()


def _usable_names(root: Path, found: Sequence[FoundImage], findings: Findings) -> Iterator[FoundImage]:
    ids: dict[int, str] = {}
    names: set[str] = set()
    for image in found:
        reason = why_unsafe(image.file_name)
        if reason:
            findings.problem(f"{image.file_name}: {reason}; name the file relative to {root}")
        elif image.file_name in names:
            findings.problem(f"{image.where}: file name {image.file_name!r} occurs more than once; keep one entry")
        elif image.id is not None and image.id in ids:
            findings.problem(
                f"{image.where}: image id {image.id} is already that of {ids[image.id]}; give each image its own id"
            )
        else:
            names.add(image.file_name)
            if image.id is not None:
                ids[image.id] = image.file_name
            yield image


def _splits(
    found: Sequence[FoundImage], options: ReadOptions, findings: Findings
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """By file name: the image's own split, and all splits that it is in."""
    if not any(image.splits for image in found):
        drawn = {image.file_name: drawn_split(image.file_name, options.seed, options.fractions) for image in found}
        return {name: (split, (split,)) for name, split in drawn.items()}
    counts = Counter(split for image in found for split in image.splits)
    for image in found:
        if "test" in image.splits and len(image.splits) > 1:
            others = ", ".join(sorted(set(image.splits) - {"test"}))
            findings.note(f"{image.file_name}: is in split test and also in {others}")
    return {image.file_name: (most_specific(image.splits, counts), tuple(sorted(set(image.splits)))) for image in found}


def _check_files(root: Path, found: Sequence[FoundImage], options: ReadOptions) -> Iterator[_File | DatasetError]:
    """Read, hash and fully decode every image, in threads (the decoders release the interpreter lock)."""
    source = ImageSource(root)

    def check(image: FoundImage) -> _File | DatasetError:
        try:
            data = source.file_bytes(image.file_name)
            pixels, orientation = decode_oriented(data, image.file_name, max_pixels=options.max_pixels)
        except DatasetError as error:
            return error
        return _File(sha256_of(data), pixels.shape[1], pixels.shape[0], orientation)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(check, found)


def _in_upright_pixels(
    image: FoundImage, file: _File, findings: Findings, tally: Counter[str]
) -> list[FoundObject] | None:
    """The image's objects in pixels of the upright image; None where the stated size does not fit the image.

    An annotation whose stated size is that of the pixels before the EXIF turn was drawn on the unturned picture (as
    older labelling tools show it), so its boxes are turned with the picture; its segmentations are dropped.
    """
    if image.relative:
        tally["upright"] += file.orientation != 1
        return [_scaled(item, file.width, file.height) for item in image.objects]
    if image.stated in (None, (file.width, file.height)):
        tally["upright"] += file.orientation != 1 and image.category is None
        return list(image.objects)
    if image.stated == (file.height, file.width) and file.orientation >= 5:
        tally["turned"] += 1
        return [_turned(item, file) for item in image.objects]
    assert image.stated is not None
    findings.problem(
        f"{image.where}: says {image.stated[0]} x {image.stated[1]} but the image {image.file_name} is {file.width} x "
        f"{file.height}; correct the size, and the boxes if they were drawn on another picture"
    )
    return None


def _scaled(item: FoundObject, width: int, height: int) -> FoundObject:
    """Fractions of the image's size -> pixels."""
    x1, y1, x2, y2 = item.box
    details = dict(item.details)
    if "segmentation" in details:
        details["segmentation"] = [
            [v * (height if i % 2 else width) for i, v in enumerate(polygon)] for polygon in details["segmentation"]
        ]
    return replace(item, box=(x1 * width, y1 * height, x2 * width, y2 * height), details=details)


def _turned(item: FoundObject, file: _File) -> FoundObject:
    details = {key: value for key, value in item.details.items() if key != "segmentation"}
    return replace(item, box=_turned_box(item.box, file.orientation, file.width, file.height), details=details)


def _turned_box(
    box: tuple[float, float, float, float], orientation: int, width: int, height: int
) -> tuple[float, float, float, float]:
    """A box of the stored pixels in the upright ``width`` x ``height`` image, for the orientations that transpose."""
    y1, x1, y2, x2 = box
    if orientation in (6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (7, 8):
        y1, y2 = height - y2, height - y1
    return x1, y1, x2, y2


def _checked(
    image_where: str,
    objects: Sequence[FoundObject],
    file: _File,
    label_of: Mapping[str, int],
    options: ReadOptions,
    findings: Findings,
    tally: Counter[str],
) -> Iterator[FoundObject]:
    """The usable objects of one image, clipped to it; every other one is a problem."""
    for item in objects:
        where = f"{image_where}: {item.where}"
        x1, y1, x2, y2 = item.box
        if item.label not in label_of:
            known = ", ".join(list(label_of)[:8]) + (", ..." if len(label_of) > 8 else "")
            findings.problem(f"{where}: class {item.label!r} is unknown; add it to the classes ({known}) or correct it")
            continue
        if not np.isfinite(item.box).all():
            findings.problem(f"{where}: box {item.shown} is not finite; correct or remove it")
            continue
        if x2 <= x1 or y2 <= y1:
            findings.problem(f"{where}: box {item.shown} is empty or inverted; correct or remove it")
            continue
        overhang = max(-x1, -y1, x2 - file.width, y2 - file.height)
        clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(file.width)), min(y2, float(file.height)))
        as_kept = np.array(clipped, np.float32)
        if overhang > options.tolerance_px or not (as_kept[2:] > as_kept[:2]).all():
            findings.problem(
                f"{where}: box {item.shown} leaves the {file.width} x {file.height} image by {overhang:g} px; "
                "correct or remove it"
            )
            continue
        tally["clipped"] += overhang > 0.01  # less is the arithmetic of fractions, not worth a word
        yield replace(item, box=clipped)


def _record(
    image: FoundImage,
    number: int,
    file: _File,
    splits: tuple[str, tuple[str, ...]],
    objects: Sequence[FoundObject],
    label_of: Mapping[str, int],
) -> ImageRecord:
    return ImageRecord(
        id=number if image.id is None else image.id,
        file_name=image.file_name,
        width=file.width,
        height=file.height,
        sha256=file.sha256,
        split=splits[0],
        splits=splits[1],
        boxes=np.array([item.box for item in objects], np.float32).reshape(-1, 4),
        labels=np.array([label_of[item.label] for item in objects], np.int64),
        difficult=np.array([item.difficult for item in objects], bool),
        truncated=np.array([item.truncated for item in objects], bool),
        crowd=np.array([item.crowd for item in objects], bool),
        details=tuple(item.details for item in objects),
        category=None if image.category is None else label_of[image.category],
    )


def _note_drawn(
    found: Sequence[FoundImage], records: Sequence[ImageRecord], options: ReadOptions, findings: Findings
) -> None:
    if any(image.splits for image in found):
        return
    counts = Counter(record.split for record in records)
    shares = ", ".join(f"{name} {counts[name]} images" for name in options.fractions)
    findings.note(f"the source has no splits: drawn by seed {options.seed} from the file names: {shares}")


def _note_tally(tally: Counter[str], findings: Findings) -> None:
    if tally["clipped"]:
        findings.note(f"{tally['clipped']} boxes stuck out of their image by rounding and were clipped to it")
    if tally["upright"]:
        findings.note(
            f"{tally['upright']} images are turned by EXIF; their boxes are taken as drawn on the upright picture"
        )
    if tally["turned"]:
        findings.note(f"{tally['turned']} images were annotated before their EXIF turn; their boxes were turned too")


def _note_repeated_pictures(records: Sequence[ImageRecord], findings: Findings) -> None:
    first: dict[str, ImageRecord] = {}
    for record in records:
        other = first.setdefault(record.sha256, record)
        if other is not record:
            across = "" if other.split == record.split else f", across the splits {other.split} and {record.split}"
            findings.note(f"{record.file_name}: is the same picture as {other.file_name}{across}")
