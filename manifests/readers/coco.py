"""Reads COCO instances JSON: one file, or a folder with one file per split as COCO and its exporters lay them out."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import exists, read_bytes, resolve_inside, why_unsafe

from .build import build_dataset
from .findings import Findings, FoundImage, FoundObject
from .options import ReadOptions

_PROBED = 20  # images looked for when guessing the image folder


@dataclass(frozen=True)
class _Source:
    """One JSON file; ``split`` is None where it does not stand for one."""

    path: Path
    folder_name: str | None  # what COCO calls the split's image folder, e.g. train2017
    split: str | None


@dataclass(frozen=True)
class _Content:
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]
    unreadable: list[object]  # the image_id of each annotation without an id of its own


def read_coco(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read COCO; returns the dataset, the folder its file names are relative to, and notes for the user.

    ``path`` is a JSON file, or a folder with ``annotations/instances_<split>.json``, ``instances.json``,
    ``<split>/_annotations.coco.json`` or a single JSON file. Images are looked for beside it unless ``options.images``
    names their folder. One file without a ``split`` per image is split by seed; a file written by this package
    keeps its splits. Image and category ids stay the source's; segmentations (polygons, RLE) are kept as they are.
    DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    sources = _sources(Path(path))
    contents = [_content(source, findings) for source in sources]
    readable = [(s, c) for s, c in zip(sources, contents, strict=True) if c is not None]
    if not readable:
        findings.conclude()
    categories = _categories([c for _, c in readable], options, findings)
    folders = [_image_folder(source, content, options) for source, content in readable]
    root = folders[0] if len(folders) == 1 else _common_parent(folders)
    found: list[FoundImage] = []
    for (source, content), folder in zip(readable, folders, strict=True):
        prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
        found += _found_images(source, content, prefix, findings)
    if len(readable) > 1 and max(Counter(image.id for image in found).values(), default=0) > 1:
        findings.note("image ids repeat from file to file, so the images are numbered anew")
        found = [replace(image, id=None) for image in found]
    default_name = sources[0].path.stem if Path(path).is_file() else Path(path).resolve().name
    dataset, notes = build_dataset(name or default_name, root, found, categories, options, findings)
    return dataset, root, notes


def _sources(path: Path) -> list[_Source]:
    if path.is_file():
        return [_Source(path.resolve(), _folder_name(path), None)]
    for pattern in ("annotations/instances_*.json", "instances*.json", "*/_annotations.coco.json", "*.json"):
        root = path.resolve()
        files = [resolve_inside(root, file.relative_to(root).as_posix()) for file in sorted(root.glob(pattern))]
        if len(files) == 1:
            return [_Source(files[0], _folder_name(files[0]), None)]
        if files and pattern != "*.json":
            return [_Source(file, _folder_name(file), _split_name(_folder_name(file))) for file in files]
        if files:
            names = ", ".join(file.name for file in files[:6])
            raise DatasetError(f"{path}: holds several JSON files; give the path of one: {names}")
    raise DatasetError(f"{path}: is not a COCO JSON file, nor a folder that holds one; give its path")


def _folder_name(path: Path) -> str | None:
    """``instances_train2017.json`` -> ``train2017``; ``train/_annotations.coco.json`` -> ``train``."""
    if path.name == "_annotations.coco.json":
        return path.parent.name
    return path.stem.split("_", 1)[1] if "_" in path.stem else None


def _split_name(folder_name: str | None) -> str:
    """``train2017`` -> ``train``, ``valid`` -> ``val``."""
    plain = re.sub(r"(19|20)\d\d$", "", folder_name or "") or folder_name or "all"
    return "val" if plain == "valid" else plain


def _content(source: _Source, findings: Findings) -> _Content | None:
    name = source.path.name
    try:
        raw = json.loads(read_bytes(source.path, name))
    except DatasetError as error:
        findings.fatal(error)
        return None
    except (ValueError, RecursionError) as error:
        findings.fatal(f"{name}: is not well-formed JSON ({error}); correct it or export it again")
        return None
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(raw, dict) or not isinstance(raw.get(key), list)
    ]
    if missing:
        findings.fatal(f"{name}: has no list {', '.join(missing)}; is it COCO's instances form? export it as that")
        return None
    rows: dict[str, list[dict[str, Any]]] = {}
    unreadable: list[object] = []
    for key in ("images", "annotations", "categories"):
        rows[key] = []
        for number, row in enumerate(raw[key], start=1):
            if isinstance(row, dict) and _is_id(row.get("id")):
                rows[key].append(row)
            else:
                findings.problem(f"{name}: {key} entry {number} is no object with an integer id; correct or remove it")
                if key == "annotations" and isinstance(row, dict):
                    unreadable.append(row.get("image_id"))
    categories: dict[int, str] = {}
    for row in rows["categories"]:
        label = row.get("name")
        if not isinstance(label, str) or not label:
            findings.fatal(f"{name}: category {row['id']} has no name; add one")
        elif row["id"] in categories or label in categories.values():
            findings.fatal(f"{name}: category {row['id']} {label!r} occurs more than once; keep one")
        else:
            categories[row["id"]] = label
    return _Content(rows["images"], rows["annotations"], categories, unreadable)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _meant_id(value: object) -> int | None:
    """The image that an unusable annotation is of, also where it writes the id as a text or as 7.0."""
    try:
        return int(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None


def _categories(contents: Sequence[_Content], options: ReadOptions, findings: Findings) -> dict[str, int]:
    """Classes, in the order of their ids unless ``options.classes`` orders them, with the source's ids."""
    if any(content.categories != contents[0].categories for content in contents):
        findings.fatal("categories: the JSON files do not agree on ids and names; export them with one list")
    by_id = {label: i for i, label in sorted(contents[0].categories.items())}
    if options.classes is None:
        return by_id
    absent = [label for label in options.classes if label not in by_id]
    if absent:
        findings.fatal(f"classes: {', '.join(absent)} not among the source's categories; there are {', '.join(by_id)}")
    return {label: by_id[label] for label in options.classes if label in by_id}


