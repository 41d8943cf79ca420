"""Reads a folder of images, of masks with the same names, and of the names of the masks' values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from cache.errors import DatasetError
from manifests.dataset import Dataset, MaskSource
from manifests.files import read_bytes
from manifests.listing import inner_folder, list_pictures
from manifests.masks.examine import examine_all
from manifests.names import NameIndex, same_name
from manifests.text import decode_text, text_lines

from .build import build_dataset
from .coco_layout import common_parent
from .findings import Findings, FoundImage
from .mask_checks import examined_or_left_out, foreign_values, note_by_colour, objects_of
from .options import SPLIT_NAMES, ReadOptions

NAMES = "names.txt"
# What people call value 0 where it is no class.
_BACKGROUND = frozenset({"background", "_background_", "bg", "unlabeled", "unlabelled", "none"})
_NUMBERED = re.compile(r"(\d{1,5})\s*:\s*(.+)")


def read_mask_folder(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str], Path]:
    """Read a folder of images and class maps; returns the dataset, its images' folder, notes, and the masks' folder.

    ``path`` holds ``images/``, ``masks/`` (unless ``options.images`` and ``options.masks`` name them) and
    ``names.txt``: one class a line, the first line being value 0, the background; or ``VALUE: NAME`` lines. A mask has
    its image's path, with the extension .png. ``objects/``, if it is there, holds object maps of the same names;
    without it all that one class has in an image is one object. Boxes are those of the objects' masks. Folders
    called train, val, test are splits, else these are drawn. DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    top = Path(path).resolve()
    images, masks = (_folder(top, getattr(options, key), key) for key in ("images", "masks"))
    objects = inner_folder(top, "objects")
    folders = [masks, *([objects.resolve()] if objects is not None else [])]
    if objects is None:
        findings.note("there is no objects/, so that all that one class has in an image is one object")
    names = _names(top, options, findings)
    root, listing = common_parent([one.parent for one in folders]), list_pictures(images)
    sources = dict(_sources(listing.pictures, folders, root, options, findings))
    splits = _splits(sources)
    examined = list(examine_all(root, list(sources.values())))
    note_by_colour(examined, findings)
    found = []
    for picture, one in zip(sources, examined, strict=True):
        taken = examined_or_left_out(one, picture, findings)
        if taken is None:
            continue
        if line := foreign_values(taken, {label: i for i, label in names.items()}, (0,) if options.background else ()):
            findings.problem(line)
            findings.told.add(picture)
            continue
        where = taken.masks.files[0][0]
        found.append(
            FoundImage(
                *(picture, where, objects_of(taken, names)),
                splits=splits.get(picture, ()),
                masks=taken.masks,
                mask_size=taken.size,
            )
        )
    labels = options.classes or tuple(names.values())
    by_label = {label: i for i, label in names.items()}
    if absent := [label for label in labels if label not in by_label]:
        findings.fatal(f"classes: {', '.join(absent)} not in {NAMES}; correct --classes")
    categories = {label: by_label[label] for label in labels if label in by_label}
    dataset, notes = build_dataset(name or top.name, images, found, categories, options, findings, listing)
    return dataset, images, notes, root


def _folder(top: Path, given: str | None, key: str) -> Path:
    folder = inner_folder(top, key) if given is None else Path(given)
    if folder is None or not folder.is_dir():
        where = f"{top}: has no {key}/" if given is None else f"{given}: there is no such folder"
        raise DatasetError(f"{where}; give the folder of the {key} by --{key}")
    return folder.resolve()


def _names(top: Path, options: ReadOptions, findings: Findings) -> dict[int, str]:
    """The classes' names by id, which is their value in the masks plus ``options.shift``."""
    if not (top / NAMES).is_file():
        findings.fatal(
            f"{top}: has no {NAMES}; write one class a line, the first line being value 0, 'background'; or lines "
            "'VALUE: NAME'"
        )
        return {}
    lines = [line.strip() for line in text_lines(decode_text(read_bytes(top / NAMES, NAMES), NAMES))]
    lines = [line for line in lines if line]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    names: dict[int, str] = {}
    for place, (line, match) in enumerate(zip(lines, numbered, strict=True)):
        if any(numbered) and match is None:
            findings.fatal(f"{NAMES}: {line!r} is no line 'VALUE: NAME', as others of it are; write all in one form")
            continue
        value, label = (place, line) if match is None else (int(match[1]), match[2])
        if value in names or label in names.values():
            findings.fatal(f"{NAMES}: {line!r}: has a value or name that another line has; keep one")
        names.setdefault(value, label)
    if options.void is not None:
        names.pop(options.void + options.shift, None)
    if options.background and 0 in names:
        label = names.pop(0)
        if same_name(label) not in _BACKGROUND:
            findings.fatal(
                f"{NAMES}: value 0 is {label!r}, but 0 is the background; call it 'background', or give "
                "--no-background where it is a class, --void 0 where it is in no count"
            )
    return names


def _sources(
    pictures: Sequence[str], folders: Sequence[Path], root: Path, options: ReadOptions, findings: Findings
) -> Iterator[tuple[str, MaskSource]]:
    """The masks of each picture; what is missing is a problem, masks without an image are noted."""
    listings = [list_pictures(folder).pictures for folder in folders]
    indexes = [NameIndex(names, folders=False) for names in listings]
    prefixes = [_below(folder, root) for folder in folders]
    used: set[str] = set()
    for picture in pictures:
        wanted = PurePosixPath(picture).with_suffix(".png").as_posix()
        found = [index.find(wanted) for index in indexes]
        files = [f"{prefix}{file}" for prefix, file in zip(prefixes, found, strict=True) if file is not None]
        for folder, file in zip(folders, found, strict=True):
            if file is None:
                findings.problem(
                    f"{picture}: has no {folder.name}/{wanted}; add it or remove the image", "no such mask"
                )
        if len(files) < len(folders):
            findings.left_out([picture], f"left out: the whole image {picture}: it has no mask", "masks")
            continue
        used.update(file for file in found[:1] if file is not None)
        yield (
            picture,
            MaskSource(
                "class_map",
                files[0],
                object_map=files[1] if len(files) > 1 else "",
                void=options.void,
                shift=options.shift,
            ),
        )
    if lone := sorted(set(listings[0]) - used):
        masks = "1 mask has" if len(lone) == 1 else f"{len(lone)} masks have"
        findings.note(f"{masks} no image and are left out (such as {folders[0].name}/{lone[0]})")


def _below(folder: Path, root: Path) -> str:
    return "" if folder == root else folder.relative_to(root).as_posix() + "/"


def _splits(pictures: Mapping[str, MaskSource]) -> dict[str, tuple[str, ...]]:
    """The split of each picture where all lie in folders that are called as splits are; else none."""
    tops = {picture: picture.split("/")[0] if "/" in picture else "" for picture in pictures}
    if not all(top.lower() in SPLIT_NAMES for top in tops.values()):
        return {}
    return {picture: (top,) for picture, top in tops.items()}
