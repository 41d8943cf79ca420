"""Reads COCO instances JSON: one file, or a folder with one file per split as COCO and its exporters lay them out."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import DatasetError
from manifests.dataset import Dataset, MaskSource
from manifests.files import exists, read_bytes, why_unsafe
from manifests.listing import Listing, list_outside, list_pictures
from manifests.names import match_names, plain_name, shown_names
from manifests.text import parse_json
from manifests.values import read_flag, read_integer

from .build import build_dataset
from .coco_layout import (
    CocoSource,
    common_parent,
    find_sources,
    image_folder,
    lists_images_only,
    unannotated_split,
)
from .findings import Findings, FoundImage, FoundObject
from .options import ReadOptions
from .unannotated import take_unannotated

_FOLDERS = 4  # counted by name in the note on pictures that no JSON names
_NO_GROUP = ("none", "", None)  # what stands as the group of a category that is in none


@dataclass(frozen=True)
class _Content:
    """What one JSON file holds; all ids are integers, but those of annotations that have none."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]
    groups: dict[int, str]  # of the categories, those that others name as their supercategory
    lost: dict[str, set[str]]  # of images and categories, the ids that are no whole numbers, as ``_shown`` gives them

    @property
    def used(self) -> set[int | None]:
        """The category ids of all annotations."""
        return {read_integer(row.get("category_id")) for row in self.annotations}


