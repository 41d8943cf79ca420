"""Where a VOC dataset's pictures and annotations are, and which belong together."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from cache.errors import DatasetError
from manifests.listing import Listing, inner_folder, is_hidden, list_outside, list_pictures
from manifests.names import match_names

from .findings import Findings
from .options import SPLIT_NAMES, ReadOptions
from .voc_lists import ListPlace

# Folders that only say what they hold: no part of an image's id where pictures and annotations lie beside each other.
_KINDS = frozenset(
    {"jpegimages", "images", "image", "imgs", "img", "annotations", "annotation", "xmls", "xml", "labels"}
)
# Files that lie beside pictures and are none, whatever extension pictures have.
_NO_PICTURES = frozenset({".xml", ".txt", ".json", ".csv", ".yaml", ".yml", ".md", ".ini", ".db", ".html", ".log"})
# A devkit's own folders of masks: they are drawn like pictures and are none of the dataset's.
_MASKS = frozenset({"segmentationclass", "segmentationobject"})


@dataclass(frozen=True)
class VocLayout:
    """Folders of a VOC dataset, and what is in them.

    ``pictures`` and ``annotations`` are files (relative to their folders) by image id, the file's path without its
    extension. ``picture_of`` gives the id of the picture that an annotation's id means, where it has one by its name.
    ``lists`` are the places where lists of splits may be, the likeliest first.
    """

    root: Path  # of the pictures
    xml_root: Path
    lists: tuple[ListPlace, ...]
    standard: tuple[str, str] | None  # the names of a devkit's JPEGImages/ and Annotations/, as they are written
    listing: Listing
    pictures: Mapping[str, str]
    annotations: Mapping[str, str]
    picture_of: Mapping[str, str]

    def xml_name(self, file: str) -> str:
        """An annotation file as messages name it."""
        return f"{self.standard[1]}/{file}" if self.standard else file

    @property
    def picture_place(self) -> str:
        """The pictures' folder as messages name it."""
        return self.standard[0] if self.standard else str(self.root)

    def folder_splits(self) -> dict[str, list[str]]:
        """Image ids by split where all pictures lie in folders of splits (train/, valid/, test/); else none."""
        splits: dict[str, list[str]] = {}
        for image_id in self.pictures:
            folder, _, inner = image_id.partition("/")
            if not inner or folder.lower() not in SPLIT_NAMES:
                return {}
            splits.setdefault(folder, []).append(image_id)
        return splits


def find_layout(path: Path | None, options: ReadOptions, findings: Findings) -> VocLayout:
    """Find a dataset's folders: those that the options name, the devkit's, or pictures with their XML beside them."""
    task = "Segmentation" if options.segmentation else "Main"
    if options.images is not None or options.annotations is not None:
        images, annotations = (_given(getattr(options, key), path, key) for key in ("images", "annotations"))
        _note_outside(annotations if path is None else path, images, findings)
        # The lists beside folders that were named one by one may be another dataset's.
        bases = (annotations, annotations.parent, images, images.parent, *([path] if path is not None else []))
        return _layout(images, annotations, _list_places(bases, task, sure=False), findings)
    if path is None:
        raise DatasetError("PATH is missing; give it, or the folders by --images and --annotations")
    devkits = _devkits(path)
    if len(devkits) == 1:
        folder = devkits[0].resolve()
        images, annotations = _standard_folders(folder) or _refuse(path, [])
        _note_outside(path, images, findings)
        standard = (images.name, annotations.name)
        return _layout(images, annotations, _list_places((folder, path), task), findings, standard)
    if not devkits and path.is_dir():
        beside = list_pictures(path)
        if beside.pictures and any(name.lower().endswith(".xml") for name in beside.others):
            return _layout(path, path, _list_places((path,), task), findings)
    return _refuse(path, devkits)


def find_voc_folder(path: Path) -> Path:
    """The folder with Annotations/ and JPEGImages/ at or below ``path`` (``VOC2007``, ``VOCdevkit``, its parent)."""
    found = _devkits(path)
    return found[0].resolve() if len(found) == 1 else _refuse(path, found)


def _devkits(path: Path) -> list[Path]:
    tops = [path, *(top for top in [inner_folder(path, "VOCdevkit")] if top is not None)]
    years = [p for top in tops for p in _folders(top) if re.match(r"voc[0-9]", p.name, re.IGNORECASE)]
    return [p for p in (path, *years) if _standard_folders(p) is not None]


def _standard_folders(folder: Path) -> tuple[Path, Path] | None:
    """JPEGImages/ and Annotations/ of a devkit, in whatever case; None where it lacks one."""
    images, annotations = inner_folder(folder, "JPEGImages"), inner_folder(folder, "Annotations")
    return None if images is None or annotations is None else (images, annotations)


