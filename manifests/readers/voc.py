"""Reads PASCAL VOC: a devkit, or any folder with Annotations/, JPEGImages/ and ImageSets/Main/.

The forms of 2007, 2010 and 2012: ``difficult``, ``truncated``, ``occluded`` and ``pose`` are optional, coordinates may
be fractions, ``part`` boxes inside an object (person layout) are not objects. Coordinates are 1-based with an inclusive
right/bottom edge, so that the box inside is ``xmin - 1, ymin - 1, xmax, ymax``.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as safe_xml
from defusedxml.common import DefusedXmlException

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import read_bytes, resolve_inside

from .build import build_dataset
from .findings import Findings, FoundImage, FoundObject
from .options import ReadOptions

_MAX_XML_BYTES = 16 * 2**20  # the largest of VOC's own is 30 kB
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True, "": False}


def read_voc(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read a VOC dataset; returns it, the folder its file names are relative to, and notes for the user.

    ``path`` is a folder with Annotations/ and JPEGImages/, or ``VOCdevkit``, or its parent. Splits are the files of
    ImageSets/Main (class-specific ones such as ``aeroplane_train.txt`` are none); images in no split are left out.
    Classes are those found, sorted by name (VOC's own order), unless ``options.classes`` names them.
    DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    folder = find_voc_folder(Path(path))
    images = _images_by_id(folder / "JPEGImages", findings)
    splits = _read_splits(folder / "ImageSets" / "Main", findings)
    annotated = {p.stem for p in (folder / "Annotations").iterdir() if p.suffix.lower() == ".xml"}
    if splits:
        wanted = {image_id: None for ids in splits.values() for image_id in ids}
        unlisted = len(annotated - wanted.keys())
        if unlisted:
            findings.note(f"{unlisted} annotated images are in no split of ImageSets/Main and are left out")
    else:
        wanted = dict.fromkeys(sorted(annotated))
        bare = len(images.keys() - annotated)
        if bare:
            findings.note(f"{bare} images without an annotation file are left out")
    found = []
    for image_id in sorted(wanted):
        image_splits = tuple(split for split, ids in splits.items() if image_id in ids)
        image = _found_image(folder, image_id, images, annotated, image_splits, findings)
        if image is not None:
            found.append(image)
    classes = options.classes or sorted({item.label for image in found for item in image.objects})
    categories = {label: i for i, label in enumerate(classes, start=1)}
    dataset, notes = build_dataset(name or folder.name, folder / "JPEGImages", found, categories, options, findings)
    return dataset, folder / "JPEGImages", notes


def find_voc_folder(path: Path) -> Path:
    """The folder with Annotations/ and JPEGImages/ at or below ``path`` (``VOC2007``, ``VOCdevkit``, its parent)."""
    candidates = [path, *sorted(path.glob("VOC[0-9]*")), *sorted(path.glob("VOCdevkit/VOC[0-9]*"))]
    found = [p for p in candidates if (p / "Annotations").is_dir() and (p / "JPEGImages").is_dir()]
    if not found:
        raise DatasetError(
            f"{path}: has no Annotations/ and JPEGImages/, nor has a VOC folder in it; give the folder that holds them"
        )
    if len(found) > 1:
        names = ", ".join(str(p) for p in found)
        raise DatasetError(f"{path}: holds several VOC datasets; give the path of one: {names}")
    return found[0].resolve()


def _images_by_id(folder: Path, findings: Findings) -> dict[str, str]:
    """File names in JPEGImages by image id (the stem); any extension, as converted datasets have them."""
    images: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.stem in images:
            findings.problem(
                f"JPEGImages/{path.name}: has the same image id as {images[path.stem]}; rename or remove one"
            )
        images.setdefault(path.stem, path.name)
    return images


def _read_splits(folder: Path, findings: Findings) -> dict[str, dict[str, None]]:
    """Image ids by split, in the files' order; empty where the dataset has no split files."""
    if not folder.is_dir():
        return {}
    rows: dict[str, list[list[str]]] = {}
    for path in sorted(folder.glob("*.txt")):
        try:
            text = read_bytes(resolve_inside(folder, path.name), f"ImageSets/Main/{path.name}").decode()
        except DatasetError as error:
            findings.fatal(error)
        except UnicodeDecodeError:
            findings.fatal(f"ImageSets/Main/{path.name}: is not UTF-8 text; write one image id per line")
        else:
            rows[path.stem] = [line.split() for line in text.splitlines() if line.strip()]
    splits: dict[str, dict[str, None]] = {}
    for split, lines in rows.items():
        if _is_class_specific(split, lines, rows):
            continue
        splits[split] = {}
        for number, row in enumerate(lines, start=1):
            where = f"ImageSets/Main/{split}.txt line {number}"
            if len(row) != 1:
                findings.problem(f"{where}: {' '.join(row)!r} is not one image id; write one id per line")
            elif row[0] in splits[split]:
                findings.problem(f"{where}: image id {row[0]!r} is listed twice; remove one line")
            else:
                splits[split][row[0]] = None
    for split in [split for split, ids in splits.items() if not ids]:
        findings.note(f"ImageSets/Main/{split}.txt: lists no image, so there is no split {split!r}")
        del splits[split]
    return splits


