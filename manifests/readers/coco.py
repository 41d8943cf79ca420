"""Reads COCO instances JSON: one file, or a folder with one file per split as COCO and its exporters lay them out."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import exists, read_bytes, resolve_inside, why_unsafe
from manifests.listing import Listing, is_hidden, list_pictures
from manifests.names import match_names, plain_name, shown_names
from manifests.text import parse_json
from manifests.values import read_flag, read_integer

from .build import build_dataset
from .findings import Findings, FoundImage, FoundObject
from .options import ReadOptions
from .unannotated import take_unannotated

_IMAGES_ONLY = "image_info_"  # how COCO calls a file without annotations
_PART = re.compile(r"-[a-z]+(?=(19|20)\d\d$)")  # test-dev2017 is a part of test2017 and lies in its folder
_PROBED = 20  # images looked for when guessing the image folder


@dataclass(frozen=True)
class _Source:
    """One JSON file, or the folder of a split without any; ``split`` is None where it does not stand for one."""

    path: Path
    folder_name: str | None  # what COCO calls the split's image folder, e.g. train2017
    split: str | None


@dataclass(frozen=True)
class _Content:
    """What one JSON file holds; all ids are integers. ``folder`` is that of its images."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]
    groups: dict[int, str]  # of the categories, those that others name as their supercategory
    unreadable: list[object]  # the image_id of each annotation without an id of its own

    @property
    def used(self) -> set[int | None]:
        """The category ids of all annotations."""
        return {read_integer(row.get("category_id")) for row in self.annotations}