def _folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, without hidden ones, sorted; none where it cannot be listed."""
    try:
        return sorted(p for p in folder.iterdir() if not is_hidden(p.name) and p.is_dir())
    except OSError:
        return []


def _list_places(bases: Iterable[Path], task: str, *, sure: bool = True) -> tuple[ListPlace, ...]:
    """Where lists of splits may be: first VOC's own place below each base, then those that people make of it.

    ``task``: VOC's own place is this folder of ImageSets/, or ``Main`` where there is none.
    ``sure``: what is at VOC's own place belongs to this dataset, and so do the other folders beside it.
    """
    main: list[ListPlace] = []
    sets: list[ListPlace] = []
    tops: list[ListPlace] = []
    others: list[ListPlace] = []
    folders = dict.fromkeys(base.resolve() for base in bases)
    for base in folders:
        image_sets = inner_folder(base, "ImageSets")
        tops.append(ListPlace(base, "", "top"))
        if sure:
            aside = [p for p in _folders(base) if p != image_sets and p not in folders and not p.is_symlink()]
            others += [ListPlace(p, f"{p.name}/", "other") for p in aside]
        if image_sets is not None:
            own = inner_folder(image_sets, task) or inner_folder(image_sets, "Main")
            sets.append(ListPlace(image_sets, f"{image_sets.name}/", "sets"))
            tasks = [p for p in _folders(image_sets) if p != own]
            others += [ListPlace(p, f"{image_sets.name}/{p.name}/", "task") for p in tasks]
            if own is not None:
                main.append(ListPlace(own, f"{image_sets.name}/{own.name}/", "main" if sure else "beside"))
    return (*main, *sets, *tops, *others)


def _note_outside(path: Path, root: Path, findings: Findings) -> None:
    """Count the pictures below the path that was given which are not in the folder of the dataset's pictures."""
    place, path, root = root.name, path.resolve(), root.resolve()
    if path.is_relative_to(root):
        return
    listing = list_outside(path, [root])
    names = sorted((*listing.pictures, *listing.unread))
    outside = [name for name in names if _MASKS.isdisjoint(name.lower().split("/")[:-1])]
    if outside:
        pictures = "1 picture is" if len(outside) == 1 else f"{len(outside)} pictures are"
        findings.note(f"{pictures} outside {place}/ and left out (such as {outside[0]}); move there what is wanted")


def _refuse(path: Path, devkits: list[Path]) -> NoReturn:
    if devkits:
        names = ", ".join(str(p) for p in devkits)
        raise DatasetError(f"{path}: holds several VOC datasets; give the path of one: {names}")
    raise DatasetError(
        f"{path}: has no Annotations/ and JPEGImages/, nor has a VOC folder in it, nor pictures with XML files beside "
        "them; give the folder that holds them, or both by --images and --annotations"
    )


def _given(text: str | None, path: Path | None, key: str) -> Path:
    """The folder of an option, or PATH where it is not given."""
    folder = Path(text) if text is not None else path
    if folder is None:
        raise DatasetError(f"--{key}: is missing; give the folders of both, --images and --annotations, or PATH")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder; correct --{key}")
    return folder.resolve()


def _layout(
    root: Path,
    xml_root: Path,
    lists: tuple[ListPlace, ...],
    findings: Findings,
    standard: tuple[str, str] | None = None,
) -> VocLayout:
    at_images, at_annotations = (f"{name}/" for name in standard) if standard else ("", "")
    root, xml_root = root.resolve(), xml_root.resolve()
    listing = list_pictures(root)
    xml_listing = listing if xml_root == root else list_pictures(xml_root)
    xml_files = [name for name in xml_listing.others if name.lower().endswith(".xml")]
    annotations = _by_id(xml_files, bool(standard), "annotation", findings, at_annotations)
    pictures = _by_id(listing.pictures, bool(standard), "image", findings, at_images)
    for name in (*listing.unread, *listing.others):  # of any extension, as converted datasets have them
        if PurePosixPath(name).suffix.lower() not in _NO_PICTURES:
            image_id = _id(name, bool(standard))
            if image_id in annotations:
                pictures.setdefault(image_id, name)
    return VocLayout(
        root=root,
        xml_root=xml_root,
        lists=lists,
        standard=standard,
        listing=listing,
        pictures=pictures,
        annotations=annotations,
        picture_of=match_names(annotations, pictures, folders=not standard),
    )


def _id(name: str, standard: bool) -> str:
    """A file's image id: its path without extension and, outside a devkit, without folders that name its kind."""
    path = PurePosixPath(name)
    plain = path.with_suffix("")
    if standard:
        return str(plain)
    return "/".join([part for part in plain.parts[:-1] if part.lower() not in _KINDS] + [plain.name])


def _by_id(names: Iterable[str], standard: bool, kind: str, findings: Findings, at: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in names:
        image_id = _id(name, standard)
        if image_id in files:
            findings.problem(f"{at}{name}: has the same {kind} id as {files[image_id]}; rename or remove one")
            if kind == "image":
                findings.told.add(name)
        files.setdefault(image_id, name)
    return files
