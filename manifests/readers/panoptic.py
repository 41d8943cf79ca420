"""Reads COCO's panoptic form: a JSON of segments, and PNG files whose colours are the segments' ids."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import DatasetError
from manifests.dataset import Dataset, MaskSource, Segment
from manifests.files import exists, read_bytes, why_unsafe
from manifests.listing import Listing, inner_folder, list_pictures
from manifests.masks.examine import Examined, Part, examine_all
from manifests.text import parse_json
from manifests.values import read_flag, read_integer

from .build import build_dataset
from .coco import category_label, own_splits, stated_image_size
from .coco_layout import CocoSource, common_parent, image_folder, panoptic_sources
from .findings import Findings, FoundImage, FoundObject
from .mask_checks import examined_or_left_out, foreign_values, found_object
from .options import ReadOptions

_PROBED = 20  # masks looked for when guessing their folder


def read_panoptic(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str], Path]:
    """Read COCO's panoptic form; returns the dataset, its images' folder, notes, and the folder of its masks.

    ``path`` is a JSON file, or a folder with ``panoptic_<split>.json`` in it or in ``annotations/``. Its masks are in
    the folder of the JSON's name beside it, or in ``masks/``, unless ``options.masks`` names their folder. Images,
    splits and category ids are as in :func:`~manifests.readers.coco.read_coco`. A thing's box is that of its mask;
    crowds are void and so are pixels in no segment. ``options.stuff`` and ``options.min_pixels`` say what becomes of
    stuff and of small things. DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    sources = panoptic_sources(Path(path))
    contents = [(source, content) for source in sources if (content := _content(source, findings)) is not None]
    if not contents:
        findings.conclude()
    categories = _categories([content for _, content in contents], options, findings)
    folders = [image_folder(s, [row.get("file_name") for row in c.images], options) for s, c in contents]
    places = [_mask_folder(source, content, options) for source, content in contents]
    root, mask_root = common_parent(folders), common_parent([place.parent for place in places])
    found: list[FoundImage] = []
    for (source, content), folder, place in zip(contents, folders, places, strict=True):
        prefixes = (_below(folder, root), _below(place, mask_root))
        found += _found_images(source, content, mask_root, prefixes, options, findings)
    if len(contents) > 1 and max(Counter(image.id for image in found).values(), default=0) > 1:
        findings.note("image ids repeat from file to file, so the images are numbered anew")
        found = [replace(image, id=None) for image in found]
    listings = {folder: list_pictures(folder) for folder in dict.fromkeys(folders)}
    listing = Listing.joined([one.under(folder.relative_to(root).as_posix()) for folder, one in listings.items()])
    dataset, notes = build_dataset(
        name or contents[0][0].path.stem, root, found, categories, options, findings, listing
    )
    return dataset, root, notes, mask_root


@dataclass(frozen=True)
class _Category:
    """A category; a ``thing`` can be counted, stuff cannot."""

    label: str
    thing: bool


@dataclass(frozen=True)
class _Content:
    """One JSON file: its images and, by image id, the annotation of each; its categories by id."""

    images: list[dict[str, Any]]
    annotations: dict[int, dict[str, Any]]
    categories: dict[int, _Category]


def _content(source: CocoSource, findings: Findings) -> _Content | None:
    """Read a JSON file; None where it is not in this form, which is fatal."""
    name = source.path.name
    try:
        raw = parse_json(read_bytes(source.path, name), name)
    except DatasetError as error:
        findings.fatal(error)
        return None
    lists = {key: raw.get(key) if isinstance(raw, dict) else None for key in ("images", "annotations", "categories")}
    if missing := [key for key, rows in lists.items() if not isinstance(rows, list)]:
        findings.fatal(f"{name}: has no list {', '.join(missing)}; is it COCO's panoptic form? export it as that")
        return None
    rows = {key: [row for row in lists[key] or [] if isinstance(row, dict)] for key in lists}
    for key, kept in rows.items():
        if lost := len(lists[key] or []) - len(kept):
            findings.problem(f"{name}: {lost} of its {key} are no objects; correct or remove them")
    if rows["annotations"] and not any("segments_info" in row for row in rows["annotations"]):
        findings.fatal(f"{name}: its annotations have no segments_info; for boxes and polygons use `import coco`")
        return None
    categories: dict[int, _Category] = {}
    for row in rows["categories"]:
        category_id, label = read_integer(row.get("id")), category_label(row.get("name"))
        if category_id is None or label is None or category_id in categories:
            findings.fatal(f"{name}: category {row.get('id')!r} {label!r}: has no id and name of its own; correct it")
        else:
            categories[category_id] = _Category(label, row.get("isthing", 1) not in (0, False))
    annotations: dict[int, dict[str, Any]] = {}
    for row in rows["annotations"]:
        image_id = read_integer(row.get("image_id"))
        if image_id is None or image_id in annotations:
            what = "is that of another annotation, too" if image_id in annotations else "is no whole number"
            findings.problem(f"{name}: image_id {row.get('image_id')!r} {what}; keep one annotation for each image")
        else:
            annotations[image_id] = row
    return _Content(rows["images"], annotations, categories)