def read_coco(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read COCO; returns the dataset, the folder its file names are relative to, and notes for the user.

    ``path`` is a JSON file, or a folder with ``annotations/instances_<split>.json``, ``instances.json``,
    ``<split>/_annotations.coco.json`` or a single JSON file. Images are looked for beside it unless ``options.images``
    names their folder. One file without a ``split`` per image is split by seed; a file written by this package
    keeps its splits. Image and category ids stay the source's; segmentations (polygons, RLE) are kept as they are.
    A split of ``options.unannotated`` needs no annotations and categories in its JSON, is also read from
    ``image_info_<split>.json``, and where it has no JSON is the pictures in the folder of its name.
    DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    sources = _sources(Path(path), options)
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
    folders = [_image_folder(source, content, options) for source, content in readable]
    root = folders[0] if len(folders) == 1 else _common_parent(folders)
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
    dataset, notes = build_dataset(name or default_name, root, found, categories, options, findings, listing)
    return dataset, root, notes


def _sources(path: Path, options: ReadOptions) -> list[_Source]:
    """The JSON files with objects, then those that list the images of splits without, then folders of such splits."""
    sources = _instances(path)
    if path.is_file():
        return sources
    root = path.resolve()
    listed = sorted(file for place in ("annotations", ".") for file in root.glob(f"{place}/{_IMAGES_ONLY}*.json"))
    for split in options.unannotated:
        if split in {source.split or _split_name(source.folder_name) for source in sources}:
            continue
        files = [file for file in listed if _split_name(_folder_name(file)) == split]
        folders = [top / split for top in (root, root / "images") if (top / split).is_dir()]
        for place in files or folders[:1]:
            name = _folder_name(place) if files else split
            sources.append(_Source(resolve_inside(root, place.relative_to(root).as_posix()), name, split))
    sources.sort(key=lambda source: source.path.is_dir())
    if len(sources) > 1:
        sources = [replace(one, split=one.split or _split_name(one.folder_name)) for one in sources]
    return sources


def _instances(path: Path) -> list[_Source]:
    if path.is_file():
        return [_Source(path.resolve(), _folder_name(path), None)]
    for pattern in ("annotations/instances_*.json", "instances*.json", "*/_annotations.coco.json", "*.json"):
        root = path.resolve()
        all_files = [file for file in sorted(root.glob(pattern)) if not file.name.startswith(_IMAGES_ONLY)]
        visible = [file for file in all_files if not any(map(is_hidden, file.relative_to(root).parts))]
        files = [resolve_inside(root, file.relative_to(root).as_posix()) for file in visible]
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
    if path.name.startswith(_IMAGES_ONLY):
        return path.stem.removeprefix(_IMAGES_ONLY)
    return path.stem.split("_", 1)[1] if "_" in path.stem else None


def _split_name(folder_name: str | None) -> str:
    """``train2017`` -> ``train``, ``valid`` -> ``val``."""
    plain = re.sub(r"(19|20)\d\d$", "", folder_name or "") or folder_name or "all"
    return "val" if plain == "valid" else plain


def _pictures(folders: Sequence[Path], first_id: int) -> list[_Content]:
    """The pictures of folders without a JSON, numbered from ``first_id`` on."""
    out = []
    for folder in folders:
        names = list_pictures(folder).pictures
        out.append(_Content([{"id": first_id + i, "file_name": name} for i, name in enumerate(names)], [], {}, {}, []))
        first_id += len(names)
    return out


def _content(source: _Source, options: ReadOptions, findings: Findings) -> _Content | None:
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
    if missing == ["annotations"] and name.startswith(_IMAGES_ONLY):
        findings.fatal(
            f"{name}: lists images only; import the folder in which the JSON to train on is, too, with --unannotated "
            f"{_split_name(_folder_name(source.path))}"
        )
        return None
    if missing:
        findings.fatal(f"{name}: has no list {', '.join(missing)}; is it COCO's instances form? export it as that")
        return None
    unreadable: list[object] = []
    rows = {key: list(_with_ids(key, lists[key] or [], name, unreadable, findings)) for key in lists}
    categories: dict[int, str] = {}
    groups = _groups(rows["categories"])
    for row in rows["categories"]:
        label = _label(row.get("name"))
        if label is None:
            findings.fatal(f"{name}: category {row['id']} has no name; add one")
        elif row["id"] in categories or (
            row["id"] not in groups and label in [n for i, n in categories.items() if i not in groups]
        ):
            findings.fatal(f"{name}: category {row['id']} {label!r} occurs more than once; keep one")
        else:
            categories[row["id"]] = label
    return _Content(rows["images"], rows["annotations"], categories, groups, unreadable)


def _with_ids(
    key: str, rows: list[Any], name: str, unreadable: list[object], findings: Findings
) -> Iterator[dict[str, Any]]:
    """The rows that are objects with an id, which is made an integer; of other annotations the image goes on a list."""
    for number, row in enumerate(rows, start=1):
        row_id = read_integer(row.get("id")) if isinstance(row, dict) else None
        if row_id is not None:
            if isinstance(row["id"], str):
                findings.note(f"{name}: {key} have their ids as texts (such as {row['id']!r}), read as numbers", "ids")
            yield row if row["id"] is row_id else row | {"id": row_id}
            continue
        findings.problem(
            f"{name}: {key} entry {number} is no object with an integer id; correct or remove it", f"id of {key}"
        )
        if key == "annotations" and isinstance(row, dict):
            unreadable.append(row.get("image_id"))


def _label(name: object) -> str | None:
    """A category's name as written, also where it is a number; None where it is none."""
    if isinstance(name, str):
        return name if name.strip() else None
    return str(name) if isinstance(name, int | float) and not isinstance(name, bool) else None


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Categories that are groups, as Roboflow writes one: in group "none", and others are in the group of its name."""
    grouped = {_label(row.get("supercategory")) for row in rows}
    named = {row["id"]: _label(row.get("name")) for row in rows if row.get("supercategory") == "none"}
    return {i: name for i, name in named.items() if name is not None and name != "none" and name in grouped}


def _without_groups(
    readable: Sequence[tuple[_Source, _Content]], options: ReadOptions, findings: Findings
) -> list[tuple[_Source, _Content]]:
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


def _image_folder(source: _Source, content: _Content, options: ReadOptions) -> Path:
    """The folder that holds the images of one JSON file: the given one, or the best of the usual places."""
    beside, above = source.path.parent, source.path.parent.parent
    if source.path.is_dir():
        return source.path
    inner = [source.folder_name] if source.folder_name else []
    if (whole := _PART.sub("", source.folder_name or "")) != (source.folder_name or ""):
        inner.append(whole)
    if options.images is not None:
        given = Path(options.images).resolve()
        if not given.is_dir():
            raise DatasetError(f"{given}: there is no such image folder; correct --images")
        places = [given / part for part in inner] + [given]
    else:
        tops = (beside / "images", beside, above / "images", above)
        places = [top / part for top in tops for part in inner] + list(tops)
    written = [row.get("file_name") for row in content.images[:_PROBED]]
    plain = [name for text in written if isinstance(text, str) and why_unsafe(name := plain_name(text)) is None]
    hits = {place: sum(exists(place / name) for name in plain) for place in places}
    best = max(places, key=lambda place: hits[place])
    if not hits[best]:  # in another case or Unicode form, or in other folders
        places = [place for place in places if place != above]  # which holds more than this dataset, maybe
        hits = {place: len(match_names(plain, _visible(place), folders=True)) for place in places}
        best = max(places, key=lambda place: hits[place])
    if hits[best] or options.images is not None:
        return best.resolve()
    if not plain:  # nothing to look for: the checks say what is wrong with the names
        return beside
    raise DatasetError(
        f"{source.path.name}: its images (such as {plain[0]!r}) are not beside it; give their folder by --images"
    )


def _visible(folder: Path) -> set[str]:
    """The pictures that lie in a folder itself, and one folder down."""
    found = [*folder.glob("*"), *folder.glob("*/*")] if folder.is_dir() else []
    return {path.relative_to(folder).as_posix() for path in found}


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


def _common_parent(folders: Sequence[Path]) -> Path:
    root = folders[0]
    while not all(folder.is_relative_to(root) for folder in folders):
        root = root.parent
    return root


def _found_images(
    source: _Source,
    content: _Content,
    files: Mapping[str, str],
    prefix: str,
    options: ReadOptions,
    findings: Findings,
) -> list[FoundImage]:
    name = source.path.name
    split_each = source.split is None and all(_own_splits(row) for row in content.images)
    splits_of = {
        row["id"]: _own_splits(row) if split_each else (source.split,) if source.split else () for row in content.images
    }
    unread = {image_id for image_id, splits in splits_of.items() if options.leaves_unread(splits)}
    annotated = {read_integer(row.get("image_id")) for row in content.annotations}
    objects: dict[int, list[FoundObject]] = {row["id"]: [] for row in content.images}
    unreadable = Counter(map(read_integer, content.unreadable))
    seen: set[int] = set()
    for row in content.annotations:
        if read_integer(row.get("image_id")) in unread:
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
                stated=_stated_size(row),
                splits=splits_of[row["id"]],
                unreadable=unreadable[row["id"]],
                annotated=row.get("annotated") is not False,
                unread=row["id"] in unread & annotated,
            )
        )
    return found


def _stated_size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height as integers above 0; anything else (null, 0 x 0, texts) is no statement."""
    stated = [row.get("width"), row.get("height")]
    width, height = (v if isinstance(v, int) and not isinstance(v, bool) else 0 for v in stated)
    return (width, height) if width > 0 and height > 0 else None


def _own_splits(row: Mapping[str, Any]) -> tuple[str, ...]:
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