def _is_class_specific(split: str, lines: list[list[str]], files: Iterable[str]) -> bool:
    """``aeroplane_train``: image ids with -1, 0 or 1 behind them, beside a plain ``train``."""
    if not lines:
        return "_" in split and split.rsplit("_", 1)[1] in files
    return all(len(row) == 2 and row[1] in ("-1", "0", "1") for row in lines)


def _found_image(
    folder: Path,
    image_id: str,
    images: Mapping[str, str],
    annotated: set[str],
    splits: tuple[str, ...],
    findings: Findings,
) -> FoundImage | None:
    where = f"Annotations/{image_id}.xml"
    source = f" (listed in ImageSets/Main/{splits[0]}.txt)" if splits else ""
    if image_id not in images and image_id not in annotated:
        findings.problem(f"{image_id}: no image or annotation has this id{source}; add them or remove the id")
        return None
    if image_id not in images:
        findings.problem(f"{where}: there is no image {image_id}.* in JPEGImages{source}; add it or remove the id")
        return None
    if image_id not in annotated:
        findings.problem(f"{where}: there is no such file{source}; add it or remove the id from the split")
        return None
    try:
        root = parse_xml(read_bytes(resolve_inside(folder / "Annotations", f"{image_id}.xml"), where), where)
    except DatasetError as error:
        findings.problem(error)
        findings.note(f"left out: {where}: the whole image {images[image_id]}: its annotation cannot be read")
        return None
    objects = []
    unreadable = 0
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            objects.append(_found_object(element, f"object {number}"))
        except ValueError as error:
            findings.problem(f"{where}: object {number}: {error}; correct or remove it", str(error))
            unreadable += 1
    stated = _stated_size(root, where, findings)
    return FoundImage(images[image_id], where, objects, None, stated, splits, unreadable=unreadable)


def parse_xml(data: bytes, where: str) -> Element:
    """The root of an untrusted XML document; entities, which could grow without bound or read files, are refused."""
    if len(data) > _MAX_XML_BYTES:
        raise DatasetError(f"{where}: has {len(data)} bytes, far too many for an annotation; replace it")
    try:
        root: Element = safe_xml.fromstring(data)
    except DefusedXmlException:
        raise DatasetError(f"{where}: declares entities, which are not safe to read; remove them") from None
    except (ParseError, ValueError, LookupError) as error:  # the latter two: an unknown or wrong encoding
        raise DatasetError(f"{where}: is not well-formed XML ({error}); correct it") from None
    return root


def _stated_size(root: Element, where: str, findings: Findings) -> tuple[int, int] | None:
    """Width and height as the file states them; None where it does not (some labelling tools write 0 x 0)."""
    texts = [root.findtext(f"size/{key}", "").strip() for key in ("width", "height")]
    if texts in (["", ""], ["0", "0"]):
        return None
    try:
        width, height = (int(float(text)) for text in texts)
    except (ValueError, OverflowError):
        findings.problem(f"{where}: size {texts[0]!r} x {texts[1]!r} is not two numbers; correct or remove <size>")
        return None
    return width, height


def _found_object(element: Element, where: str) -> FoundObject:
    """One ``object`` element; ValueError saying what is wrong with it."""
    label = element.findtext("name", "").strip()
    if not label:
        raise ValueError("it has no class name")
    box = element.find("bndbox")
    if box is None:
        raise ValueError("it has no bndbox")
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = box.findtext(key, "").strip()
        try:
            corners.append(float(text))
        except ValueError:
            raise ValueError(f"{key} is {text!r}, not a number") from None
    details: dict[str, Any] = {}
    if element.find("occluded") is not None:
        details["occluded"] = int(_flag(element, "occluded"))
    if pose := element.findtext("pose", "").strip():
        details["pose"] = pose
    return FoundObject(
        where=where,
        label=label,
        box=from_voc_corners(*corners),
        shown="xmin {:g} ymin {:g} xmax {:g} ymax {:g}".format(*corners),
        difficult=_flag(element, "difficult"),
        truncated=_flag(element, "truncated"),
        details=details,
    )


def _flag(element: Element, key: str) -> bool:
    text = element.findtext(key, "").strip().lower()
    if text not in _FLAGS:
        raise ValueError(f"{key} is {text!r}, not 0 or 1")
    return _FLAGS[text]


def from_voc_corners(xmin: float, ymin: float, xmax: float, ymax: float) -> tuple[float, float, float, float]:
    """1-based inclusive corners -> 0-based, right/bottom exclusive.

    Where ``xmax <= xmin`` the result is left inverted or empty for the checks to find: read to the letter,
    ``xmin == xmax`` is one pixel wide, but in real files it is a click without a drag.
    """
    if xmax <= xmin or ymax <= ymin or not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        return xmin, ymin, xmax, ymax
    return xmin - 1, ymin - 1, xmax, ymax
