"""Finds a COCO dataset's files: which JSON files there are, whose splits they are, and where their pictures lie."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cache.errors import DatasetError
from manifests.files import exists, resolve_inside, why_unsafe
from manifests.listing import inner_folder, is_hidden
from manifests.names import match_names, plain_name

from .options import SPLIT_NAMES, TRAIN_NAMES, ReadOptions

_IMAGES_ONLY = "image_info_"  # how COCO calls a file without annotations
_ROBOFLOW = "_annotations.coco.json"
_PART = re.compile(r"-[a-z]+(?=(19|20)\d\d$)")  # test-dev2017 is a part of test2017 and lies in its folder
_SPLIT = re.compile(rf"({'|'.join(sorted(SPLIT_NAMES))})((19|20)\d\d)?")  # train, val2017
# Paths in lower case, the clearest first; of the last kind there may be only one.
_ANY = re.compile(r"[^/]+\.json")
_FORMS = (
    re.compile(r"annotations/instances_[^/]*\.json"),
    re.compile(r"instances[^/]*\.json"),
    re.compile(rf"[^/]+/{re.escape(_ROBOFLOW)}"),
    re.compile(rf"annotations/{_SPLIT.pattern}\.json"),
    _ANY,
)
_LISTS = re.compile(rf"(annotations/)?{_IMAGES_ONLY}[^/]*\.json")
_PROBED = 20  # images looked for when guessing the image folder


@dataclass(frozen=True)
class CocoSource:
    """One JSON file, or the folder of a split without any; ``split`` is None where it does not stand for one."""

    path: Path
    folder_name: str | None  # what COCO calls the split's image folder, e.g. train2017
    split: str | None

    @property
    def split_name(self) -> str:
        """The split that it stands for, or would beside another source."""
        return self.split or split_name(self.folder_name)


def find_sources(path: Path, options: ReadOptions) -> list[CocoSource]:
    """The JSON files with objects, then those that list the images of splits without, then folders of such splits."""
    if path.is_file():
        return [CocoSource(path.resolve(), folder_name(path), None)]
    root = path.resolve()
    names = list(_json_files(root))
    sources = _instances(path, names)
    listed = [root / name for name in names if _LISTS.fullmatch(name.lower())]
    for split in options.unannotated:
        if split in {source.split_name for source in sources}:
            continue
        files = [file for file in listed if split_name(folder_name(file)) == split]
        for place in files or _split_folders(root, split)[:1]:
            name = folder_name(place) if files else split
            sources.append(CocoSource(resolve_inside(root, place.relative_to(root).as_posix()), name, split))
    sources.sort(key=lambda source: source.path.is_dir())
    if len(sources) > 1:
        sources = [replace(one, split=one.split_name) for one in sources]
    return sources


def panoptic_sources(path: Path) -> list[CocoSource]:
    """The JSON files of COCO's panoptic form: the file itself, or a folder's ``panoptic*.json``, else its only one."""
    if path.is_file():
        return [CocoSource(path.resolve(), folder_name(path), None)]
    root = path.resolve()
    names = list(_json_files(root))
    found = [name for name in names if Path(name).name.lower().startswith("panoptic")] or names
    if not found or (len(found) > 1 and found is names):
        what = "holds several JSON files" if found else "holds no JSON file"
        raise DatasetError(f"{path}: {what}; give the path of the one with the segments")
    files = [resolve_inside(root, name) for name in found]
    if len(files) == 1:
        return [CocoSource(files[0], folder_name(files[0]), None)]
    return [CocoSource(file, folder_name(file), split_name(folder_name(file))) for file in files]


def _json_files(root: Path) -> Iterator[str]:
    """The JSON files in a folder and one folder down, relative to it and sorted; none that is hidden."""
    folders = sorted(name for name, is_folder in _entries(root) if is_folder)
    for folder in ("", *(f"{name}/" for name in folders)):
        yield from sorted(
            f"{folder}{name}"
            for name, is_folder in _entries(root / folder)
            if not is_folder and name.lower().endswith(".json")
        )


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """The names in a folder that are not hidden, and whether each is a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir()) for entry in entries if not is_hidden(entry.name)]
    except OSError:
        return []