def _image_folder(source: _Source, content: _Content, options: ReadOptions) -> Path:
    """The folder that holds the images of one JSON file: the given one, or the best of the usual places."""
    beside, above = source.path.parent, source.path.parent.parent
    inner = [source.folder_name] if source.folder_name else []
    if options.images is not None:
        given = Path(options.images).resolve()
        if not given.is_dir():
            raise DatasetError(f"{given}: there is no such image folder; correct --images")
        places = [given / part for part in inner] + [given]
    else:
        tops = (beside / "images", beside, above / "images", above)
        places = [top / part for top in tops for part in inner] + list(tops)
    names = [row.get("file_name") for row in content.images[:_PROBED]]
    plain = [name for name in names if isinstance(name, str) and why_unsafe(name) is None]
    hits = {place: sum(exists(place / name) for name in plain) for place in places}
    best = max(places, key=lambda place: hits[place])
    if hits[best] or options.images is not None:
        return best.resolve()
    if not plain:  # nothing to look for: the checks say what is wrong with the names
        return beside
    raise DatasetError(
        f"{source.path.name}: its images (such as {plain[0]!r}) are not beside it; give their folder by --images"
    )


def _common_parent(folders: Sequence[Path]) -> Path:
    root = folders[0]
    while not all(folder.is_relative_to(root) for folder in folders):
        root = root.parent
    return root


def _found_images(source: _Source, content: _Content, prefix: str, findings: Findings) -> list[FoundImage]:
    name = source.path.name
    objects: dict[int, list[FoundObject]] = {row["id"]: [] for row in content.images}
    unreadable = Counter(map(_meant_id, content.unreadable))
    seen: set[int] = set()
    for row in content.annotations:
        where = f"annotation {row['id']}"
        try:
            if row["id"] in seen:
                raise ValueError("its id occurs more than once; give it its own")
            seen.add(row["id"])
            item = _found_object(row, content.categories, where)
            if not _is_id(row.get("image_id")) or row["image_id"] not in objects:
                raise ValueError(f"image_id {row.get('image_id')!r} is not among the images; correct or remove it")
            objects[row["image_id"]].append(item)
        except ValueError as error:
            findings.problem(f"{name}: {where}: {error}", str(error))
            unreadable[_meant_id(row.get("image_id"))] += 1
    found = []
    split_each = source.split is None and all(_own_splits(row) for row in content.images)
    for row in content.images:
        file_name = row.get("file_name")
        if not isinstance(file_name, str):
            findings.problem(f"{name}: image {row['id']} has no file_name; add it or remove the image")
            continue
        stated = (row.get("width"), row.get("height"))
        splits = _own_splits(row) if split_each else (source.split,) if source.split else ()
        found.append(
            FoundImage(
                file_name=prefix + file_name,
                where=f"{name}: image {row['id']} ({file_name})",
                objects=objects[row["id"]],
                id=row["id"],
                stated=(int(stated[0]), int(stated[1])) if all(map(_is_id, stated)) else None,  # type: ignore[arg-type]
                splits=splits,
                unreadable=unreadable[row["id"]],
            )
        )
    return found


def _own_splits(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits that a manifest of this package gives an image; none in plain COCO."""
    values = row.get("splits") or [row.get("split")]
    return tuple(values) if isinstance(values, list) and all(isinstance(v, str) and v for v in values) else ()


def _found_object(row: Mapping[str, Any], categories: Mapping[int, str], where: str) -> FoundObject:
    """One annotation; ValueError saying what is wrong with it and what to do."""
    bbox = row.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise ValueError(f"bbox {str(bbox)[:60]} is not four numbers x, y, w, h; correct or remove it")
    if not _is_id(row.get("category_id")) or row["category_id"] not in categories:
        raise ValueError(f"category_id {row.get('category_id')!r} is not among the categories; correct or remove it")
    flags = {key: row.get(key, 0) for key in ("iscrowd", "difficult", "truncated")}
    for key, value in flags.items():
        if value not in (0, 1):
            raise ValueError(f"{key} is {value!r}, not 0 or 1; correct it")
    x, y, w, h = (float(v) for v in bbox)
    details = {key: row[key] for key in ("occluded", "pose", "segmentation") if row.get(key) not in (None, [], "")}
    area = row.get("area")
    if isinstance(area, int | float) and 0 <= area < 1e300 and area != w * h:
        details["area"] = float(area)
    return FoundObject(
        where=where,
        label=categories[row["category_id"]],
        box=(x, y, x + w, y + h),
        shown=f"bbox [{x:g}, {y:g}, {w:g}, {h:g}]",
        difficult=bool(flags["difficult"]),
        truncated=bool(flags["truncated"]),
        crowd=bool(flags["iscrowd"]),
        details=details,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
