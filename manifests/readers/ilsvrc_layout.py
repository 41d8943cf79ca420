"""Where ILSVRC's detection data are: pictures, XML files, lists of images, classes and blacklist, of 2013 and later.

2013: ``ILSVRC2013_DET_SPLIT/`` and ``ILSVRC2013_DET_bbox_SPLIT/``, lists in the devkit's ``data/det_lists/``
(``train_pos_K.txt``, ``train_part_K.txt``, ``train_neg_K.txt``, ``train_blacklist.txt``, ``val.txt``). 2014 and later:
``Data/DET/SPLIT/``, ``Annotations/DET/SPLIT/``, ``ImageSets/DET/`` (``train_K.txt`` with 1, 0 or -1 behind each name).
In both ``meta_det.mat`` has the classes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cache.errors import DatasetError
from manifests.files import read_bytes
from manifests.listing import Listing, inner_folder, list_pictures
from manifests.masks.mat_v5 import byte_order, read_numbers, read_structs, read_text
from manifests.text import decode_text, text_lines
from manifests.values import read_integer

from .findings import Findings
from .options import ReadOptions

META = "meta_det.mat"
_CLASSES = 200  # ids above are inner nodes of the hierarchy, of which nothing is annotated
_MAX_META_BYTES = 64 * 2**20
_TRAIN = re.compile(r"train_(?P<kind>pos_|part_|neg_)?(?P<number>\d{1,9})")
_UNION = re.compile(r"train_((pos|part|neg)_?)?all")  # of the lists of one kind of all classes
_LEFT_OUT = "train_blacklist"
_BLACKLIST = "*det_validation_blacklist*.txt"
_DATA = ("data", "devkit", "devkit/data", "*_devkit", "*_devkit/data")  # where META is, below the path given


@dataclass(frozen=True)
class ListedImage:
    """A line of a list: the picture's name without extension, and the number behind it (None: there is none)."""

    name: str
    number: int | None
    where: str


@dataclass(frozen=True)
class IlsvrcLayout:
    """ILSVRC's detection data below ``root``.

    ``pictures`` and ``annotations`` are files by their names without folders and extension. ``classes`` are the
    classes' ids and names by WNID. ``positive`` and ``negative`` are the lists of train, which are one per class;
    ``lists`` all others by their names. ``left_out``: images that train is to be without, by
    ``train_blacklist.txt``. ``blacklist``: WNIDs by val's number.
    """

    root: Path
    listing: Listing
    pictures: Mapping[str, str]
    annotations: Mapping[str, str]
    classes: Mapping[str, tuple[int, str]]
    positive: tuple[ListedImage, ...]
    negative: tuple[ListedImage, ...]
    lists: Mapping[str, tuple[ListedImage, ...]]
    left_out: frozenset[str]
    blacklist: Mapping[int, tuple[str, ...]]


def find_layout(path: Path, options: ReadOptions, findings: Findings) -> IlsvrcLayout:
    """Find and read all but the pictures and their XML; DatasetError where something is missing or unreadable."""
    if not path.is_dir():
        raise DatasetError(f"{path}: there is no such folder; correct the path")
    root = path.resolve()
    meta = _meta(root, options)
    folder = _lists_folder(root, meta)
    classes = read_classes(meta)
    positive, negative, lists = _read_lists(folder, len(classes), findings)
    if not positive and not lists:
        raise DatasetError(f"{folder}: holds no lists of images such as train_1.txt or val.txt; restore them")
    listing = list_pictures(root)
    inside = inner_folder(root, "Data") is not None
    pictures = _by_name(root, listing.pictures, "Data/DET/" if inside else "", findings)
    xml = [name for name in listing.others if name.lower().endswith(".xml")]
    annotations = _by_name(root, xml, "Annotations/DET/" if inside else "", findings)
    blacklist = _read_blacklist(meta.parent, classes, findings)
    left_out = _read_left_out(folder, meta, findings)
    return IlsvrcLayout(
        root, listing, pictures, annotations, classes, tuple(positive), tuple(negative), lists, left_out, blacklist
    )


def _meta(root: Path, options: ReadOptions) -> Path:
    base = root if options.devkit is None else Path(options.devkit)
    places = [base, *(found for pattern in _DATA for found in sorted(base.glob(pattern)))]
    for folder in places:
        if (folder / META).is_file():
            return folder / META
    raise DatasetError(f"{base}: has no {META}, nor has a devkit in it; name the devkit's folder by --devkit")


def _lists_folder(root: Path, meta: Path) -> Path:
    """Return ImageSets/DET, or else the devkit's det_lists."""
    sets = inner_folder(root, "ImageSets")
    later = None if sets is None else inner_folder(sets, "DET")
    found = later or inner_folder(meta.parent, "det_lists")
    if found is None:
        raise DatasetError(
            f"{root}: has no ImageSets/DET/ (2014 and later), and {meta.parent} no det_lists/ (2013); give the folder "
            "that holds ILSVRC's detection data, and the devkit by --devkit"
        )
    return found


