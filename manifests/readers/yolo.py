"""Reads YOLO: images/ and labels/ with one line ``class cx cy w h`` per object, in fractions of the image's size."""

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import exists, read_bytes, read_inside, resolve_inside, why_unsafe
from manifests.images import IMAGE_SUFFIXES

from .build import build_dataset
from .findings import Findings, FoundImage, FoundObject
from .options import ReadOptions

_MAX_YAML_BYTES = 2**20
_MOST_FRACTION = 2.0  # of an image's side: no box that is merely a little wrong has more


def read_yolo(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read a YOLO dataset; returns it, the folder its file names are relative to, and notes for the user.

    ``path`` is a ``data.yaml``, a folder with one, or a folder with images/ and labels/ (whose subfolders, if any, are
    the splits) and ``classes.txt``. An image without a label file has no objects, as YOLO means it. A label line of
    more than five numbers is a polygon; it is kept as segmentation, and its bounds are the box.
    DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    path = Path(path).resolve()
    description = path if path.is_file() else _description(path)
    root = path.parent if path.is_file() else path
    if description is not None:
        root, classes, folders = _read_description(description, findings)
    else:
        classes, folders = _read_classes(root, options), _plain_folders(root)
    files = _split_files(root, folders, findings)
    read = [_found_image(root, file, splits, classes, findings) for file, splits in sorted(files.items())]
    found = [image for image in read if image is not None]
    lists = {entry for entries in folders.values() for entry in entries}
    _note_unpaired(root, files, {PurePosixPath(entry).name for entry in lists}, findings)
    chosen = options.classes or tuple(classes)
    categories = {label: i for i, label in enumerate(chosen, start=1)}
    dataset, notes = build_dataset(name or root.name, root, found, categories, options, findings)
    return dataset, root, notes


def _description(folder: Path) -> Path | None:
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    named = [file for file in files if file.stem in ("data", "dataset")]
    if len(files) > 1 and len(named) != 1:
        raise DatasetError(
            f"{folder}: holds several YAML files; give the path of one: {', '.join(f.name for f in files)}"
        )
    chosen = named or files
    return resolve_inside(folder, chosen[0].name) if chosen else None


def _read_description(path: Path, findings: Findings) -> tuple[Path, list[str], dict[str, list[str]]]:
    """``data.yaml`` -> the dataset's folder, class names by number, and folders or list files by split."""
    data = read_bytes(path, path.name)
    try:
        if len(data) > _MAX_YAML_BYTES:
            raise ValueError(f"it has {len(data)} bytes, far too many")
        raw = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path.name}: is not well-formed YAML ({error}); correct it") from None
    if not isinstance(raw, dict):
        raise DatasetError(f"{path.name}: is not a mapping with train, val and names; correct it")
    root = path.parent
    stated = raw.get("path")
    if isinstance(stated, str) and stated not in ("", "."):
        below = _inside(root, stated)
        if below is not None and below.is_dir():
            root = below
        else:
            findings.note(f"{path.name}: path {stated[:80]!r} is not a folder below {root} and is not followed")
    folders: dict[str, list[str]] = {}
    for split in ("train", "val", "test"):
        value = raw.get(split)
        entries = value if isinstance(value, list) else [value] if value else []
        if not all(isinstance(entry, str) for entry in entries):
            raise DatasetError(f"{path.name}: {split} is not a path or a list of paths; correct it")
        if entries:
            folders[split] = list(entries)
    if not folders:
        raise DatasetError(f"{path.name}: names no train, val or test images; add their paths")
    return root, _class_names(raw, path.name), folders


def _class_names(raw: Mapping[str, Any], name: str) -> list[str]:
    names = raw.get("names")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DatasetError(f"{name}: names does not number its classes 0, 1, 2, ...; correct it")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names or not all(_is_class_name(n) for n in names):
        raise DatasetError(f"{name}: names is not a list of class names; correct it")
    classes = [str(n) for n in names]
    if len(set(classes)) != len(classes):
        raise DatasetError(f"{name}: names has a class twice; name each class once")
    count = raw.get("nc")
    if isinstance(count, int) and count != len(classes):
        stated = count if _is_class_name(count) else "a huge number"
        raise DatasetError(f"{name}: nc is {stated} but there are {len(classes)} names; correct one")
    return classes


def _is_class_name(value: object) -> bool:
    """Texts, and the numbers that some exporters write; one of thousands of digits cannot even be shown."""
    return isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63)