def _split_folders(root: Path, split: str) -> list[Path]:
    """The folders that a split's name means: of that very name, else in another case or with a year (test2017)."""
    tops = (root, _inner(root, "images"))
    if exact := [top / split for top in tops if (top / split).is_dir()]:
        return exact
    return [
        top / name
        for top in tops
        for name, is_folder in sorted(_entries(top))
        if is_folder and split_name(name.lower()) == split_name(split.lower())
    ]


def _instances(path: Path, names: Sequence[str]) -> list[CocoSource]:
    root = path.resolve()
    for form in _FORMS:
        found = [name for name in names if form.fullmatch(name.lower())]
        files = [resolve_inside(root, name) for name in found if not lists_images_only(root / name)]
        if len(files) == 1:
            return [CocoSource(files[0], folder_name(files[0]), None)]
        if files and form is not _ANY:
            return [CocoSource(file, folder_name(file), split_name(folder_name(file))) for file in files]
        if files:
            shown = ", ".join(file.name for file in files[:6])
            raise DatasetError(f"{path}: holds several JSON files; give the path of one: {shown}")
    raise DatasetError(f"{path}: is not a COCO JSON file, nor a folder that holds one; give its path")


def lists_images_only(path: Path) -> bool:
    """Whether a JSON file is one of COCO's without annotations, by its name."""
    return path.name.lower().startswith(_IMAGES_ONLY)


def folder_name(path: Path) -> str | None:
    """``instances_val2017.json``, ``val2017.json`` -> ``val2017``; ``val/_annotations.coco.json`` -> ``val``."""
    if path.name.lower() == _ROBOFLOW:
        return path.parent.name
    if lists_images_only(path):
        return path.stem[len(_IMAGES_ONLY) :]
    if _SPLIT.fullmatch(path.stem.lower()):
        return path.stem
    return path.stem.split("_", 1)[1] if "_" in path.stem else None


def split_name(folder: str | None) -> str:
    """``train2017`` -> ``train``, ``valid`` -> ``val``."""
    plain = re.sub(r"(19|20)\d\d$", "", folder or "") or folder or "all"
    return "val" if plain == "valid" else plain


def image_folder(source: CocoSource, written: Sequence[object], options: ReadOptions) -> Path:
    """The folder that holds the images of one JSON file: the given one, or the best of the usual places.

    ``written`` are their file names.
    """
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
        places = [_inner(given, part) for part in inner] + [given]
    else:
        tops = (_inner(beside, "images"), beside, _inner(above, "images"), above)
        places = [_inner(top, part) for top in tops for part in inner] + list(tops)
    plain = [
        name for text in written[:_PROBED] if isinstance(text, str) and why_unsafe(name := plain_name(text)) is None
    ]
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


def _inner(top: Path, name: str) -> Path:
    """The folder of that name in ``top``, or the one whose name differs in case or Unicode form only."""
    return inner_folder(top, name) or top / name


def _visible(folder: Path) -> set[str]:
    """The pictures that lie in a folder itself, and one folder down."""
    found = [*folder.glob("*"), *folder.glob("*/*")] if folder.is_dir() else []
    return {path.relative_to(folder).as_posix() for path in found}


def common_parent(folders: Sequence[Path]) -> Path:
    """The innermost folder that holds all of these."""
    root = folders[0]
    while not all(folder.is_relative_to(root) for folder in folders):
        root = root.parent
    return root


def unannotated_split(folder: str, sources: Sequence[CocoSource]) -> str | None:
    """The split that ``--unannotated`` would take a folder without a JSON as; None where it is none, or must have one.

    ``folder`` is relative to the dataset's. Only beside splits: the images of one JSON without are drawn into some.
    """
    there = {source.split_name.lower() for source in sources}
    name = split_name(folder.lower().removeprefix("images/").partition("/")[0])
    return name if there <= SPLIT_NAMES and name in SPLIT_NAMES - TRAIN_NAMES - there else None
