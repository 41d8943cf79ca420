"""Where a YOLO dataset's pictures are, in which splits, and what its classes are called."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cache.errors import DatasetError
from manifests.files import read_bytes, read_inside, resolve_inside
from manifests.listing import Listing, inner_folder, is_hidden, list_pictures
from manifests.names import NameIndex, plain_name
from manifests.text import decode_text, parse_yaml, text_lines
from manifests.values import read_integer

from .findings import Findings
from .options import SPLIT_NAMES, ReadOptions

_NOTHING = frozenset({"", "~", "null", "none", "false"})  # a split that is not there, as YAML and people write it
_LISTS = {"train.txt": "train", "val.txt": "val", "valid.txt": "val", "test.txt": "test"}


@dataclass(frozen=True)
class YoloLayout:
    """A YOLO dataset's folder, what is in it, its class names by number, and its pictures' places by split.

    ``places`` are folders and list files below ``root``; the split is "" where the source has none.
    """

    root: Path
    listing: Listing
    classes: list[str]
    places: Mapping[str, list[str]]


def find_layout(path: Path, options: ReadOptions, findings: Findings) -> YoloLayout:
    """Find a dataset by its data.yaml or darknet's ``.data`` file, or by the folders and lists that there are."""
    description = path if path.is_file() else _description(path)
    root = path.parent if path.is_file() else path
    if description is None:
        listing = list_pictures(root)
        return YoloLayout(root, listing, _read_classes(root, options), _plain_places(root, listing, findings))
    if description.suffix.lower() == ".data":
        return _read_darknet(description, options, findings)
    return _read_description(description, findings)