def read_coco(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read COCO; returns the dataset, the folder its file names are relative to, and notes for the user.

    ``path`` is a JSON file, or a folder with ``annotations/instances_<split>.json``, ``instances.json``,
    ``<split>/_annotations.coco.json``, ``annotations/<split>.json`` or a single JSON file, in any case. Images are
    looked for beside it unless ``options.images`` names their folder. One file without a ``split`` per image is split
    by seed; a file written by this package keeps its splits. Image and category ids stay the source's; segmentations
    (polygons, RLE) are kept as they are, and with ``options.segmentation`` are the objects' masks. A split of
    ``options.unannotated`` needs no annotations and categories in its JSON, is also read from
    ``image_info_<split>.json``, and where it has no JSON is the pictures in the folder of its name. Every other picture
    below the folder ``path`` is counted in a note.
    DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    sources = find_sources(Path(path), options)
    contents = [_content(source, options, findings) for source in sources if source.path.is_file()]
    first = 1 + max((row["id"] for content in contents if content is not None for row in content.images), default=0)
    contents += _pictures([source.path for source in sources if source.path.is_dir()], first)
    readable = [(s, c) for s, c in zip(sources, contents, strict=True) if c is not None]
    if not readable:
        findings.conclude()
    readable = _without_groups(readable, options, findings)
    bare = [source.split in options.unannotated and not content.categories for source, content in readable]
    named = [c for (_, c), without in zip(readable, bare, strict=True) if not without]
    categories = _categories(named or [c for _, c in readable], options, findings)
    folders = [image_folder(source, [row.get("file_name") for row in c.images], options) for source, c in readable]
    root = folders[0] if len(folders) == 1 else common_parent(folders)
    listings = {folder: list_pictures(folder) for folder in dict.fromkeys(folders)}
    found: list[FoundImage] = []
    for (source, content), folder in zip(readable, folders, strict=True):
        files = _image_files(content, folder, listings[folder], source.path.name, findings)
        prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
        found += _found_images(source, content, files, prefix, options, findings)
    if len(readable) > 1 and max(Counter(image.id for image in found).values(), default=0) > 1:
        findings.note("image ids repeat from file to file, so the images are numbered anew")
        found = [replace(image, id=None) for image in found]
    found = take_unannotated(found, options, findings)
    default_name = sources[0].path.stem if Path(path).is_file() else Path(path).resolve().name
    listing = Listing.joined([one.under(folder.relative_to(root).as_posix()) for folder, one in listings.items()])
    if Path(path).is_dir():
        listing = _with_outside(listing, Path(path).resolve(), root, folders, findings)
    _note_unnamed(listing, {image.file_name for image in found}, Path(path).resolve(), root, sources, findings)
    dataset, notes = build_dataset(name or default_name, root, found, categories, options, findings, listing)
    return dataset, root, notes


def _pictures(folders: Sequence[Path], first_id: int) -> list[_Content]:
    """The pictures of folders without a JSON, numbered from ``first_id`` on."""
    out = []
    for folder in folders:
        names = list_pictures(folder).pictures
        out.append(_Content([{"id": first_id + i, "file_name": name} for i, name in enumerate(names)], [], {}, {}, {}))
        first_id += len(names)
    return out


def _content(source: CocoSource, options: ReadOptions, findings: Findings) -> _Content | None:
    name = source.path.name
    try:
        raw = parse_json(read_bytes(source.path, name), name)
    except DatasetError as error:
        findings.fatal(error)
        return None
    lists = {key: raw.get(key) if isinstance(raw, dict) else None for key in ("images", "annotations", "categories")}
    if isinstance(raw, dict) and source.split in options.unannotated:
        lists |= {key: [] for key in ("annotations", "categories") if lists[key] is None}
    missing = [key for key, rows in lists.items() if not isinstance(rows, list)]
    if missing == ["annotations"] and lists_images_only(source.path):
        findings.fatal(
            f"{name}: lists images only; import the folder in which the JSON to train on is, too, with --unannotated "
            f"{source.split_name}"
        )
        return None
    if missing:
        findings.fatal(f"{name}: has no list {', '.join(missing)}; is it COCO's instances form? export it as that")
        return None
    lost: dict[str, set[str]] = {}
    rows = {key: list(_with_ids(key, lists[key] or [], name, lost, findings)) for key in lists}
    if any(lost.get(key) and not rows[key] for key in lost):
        return None
    categories: dict[int, str] = {}
    groups = _groups(rows["categories"])
    for row in rows["categories"]:
        label = category_label(row.get("name"))
        if label is None:
            findings.fatal(f"{name}: category {row['id']} has no name; add one")
        elif row["id"] in categories or (
            row["id"] not in groups and label in [n for i, n in categories.items() if i not in groups]
        ):
            findings.fatal(f"{name}: category {row['id']} {label!r} occurs more than once; keep one")
        else:
            categories[row["id"]] = label
    return _Content(rows["images"], rows["annotations"], categories, groups, lost)


def _with_ids(
    key: str, rows: list[Any], name: str, lost: dict[str, set[str]], findings: Findings
) -> Iterator[dict[str, Any]]:
    """The rows that are objects, with their ids made integers.

    Nothing refers to an annotation's id, so one that is none is replaced; an image or category without is a problem,
    of which one line tells, and what it has in place of an id is put in ``lost``.
    """
    bad: list[object] = []
    taken = 0
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            findings.problem(f"{name}: {key} entry {number} is no object; correct or remove it", f"form of {key}")
            continue
        row_id = read_integer(row.get("id"))
        if row_id is None:
            bad.append(row.get("id"))
            if key == "annotations":
                yield row | {"id": f"entry {number}"}
            continue
        if isinstance(row["id"], str):
            findings.note(f"{name}: {key} have their ids as texts (such as {row['id']!r}), read as numbers", "ids")
        taken += 1
        yield row if row["id"] is row_id else row | {"id": row_id}
    if not bad:
        return
    of = f"{len(bad)} of {len(rows)} {key}"
    shown = next((f" (such as {_shown(value)})" for value in bad if value is not None), "")
    if key == "annotations":
        findings.note(f"{name}: {of} have no whole number as id{shown}; they are taken without")
        return
    lost[key] = set(map(_shown, bad))
    row_word = "image_id" if key == "images" else "category_id"
    line = (
        f"{name}: {of} have no whole number as id{shown}; number them, and write the same "
        f"numbers as {row_word} of the annotations"
    )
    if taken:
        findings.problem(line)
    else:
        findings.fatal(line)


def category_label(name: object) -> str | None:
    """A category's name as written, also where it is a number; None where it is none."""
    if isinstance(name, str):
        return name if name.strip() else None
    return str(name) if isinstance(name, int | float) and not isinstance(name, bool) else None


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Categories that are groups, as Roboflow writes one: in group "none" or no group, and others are in its own."""
    grouped = {category_label(row.get("supercategory")) for row in rows}
    named = {row["id"]: category_label(row.get("name")) for row in rows if row.get("supercategory") in _NO_GROUP}
    return {i: name for i, name in named.items() if name is not None and name != "none" and name in grouped}


def _without_groups(
    readable: Sequence[tuple[CocoSource, _Content]], options: ReadOptions, findings: Findings
) -> list[tuple[CocoSource, _Content]]:
    """Leave out groups among the categories, but those that have an object and those that ``options.classes`` means."""
    used = set[int | None]().union(*(content.used for _, content in readable))
    others = {name for _, content in readable for i, name in content.categories.items() if i not in content.groups}
    asked_for = set(options.classes or ()) - others
    empty = {
        i: name
        for _, content in readable
        for i, name in content.groups.items()
        if i not in used and name not in asked_for
    }
    for i, name in empty.items():
        findings.note(f"category {i} {name!r} is a group of others without an object of its own, and is left out")
    out = []
    for source, content in readable:
        kept = {i: name for i, name in content.categories.items() if i not in empty}
        for name in [name for name, count in Counter(kept.values()).items() if count > 1]:
            findings.fatal(f"{source.path.name}: category name {name!r} occurs more than once; keep one")
        out.append((source, replace(content, categories=kept)))
    return out


def _categories(contents: Sequence[_Content], options: ReadOptions, findings: Findings) -> dict[str, int]:
    """Classes, in the order of their ids unless ``options.classes`` orders them, with the source's ids."""
    if any(content.categories != contents[0].categories for content in contents):
        findings.fatal("categories: the JSON files do not agree on ids and names; export them with one list")
    by_id = {label: i for i, label in sorted(contents[0].categories.items())}
    if options.classes is None:
        return by_id
    absent = [label for label in options.classes if label not in by_id]
    if absent:
        findings.fatal(
            f"classes: {shown_names(absent)} not among the source's categories; there are {shown_names(by_id)}"
        )
    return {label: by_id[label] for label in options.classes if label in by_id}


def _image_files(content: _Content, folder: Path, listing: Listing, source: str, findings: Findings) -> dict[str, str]:
    """The file of each image by the name that the JSON has: the plain form of it, or the one file that it may mean."""
    written = [row["file_name"] for row in content.images if isinstance(row.get("file_name"), str)]
    plain = {text: text if why_unsafe(text) is None else plain_name(text) for text in written}
    there = {name for name in plain.values() if why_unsafe(name) is None and exists(folder / name)}
    lost = {name for name in plain.values() if name not in there}
    pictures = {*listing.pictures, *listing.unread} - there
    similar = match_names(lost, pictures, folders=True) if lost else {}
    for name, file in similar.items():
        findings.note(f"{source}: file name {name!r} is taken as {file}", "taken as")
    return {text: similar.get(name, name) for text, name in plain.items()}


def _with_outside(listing: Listing, top: Path, root: Path, folders: Sequence[Path], findings: Findings) -> Listing:
    """The listing, and what the dataset's folder ``top`` holds outside of the image folders; all relative to ``root``.

    Of what is passed over there the notes are made here where its names are not below ``root``.
    """
    outside = list_outside(top, folders)
    moved = outside.under(Path(os.path.relpath(top, root)).as_posix())
    if not top.is_relative_to(root):
        for line in outside.passed_over:
            findings.note(line)
        findings.told.update(moved.unread, moved.hidden)
        moved = replace(moved, links=(), closed=())
    return Listing.joined([listing, moved])


def _note_unnamed(
    listing: Listing, named: set[str], top: Path, root: Path, sources: Sequence[CocoSource], findings: Findings
) -> None:
    """Count the pictures that no JSON names by their folders, and say which of these could be a split without."""
    rest = [name for name in listing.pictures if name not in named and name not in findings.told]
    if not rest:
        return
    paths = [(Path(os.path.normpath(root / name)), Path(name)) for name in rest]
    shown = sorted(path.relative_to(top) if path.is_relative_to(top) else name for path, name in paths)
    places = Counter(path.parent.as_posix() for path in shown)
    counts = [f"{count} in {'the folder itself' if at == '.' else at + '/'}" for at, count in places.most_common()]
    if len(counts) > _FOLDERS + 1:
        counts[_FOLDERS:] = [f"the others in {len(counts) - _FOLDERS} more folders"]
    what = "1 picture that no JSON names is" if len(rest) == 1 else f"{len(rest)} pictures that no JSON names are"
    splits = {split: None for at in sorted(places) if top.is_dir() and (split := unannotated_split(at, sources))}
    hint = f"; if nobody has annotated them, take them as a split by --unannotated {','.join(splits)}" if splits else ""
    findings.left_out(rest, f"{what} left out: {', '.join(counts)} (such as {shown[0].as_posix()}){hint}")


def _found_images(
    source: CocoSource,
    content: _Content,
    files: Mapping[str, str],
    prefix: str,
    options: ReadOptions,
    findings: Findings,
) -> list[FoundImage]:
    name = source.path.name
    split_each = source.split is None and all(own_splits(row) for row in content.images)
    splits_of = {
        row["id"]: own_splits(row) if split_each else (source.split,) if source.split else () for row in content.images
    }
    unread = {image_id for image_id, splits in splits_of.items() if options.leaves_unread(splits)}
    annotated = {read_integer(row.get("image_id")) for row in content.annotations}
    objects: dict[int, list[FoundObject]] = {row["id"]: [] for row in content.images}
    unreadable: Counter[int | None] = Counter()
    seen: set[int] = set()
    masks = MaskSource("coco") if options.segmentation else None
    for row in content.annotations:
        if read_integer(row.get("image_id")) in unread:
            continue
        if _shown(row.get("image_id")) in content.lost.get("images", ()):
            continue
        if _shown(row.get("category_id")) in content.lost.get("categories", ()):
            unreadable[read_integer(row.get("image_id"))] += 1
            continue
        where = f"annotation {row['id']}"
        try:
            if row["id"] in seen:
                raise ValueError("its id occurs more than once; give it its own")
            seen.add(row["id"])
            item = _found_object(row, content.categories, where)
            image_id = read_integer(row.get("image_id"))
            if image_id is None or image_id not in objects:
                raise ValueError(
                    f"image_id {_shown(row.get('image_id'))} is not among the images; correct or remove it"
                )
            objects[image_id].append(item)
        except ValueError as error:
            findings.problem(f"{name}: {where}: {error}", str(error))
            unreadable[read_integer(row.get("image_id"))] += 1
    found = []
    for row in content.images:
        file_name = row.get("file_name")
        if not isinstance(file_name, str):
            findings.problem(f"{name}: image {row['id']} has no file_name; add it or remove the image")
            continue
        found.append(
            FoundImage(
                file_name=prefix + files[file_name],
                where=f"{name}: image {row['id']} ({file_name})",
                objects=objects[row["id"]],
                id=row["id"],
                stated=stated_image_size(row),
                splits=splits_of[row["id"]],
                unreadable=unreadable[row["id"]],
                annotated=row.get("annotated") is not False,
                unread=row["id"] in unread & annotated,
                masks=masks if row.get("annotated") is not False else None,
            )
        )
    return found


def stated_image_size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height as integers above 0; anything else (null, 0 x 0, texts) is no statement."""
    stated = [row.get("width"), row.get("height")]
    width, height = (v if isinstance(v, int) and not isinstance(v, bool) else 0 for v in stated)
    return (width, height) if width > 0 and height > 0 else None


def own_splits(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits that a manifest of this package gives an image; none in plain COCO."""
    values = row.get("splits") or [row.get("split")]
    return tuple(values) if isinstance(values, list) and all(isinstance(v, str) and v for v in values) else ()


def _found_object(row: Mapping[str, Any], categories: Mapping[int, str], where: str) -> FoundObject:
    """One annotation; ValueError saying what is wrong with it and what to do."""
    bbox = row.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise ValueError(f"bbox {str(bbox)[:60]} is not four numbers x, y, w, h; correct or remove it")
    category_id = read_integer(row.get("category_id"))
    if category_id is None or category_id not in categories:
        raise ValueError(
            f"category_id {_shown(row.get('category_id'))} is not among the categories; correct or remove it"
        )
    flags = {}
    for key in ("iscrowd", "difficult", "truncated"):
        try:
            flags[key] = read_flag(row.get(key))
        except ValueError as error:
            raise ValueError(f"{key} is {error}; correct it") from None
    x, y, w, h = (float(v) for v in bbox)
    details = {key: row[key] for key in ("occluded", "pose", "segmentation") if row.get(key) not in (None, [], "")}
    area = row.get("area")
    if isinstance(area, int | float) and 0 <= area < 1e300 and area != w * h:
        details["area"] = float(area)
    return FoundObject(
        where=where,
        label=categories[category_id],
        box=(x, y, x + w, y + h),
        shown=f"bbox [{x:g}, {y:g}, {w:g}, {h:g}]",
        difficult=flags["difficult"],
        truncated=flags["truncated"],
        crowd=flags["iscrowd"],
        details=details,
    )


def _shown(value: object) -> str:
    return repr(value)[:60]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