def _categories(contents: Sequence[_Content], options: ReadOptions, findings: Findings) -> dict[str, int]:
    """Category ids by class: of things and, where ``options.stuff`` is "class", of stuff, in the ids' order."""
    if any(content.categories != contents[0].categories for content in contents):
        findings.fatal("categories: the JSON files do not agree on ids and names; export them with one list")
    taken = {i: one for i, one in sorted(contents[0].categories.items()) if one.thing or options.stuff == "class"}
    by_label = {one.label: i for i, one in taken.items()}
    if len(by_label) < len(taken):
        findings.fatal("categories: a name occurs more than once; keep one")
    absent = [label for label in options.classes or () if label not in by_label]
    if absent:
        findings.fatal(f"classes: {', '.join(absent)} not among the source's categories; correct --classes")
    return (
        by_label
        if options.classes is None
        else {label: by_label[label] for label in options.classes if label in by_label}
    )


def _mask_folder(source: CocoSource, content: _Content, options: ReadOptions) -> Path:
    """The folder of a JSON file's masks: the given one, else that of the JSON's name or ``masks/`` which has them."""
    stem, beside = source.path.stem, source.path.parent
    if options.masks is not None:
        given = Path(options.masks).resolve()
        if not given.is_dir():
            raise DatasetError(f"{given}: there is no such folder; correct --masks")
        return inner_folder(given, stem) or given
    names = [row.get("file_name") for row in content.annotations.values()][:_PROBED]
    plain = [name for name in names if isinstance(name, str) and why_unsafe(name) is None]
    tops = [inner_folder(top, name) for top in (beside, beside.parent) for name in (stem, "masks")]
    places = [place for place in tops if place is not None]
    if not places:
        raise DatasetError(
            f"{source.path.name}: there is no folder {stem}/ or masks/ beside it; name that of its PNG files by --masks"
        )
    return max(places, key=lambda place: sum(exists(place / name) for name in plain)).resolve()


def _below(folder: Path, root: Path) -> str:
    return "" if folder == root else folder.relative_to(root).as_posix() + "/"


def _found_images(
    source: CocoSource,
    content: _Content,
    mask_root: Path,
    prefixes: tuple[str, str],
    options: ReadOptions,
    findings: Findings,
) -> Iterator[FoundImage]:
    """The images of one JSON file whose masks can be used."""
    rows = list(_usable_rows(source.path.name, content, prefixes[1], mask_root, findings))
    whole = [replace(m, segments=tuple(replace(one, void=False) for one in m.segments)) for _, m in rows]
    examined = examine_all(mask_root, whole)  # crowds, too, have boxes
    stuff: Counter[str] = Counter()
    split_each = source.split is None and all(own_splits(row) for row in content.images)
    for (row, masks), one in zip(rows, examined, strict=True):
        name = f"{source.path.name}: image {row['id']} ({row['file_name']})"
        taken = examined_or_left_out(one, prefixes[0] + row["file_name"], findings)
        if taken is None:
            continue
        if line := foreign_values(taken, {}, (segment.category_id for segment in masks.segments)):
            findings.problem(line)
            continue
        objects, segments = _objects(taken, masks.segments, content.categories, options, stuff)
        yield FoundImage(
            file_name=prefixes[0] + row["file_name"],
            where=name,
            objects=objects,
            id=row["id"],
            stated=stated_image_size(row),
            splits=own_splits(row) if split_each else (source.split,) if source.split else (),
            masks=replace(taken.masks, segments=segments),
            mask_size=taken.size,
        )
    _note(source.path.name, stuff, options, findings)