def read_classes(meta: Path) -> dict[str, tuple[int, str]]:
    """Read the classes of ``meta_det.mat``: id and name by WNID, in the order of the ids."""
    again = "copy it from the devkit again"
    if meta.stat().st_size > _MAX_META_BYTES:
        raise DatasetError(f"{meta}: is far too large for a list of classes; {again}")
    data = read_bytes(meta, str(meta))
    order = byte_order(data)
    try:
        synsets = read_structs(data, "synsets")
        ids = [name for name in synsets[0] if name.endswith("DET_ID")]
        found = sorted(
            (int(read_numbers(one[ids[0]], order).item()), read_text(one["WNID"], order), read_text(one["name"], order))
            for one in synsets
        )
    except (KeyError, IndexError):
        raise DatasetError(f"{meta}: has no synsets with DET_ID, WNID and name; {again}") from None
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{meta}: cannot be read as a MATLAB file of version 5 ({error}); {again}") from None
    classes = {wnid: (number, name) for number, wnid, name in found if 1 <= number <= _CLASSES}
    names = [name for _, name in classes.values()]
    if not classes or len(set(names)) < len(names) or len({number for number, _ in classes.values()}) < len(names):
        raise DatasetError(f"{meta}: has no classes, or two of one id or name; {again}")
    return classes


def _read_lists(
    folder: Path, n_classes: int, findings: Findings
) -> tuple[list[ListedImage], list[ListedImage], dict[str, tuple[ListedImage, ...]]]:
    """Read the lists of a folder: the classes' positive images, in whole or part, their negative ones, all others."""
    positive: list[ListedImage] = []
    negative: list[ListedImage] = []
    lists: dict[str, tuple[ListedImage, ...]] = {}
    for file in sorted(folder.glob("*.txt")):
        if file.stem == _LEFT_OUT:
            continue
        if _UNION.fullmatch(file.stem):
            findings.note(f"{file.name}: is not read: it joins the classes' own lists, train_*K.txt", "union")
            continue
        lines = list(_read_list(file, findings))
        kind = _TRAIN.fullmatch(file.stem)
        if kind is not None and not 1 <= int(kind["number"]) <= n_classes:
            findings.problem(
                f"{file.name}: {META} has classes 1 to {n_classes} alone; take it out, or correct its name"
            )
        if kind is None:
            _check_numbers(lines, findings)
            lists[file.stem] = tuple(lines)
        elif kind["kind"] == "neg_":
            negative += lines
        elif kind["kind"] is not None:
            positive += lines
        else:
            wrong = [line for line in lines if line.number not in (1, 0, -1)]
            for line in wrong:
                findings.problem(
                    f"{line.where}: {line.name} has none of 1 (all annotated), 0 (in part) and -1 (none) behind it; "
                    "correct it",
                    "flag",
                )
            negative += [line for line in lines if line.number == -1]
            positive += [line for line in lines if line.number in (1, 0)]
    return positive, negative, lists


def _check_numbers(lines: Sequence[ListedImage], findings: Findings) -> None:
    """Tell of an image that a list names twice, and of a number that it gives to two."""
    at: dict[str, str] = {}
    taken: dict[int, str] = {}
    for line in lines:
        if line.name in at:
            findings.problem(f"{line.where}: {line.name} stands there a second time; remove one of the lines", "twice")
        elif line.number in taken:
            findings.problem(
                f"{line.where}: {line.name} has the number {line.number}, as {taken[line.number]} has; correct it",
                "number",
            )
        at[line.name] = line.where
        if line.number is not None:
            taken.setdefault(line.number, line.name)


def _read_left_out(folder: Path, meta: Path, findings: Findings) -> frozenset[str]:
    """Read train_blacklist.txt beside the lists, or else the devkit's; nothing where there is none."""
    files = (place / f"{_LEFT_OUT}.txt" for place in (folder, meta.parent / "det_lists"))
    file = next((file for file in files if file.is_file()), None)
    return frozenset() if file is None else frozenset(line.name for line in _read_list(file, findings))


def _read_list(file: Path, findings: Findings) -> Iterator[ListedImage]:
    for line_number, line in enumerate(text_lines(decode_text(read_bytes(file, file.name), file.name)), 1):
        parts = line.split()
        where = f"{file.name}: line {line_number}"
        if not parts:
            continue
        number = read_integer(parts[1]) if len(parts) == 2 else None
        if len(parts) > 2 or (len(parts) == 2 and number is None):
            findings.problem(f"{where}: {line[:60]!r} is not an image and a number; correct it", "list")
            continue
        yield ListedImage(PurePosixPath(parts[0]).name.removesuffix(".JPEG"), number, where)


def _by_name(root: Path, names: tuple[str, ...] | list[str], below: str, findings: Findings) -> dict[str, str]:
    """Files by their names without folders and extension, which ILSVRC gives once; another of one name is fatal."""
    found: dict[str, str] = {}
    for name in names:
        if name.lower().startswith(below.lower()):
            stem = PurePosixPath(name).stem
            if stem in found:
                findings.fatal(
                    f"{name}: {found[stem]} has the same name, and the lists mean one; move one out of {root}"
                )
            found[stem] = name
    return found


def _read_blacklist(
    folder: Path, classes: Mapping[str, tuple[int, str]], findings: Findings
) -> dict[int, tuple[str, ...]]:
    """Read ``ILSVRC20YY_det_validation_blacklist.txt``: lines of val's number and a WNID; none where it is absent."""
    found: dict[int, tuple[str, ...]] = {}
    files = sorted(folder.glob(_BLACKLIST))
    for file in files[1:]:
        findings.note(f"{file.name}: is not read: {files[0].name} is there, too; keep the one that is meant")
    for file in files[:1]:
        for line_number, line in enumerate(text_lines(decode_text(read_bytes(file, file.name), file.name)), 1):
            parts = line.split()
            if not parts:
                continue
            number = read_integer(parts[0])
            if len(parts) != 2 or number is None or parts[1] not in classes:
                findings.problem(
                    f"{file.name}: line {line_number}: {line[:60]!r} is not a number of val and a WNID of {META}; "
                    "correct it",
                    "blacklist",
                )
            else:
                found[number] = (*found.get(number, ()), parts[1])
    return found