def _description(folder: Path) -> Path | None:
    """The YAML file that describes a dataset, or darknet's ``.data``; None where there is neither."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder; correct the path")
    visible = sorted(p for p in folder.iterdir() if not is_hidden(p.name))
    for suffixes in ((".yaml", ".yml"), (".data",)):
        if suffixes == (".data",) and inner_folder(folder, "images") is not None:
            continue  # a file of another program's
        files = [file for file in visible if file.suffix.lower() in suffixes and file.is_file()]
        named = [file for file in files if file.stem.lower() in ("data", "dataset", "obj")]
        if len(files) > 1 and len(named) != 1:
            names = ", ".join(file.name for file in files)
            raise DatasetError(
                f"{folder}: holds several {suffixes[0][1:].upper()} files; give the path of one: {names}"
            )
        if files:
            return resolve_inside(folder, (named or files)[0].name)
    return None


def _read_description(path: Path, findings: Findings) -> YoloLayout:
    raw = parse_yaml(read_bytes(path, path.name), path.name)
    if not isinstance(raw, dict):
        raise DatasetError(f"{path.name}: is not a mapping with train, val and names; correct it")
    root = path.parent
    stated = raw.get("path")
    if isinstance(stated, str) and stated.lower() not in _NOTHING | {"."}:
        below = _inside(root, plain_name(stated))
        if below is not None and below.is_dir():
            root = below
        else:
            findings.note(f"{path.name}: path {stated[:80]!r} is not a folder below {root} and is not followed")
    written: dict[str, list[str]] = {}
    for split in ("train", "val", "test"):
        value = raw.get(split)
        entries = value if isinstance(value, list) else [value] if value else []
        if not all(isinstance(entry, str) for entry in entries):
            raise DatasetError(f"{path.name}: {split} is not a path or a list of paths; correct it")
        if entries := [entry for entry in entries if entry.lower() not in _NOTHING]:
            written[split] = entries
    if not written:
        raise DatasetError(f"{path.name}: names no train, val or test images; add their paths")
    listing = list_pictures(root)
    classes = class_names(raw.get("names"), path.name, raw.get("nc"))
    return YoloLayout(root, listing, classes, _places(root, listing, written, findings))


def _read_darknet(path: Path, options: ReadOptions, findings: Findings) -> YoloLayout:
    """Darknet's ``obj.data``, as CVAT's YOLO 1.1 writes it too: lines ``key = value``."""
    root, listing = path.parent, list_pictures(path.parent)
    lines = [line.partition("=") for line in text_lines(decode_text(read_bytes(path, path.name), path.name))]
    values = {key.strip().lower(): value.strip() for key, _, value in lines if value.strip()}
    splits = (("train", "train"), ("valid", "val"), ("val", "val"), ("test", "test"))
    written = {split: [values[key]] for key, split in splits if key in values}
    if not written:
        raise DatasetError(f"{path.name}: names no train or valid list; add their paths")
    stated = plain_name(values.get("names", ""))
    names = _inside(root, stated) or _similar_place(root, listing, stated)
    if names is not None and names.is_file():
        found = _names_file(root, names.relative_to(root).as_posix())
        classes = class_names(found, names.name, values.get("classes"))
    else:
        classes = _read_classes(root, options)
    return YoloLayout(root, listing, classes, _places(root, listing, written, findings))


def class_names(names: object, where: str, count: object = None) -> list[str]:
    """The class names that a file gives as a list, or as a mapping from 0, 1, 2, ...; DatasetError for others.

    ``count`` is what the file says of their number.
    """
    if isinstance(names, dict):
        numbered = {read_integer(key): value for key, value in names.items()}
        if len(numbered) != len(names) or set(numbered) != set(range(len(names))):
            raise DatasetError(f"{where}: names does not number its classes 0, 1, 2, ...; correct it")
        names = [numbered[i] for i in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str | int) for n in names):
        raise DatasetError(f"{where}: names is not a list of class names; correct it")
    classes = [str(n) for n in names]
    if not all(name.strip() for name in classes):
        raise DatasetError(f"{where}: names has a class without a name; name each class")
    if len(set(classes)) != len(classes):
        raise DatasetError(f"{where}: names has a class twice; name each class once")
    stated = read_integer(count)
    if stated is not None and stated != len(classes):
        shown = stated if abs(stated) < 2**63 else "a huge number"
        raise DatasetError(f"{where}: nc is {shown} but there are {len(classes)} names; correct one")
    return classes


def _read_classes(root: Path, options: ReadOptions) -> list[str]:
    files = {p.name.lower(): p.name for p in sorted(root.iterdir()) if p.is_file() and not is_hidden(p.name)}
    names = sorted(name for lower, name in files.items() if lower.endswith(".names"))
    labels = inner_folder(root, "labels")
    inside = sorted(p for p in labels.iterdir() if p.is_file()) if labels else []
    inner = [p.relative_to(root).as_posix() for p in inside if p.name.lower() == "classes.txt"]
    for file in (files.get("classes.txt"), *inner, files.get("obj.names"), names[0] if len(names) == 1 else None):
        if file is not None:
            return class_names(_names_file(root, file), PurePosixPath(file).name)
    if options.classes is not None:
        return list(options.classes)
    raise DatasetError(
        f"{root}: has no data.yaml and no classes.txt; add one, or name the classes in their order by --classes"
    )


def _names_file(root: Path, file: str) -> list[str]:
    """The class names of a file, one per line; blank lines at its end are nothing, one before a name is refused."""
    name = PurePosixPath(file).name
    lines = [line.strip() for line in text_lines(decode_text(read_inside(root, file), name))]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:  # programs count it or they do not, and each class after it has another number
        raise DatasetError(
            f"{name}: line {lines.index('') + 1} is blank, so the numbers of the classes after it are in doubt; "
            "remove the line, or name its class"
        )
    return lines


def _plain_places(root: Path, listing: Listing, findings: Findings) -> dict[str, list[str]]:
    """Places by split where nothing describes them: images/, folders of splits, lists, or the folder itself."""
    lists = [name for name in listing.others if name.lower() in _LISTS]
    images = inner_folder(root, "images")
    if images is not None:
        for name in lists:
            findings.note(f"{name}: is not read, as there is an {images.name}/; a data.yaml can name it")
        return _below_images(root, images.name, listing, findings)
    top = sorted({PurePosixPath(name).parts[0] for name in listing.pictures if "/" in name})
    splits = [name for name in top if name.lower() in SPLIT_NAMES]
    with_images = {name: inner for name in splits if (inner := inner_folder(root / name, "images")) is not None}
    if with_images:
        return {name: [f"{name}/{inner.name}"] for name, inner in with_images.items()}
    if lists:
        return {_LISTS[name.lower()]: [name] for name in lists}
    if splits:
        return {name: [name] for name in splits}
    if any("/" not in name for name in listing.pictures):
        return {"": ["."]}
    raise DatasetError(f"{root}: has no data.yaml and no images/; give the folder that holds them")


def _below_images(root: Path, images: str, listing: Listing, findings: Findings) -> dict[str, list[str]]:
    """The folders in images/ as splits; all of it without splits where pictures lie beside folders of other names."""
    folders = sorted(p.name for p in (root / images).iterdir() if p.is_dir() and not is_hidden(p.name))
    places = {name: place for name in folders if (place := _inside(root, f"{images}/{name}")) is not None}
    names = {name: place.relative_to(root).as_posix() for name, place in places.items()}
    holding = {name: place for name, place in names.items() if any(p.startswith(f"{place}/") for p in listing.pictures)}
    whole = _inside(root, images)
    at = images if whole is None else whole.relative_to(root).as_posix()
    loose = sum(str(PurePosixPath(name).parent) == at for name in listing.pictures)
    if not holding:
        return {"": [at]}
    if loose and not all(name.lower() in SPLIT_NAMES for name in holding):
        findings.note(
            f"{images}/ holds {loose} pictures beside folders, so the folders ({', '.join(list(holding)[:8])}) are no "
            "splits: all pictures are taken"
        )
        return {"": [at]}
    return {name: [place] for name, place in holding.items()}


def _places(
    root: Path, listing: Listing, written: Mapping[str, Iterable[str]], findings: Findings
) -> dict[str, list[str]]:
    """The folders and lists that a description names, relative to ``root``; one that is not there is fatal."""
    places: dict[str, list[str]] = {split: [] for split in written}
    for split, entries in written.items():
        for entry in entries:
            plain = plain_name(entry)
            place = _inside(root, plain) or _inside(root, plain.removeprefix("../"))
            if place is None:
                place = _similar_place(root, listing, plain)
                if place is not None:
                    findings.note(f"{split}: {entry[:200]!r} is taken as {place.relative_to(root).as_posix()}")
            if place is None:
                findings.fatal(
                    f"{split}: there is no {entry[:200]!r} below {root}; correct the path, or give its own folder"
                )
            else:
                places[split].append(place.relative_to(root).as_posix())
    return places


def _similar_place(root: Path, listing: Listing, entry: str) -> Path | None:
    """The folder or list whose last parts ``entry`` has: tools write the paths of other roots, and in another case."""
    inner = re.sub(r"^(\.\./)+", "", entry)
    if PurePosixPath(inner).suffix:
        known = {name for name in listing.others if PurePosixPath(name).suffix}
    else:
        known = {str(folder) for name in listing.pictures for folder in PurePosixPath(name).parents} - {"."}
    found = NameIndex(known).find(inner)
    return None if found is None else _inside(root, found)


def _inside(root: Path, text: str) -> Path | None:
    """The real path of what ``text`` names, if it is there and below ``root``."""
    try:
        place = (root / text).resolve()
        return place if text and place.exists() and place.is_relative_to(root) else None
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, a loop of links
        return None