def _read_classes(root: Path, options: ReadOptions) -> list[str]:
    for file in (root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"):
        if file.is_file():
            lines = read_inside(root, file.relative_to(root).as_posix()).decode("utf-8-sig", "replace").splitlines()
            names = [line.strip() for line in lines if line.strip()]
            return _class_names({"names": names}, file.name)
    if options.classes is not None:
        return list(options.classes)
    raise DatasetError(
        f"{root}: has no data.yaml and no classes.txt; add one, or name the classes in their order by --classes"
    )


def _plain_folders(root: Path) -> dict[str, list[str]]:
    images = root / "images"
    if not images.is_dir():
        raise DatasetError(f"{root}: has no data.yaml and no images/; give the folder that holds them")
    inner = sorted(p.name for p in images.iterdir() if p.is_dir())
    return {name: [f"images/{name}"] for name in inner} if inner else {"": ["images"]}


def _split_files(root: Path, folders: Mapping[str, list[str]], findings: Findings) -> dict[str, tuple[str, ...]]:
    """Splits by image file name (relative to ``root``); no splits where the source has just one nameless folder."""
    files: dict[str, tuple[str, ...]] = {}
    for split, entries in folders.items():
        for entry in entries:
            place = _place(root, entry)
            if place is None:
                findings.fatal(f"{split}: there is no {entry!r} below {root}; correct the path, or give its own folder")
            elif place.is_dir():
                names = [p for p in sorted(place.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
                for file in names:
                    file_name = file.relative_to(root).as_posix()
                    files[file_name] = (*files.get(file_name, ()), *([split] if split else []))
            else:
                for file_name in _listed(root, place, findings):
                    files[file_name] = (*files.get(file_name, ()), split)
    return files


def _place(root: Path, entry: str) -> Path | None:
    """The folder or list that ``entry`` names below ``root``; some exporters put ``../`` before it."""
    return _inside(root, entry) or _inside(root, entry.removeprefix("../"))


def _inside(root: Path, text: str) -> Path | None:
    """The real path of what ``text`` names, if it is there and below ``root``."""
    try:
        place = (root / text).resolve()
        return place if place.exists() and place.is_relative_to(root) else None
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, a loop of links
        return None


def _listed(root: Path, file: Path, findings: Findings) -> list[str]:
    """Image file names of a list file, one per line."""
    names = []
    lines = read_bytes(file, file.name).decode("utf-8", "replace").splitlines()
    for number, line in enumerate(map(str.strip, lines), start=1):
        text = line.removeprefix("./")
        if text.startswith("/"):
            text = text.removeprefix(f"{root.as_posix()}/")
        reason = why_unsafe(text) if text else None
        if reason:
            findings.problem(f"{file.name}: line {number}: {line!r}: {reason}; write it relative to {root}")
        elif text:
            names.append(text)
    return names


def label_file(file_name: str) -> str:
    """The label file of an image, both relative to the root: the last ``images`` folder becomes ``labels``."""
    path = PurePosixPath(file_name).with_suffix(".txt")
    parts = list(path.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return "/".join(parts)


def _note_unpaired(root: Path, images: Iterable[str], not_labels: Collection[str], findings: Findings) -> None:
    """Say which images have no label file, and which label files no image; not those called ``not_labels``."""
    images = sorted(name for name in images if why_unsafe(name) is None and exists(root / name))
    bare = [name for name in images if not exists(root / label_file(name))]
    if bare:
        what = (
            "1 image has no label file and is" if len(bare) == 1 else f"{len(bare)} images have no label file and are"
        )
        findings.note(f"{what} taken to show nothing (such as {bare[0]})")
    places = {PurePosixPath(label_file(name)).parent for name in images}
    labels = {name for place in places for name in _names(root, place, {".txt"})}
    # not just the dataset's own images: a list may name some of a folder
    beside = {name for place in {PurePosixPath(name).parent for name in images} for name in _names(root, place)}
    lone = sorted(labels - {label_file(name) for name in beside})
    lone = [name for name in lone if PurePosixPath(name).name not in {"classes.txt", *not_labels}]
    lone = [name for name in lone if not PurePosixPath(name).name.lower().startswith("readme")]
    if lone:
        what = "1 label file has no image" if len(lone) == 1 else f"{len(lone)} label files have no image"
        findings.note(f"{what} (such as {lone[0]})")


def _names(root: Path, folder: PurePosixPath, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[str]:
    """The files of these suffixes in a folder, relative to ``root``; none of one that is not below it."""
    place = _inside(root, folder.as_posix())
    try:
        found = [] if place is None else [p.name for p in place.iterdir() if p.suffix.lower() in suffixes]
    except OSError:
        return []
    names = [(folder / name).as_posix() for name in found if not name.startswith(".")]
    return [name for name in names if why_unsafe(name) is None]


def _found_image(
    root: Path, file_name: str, splits: tuple[str, ...], classes: list[str], findings: Findings
) -> FoundImage | None:
    where = label_file(file_name)
    objects = []
    unreadable = 0
    if exists(root / where):
        try:
            lines = read_inside(root, where).decode("utf-8-sig", "replace").splitlines()
        except DatasetError as error:
            findings.problem(error)
            findings.note(f"left out: {where}: the whole image {file_name}: its label file cannot be read")
            return None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                objects.append(_found_object(line.split(), classes, f"line {number}"))
            except ValueError as error:
                findings.problem(f"{where}: line {number}: {error}; correct or remove it", str(error))
                unreadable += 1
    return FoundImage(file_name, where, objects, splits=splits, relative=True, unreadable=unreadable)


def _found_object(parts: list[str], classes: list[str], where: str) -> FoundObject:
    """One label line, in fractions of the image's size; ValueError saying what is wrong with it."""
    if len(parts) != 5 and (len(parts) < 7 or len(parts) % 2 == 0):
        raise ValueError(f"it has {len(parts)} numbers, not the 5 of a box or a polygon's 1 + 2n")
    if not parts[0].isdecimal() or int(parts[0]) >= len(classes):
        raise ValueError(f"class number {parts[0]!r} is not one of 0..{len(classes) - 1}")
    try:
        numbers = [float(part) for part in parts[1:]]
    except ValueError:
        raise ValueError(f"{' '.join(parts)[:60]!r} is not all numbers") from None
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
    return FoundObject(where, classes[int(parts[0])], box, " ".join(parts[1:5]), details=details)