def _usable_rows(
    name: str, content: _Content, prefix: str, root: Path, findings: Findings
) -> Iterator[tuple[dict[str, Any], MaskSource]]:
    """The images of a JSON file with their masks; what is missing or wrong is a problem."""
    for row in content.images:
        image_id, file_name = read_integer(row.get("id")), row.get("file_name")
        if image_id is None or not isinstance(file_name, str):
            findings.problem(f"{name}: an image has no id or file_name (it has {str(row)[:60]}); correct or remove it")
            continue
        annotation = content.annotations.get(image_id)
        if annotation is None:
            findings.problem(f"{name}: image {image_id} ({file_name}) has no annotation; add it or remove the image")
            continue
        mask = annotation.get("file_name")
        if not isinstance(mask, str) or why_unsafe(mask) is not None:
            findings.problem(f"{name}: image {image_id} ({file_name}): its mask's file_name is {mask!r}; correct it")
        elif not exists(root / (prefix + mask)):
            findings.problem(f"{prefix}{mask}: there is no such file in {root}, but {name} names it", "no such mask")
        else:
            try:
                segments = tuple(_segments(annotation, content.categories))
            except ValueError as error:
                findings.problem(f"{name}: image {image_id} ({file_name}): {error}; correct it", str(error))
                continue
            yield row | {"id": image_id}, MaskSource("panoptic", object_map=prefix + mask, segments=segments)


def _segments(annotation: Mapping[str, Any], categories: Mapping[int, _Category]) -> Iterator[Segment]:
    """The segments of one annotation, crowds among them; ValueError saying what is wrong with one."""
    rows = annotation.get("segments_info")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its segments_info is no list of segments")
    seen: set[int] = set()
    for row in rows:
        segment_id, category_id = read_integer(row.get("id")), read_integer(row.get("category_id"))
        if segment_id is None or not 1 <= segment_id < 1 << 24 or segment_id in seen:
            raise ValueError(f"its segment id {row.get('id')!r} is not a number of its own from 1 to 2 ** 24 - 1")
        if category_id not in categories:
            raise ValueError(f"category_id {row.get('category_id')!r} of a segment is not among the categories")
        assert category_id is not None
        seen.add(segment_id)
        try:
            yield Segment(segment_id, category_id, read_flag(row.get("iscrowd")))
        except ValueError as error:
            raise ValueError(f"iscrowd of a segment is {error}") from None


def _objects(
    examined: Examined,
    found: Sequence[Segment],
    categories: Mapping[int, _Category],
    options: ReadOptions,
    tally: Counter[str],
) -> tuple[list[FoundObject], tuple[Segment, ...]]:
    """The objects of an image, with boxes of their masks, and its segments, void where they are to be left out.

    Of the segments ``found`` in the JSON the crowds are void.
    """
    parts = {part.number: part for part in examined.parts}
    objects, segments = [], []
    for segment in found:
        part, category = parts.get(segment.id), categories[segment.category_id]
        is_stuff = not category.thing and options.stuff != "class"
        small = part is not None and category.thing and not segment.void and part.pixels < options.min_pixels
        tally["stuff"] += is_stuff
        tally["small"] += small
        tally["empty"] += part is None
        void = segment.void or small or (is_stuff and options.stuff == "void")
        segments.append(replace(segment, void=void))
        if part is not None and not is_stuff:
            objects.append(_object(part, category.label, segment.void, small))
    return objects, tuple(segments)


def _object(part: Part, label: str, crowd: bool, small: bool) -> FoundObject:
    return replace(found_object(part, label, f"segment {part.number}"), crowd=crowd, difficult=small)


def _note(name: str, tally: Counter[str], options: ReadOptions, findings: Findings) -> None:
    if tally["stuff"]:
        as_what = "void" if options.stuff == "void" else "background"
        findings.note(
            f"{name}: {tally['stuff']} segments of stuff are {as_what}; --stuff class makes classes of them, "
            f"--stuff {'background' if as_what == 'void' else 'void'} leaves them "
            f"{'as background' if as_what == 'void' else 'out of every count'}"
        )
    if tally["small"]:
        findings.note(
            f"{name}: {tally['small']} things of fewer than {options.min_pixels} pixels are void, their boxes difficult"
        )
    if tally["empty"]:
        findings.note(f"{name}: {tally['empty']} segments have no pixel in their PNG, and are left out")
