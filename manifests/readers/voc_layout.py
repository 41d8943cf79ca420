"""Where a VOC dataset's pictures and annotations are, and which belong together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from cache.errors import DatasetError
from manifests.listing import Listing, list_pictures
from manifests.names import match_names

from .findings import Findings
from .options import SPLIT_NAMES, ReadOptions

# Folders that only say what they hold: no part of an image's id where pictures and annotations lie beside each other.
_KINDS = frozenset(
    {"jpegimages", "images", "image", "imgs", "img", "annotations", "annotation", "xmls", "xml", "labels"}
)
# Files that lie beside pictures and are none, whatever extension pictures have.
_NO_PICTURES = frozenset({".xml", ".txt", ".json", ".csv", ".yaml", ".yml", ".md", ".ini", ".db", ".html", ".log"})


@dataclass(frozen=True)
class VocLayout:
    """Folders of a VOC dataset, and what is in them.

    ``pictures`` and ``annotations`` are files (relative to their folders) by image id, the file's path without its
    extension. ``picture_of`` gives the id of the picture that an annotation's id means, where it has one by its name.
    """

    root: Path  # of the pictures
    xml_root: Path
    lists: Path | None  # ImageSets/Main
    standard: bool  # Annotations/ and JPEGImages/
    listing: Listing
    pictures: Mapping[str, str]
    annotations: Mapping[str, str]
    picture_of: Mapping[str, str]

    def xml_name(self, file: str) -> str:
        """An annotation file as messages name it."""
        return f"Annotations/{file}" if self.standard else file

    @property
    def picture_place(self) -> str:
        """The pictures' folder as messages name it."""
        return "JPEGImages" if self.standard else str(self.root)

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
    if options.images is not None or options.annotations is not None:
        images, annotations = (_given(getattr(options, key), path, key) for key in ("images", "annotations"))
        return _layout(images, annotations, None, findings)
    if path is None:
        raise DatasetError("PATH is missing; give it, or the folders by --images and --annotations")
    devkits = _devkits(path)
    if len(devkits) == 1:
        folder = devkits[0].resolve()
        lists = folder / "ImageSets" / "Main"
        standard = _layout(folder / "JPEGImages", folder / "Annotations", lists, findings, standard=True)
        _note_unread_lists(folder / "ImageSets", findings)
        return standard
    if not devkits and path.is_dir():
        beside = list_pictures(path)
        if beside.pictures and any(name.lower().endswith(".xml") for name in beside.others):
            lists = path / "ImageSets" / "Main"
            return _layout(path.resolve(), path.resolve(), lists, findings)
    return _refuse(path, devkits)


def find_voc_folder(path: Path) -> Path:
    """The folder with Annotations/ and JPEGImages/ at or below ``path`` (``VOC2007``, ``VOCdevkit``, its parent)."""
    found = _devkits(path)
    return found[0].resolve() if len(found) == 1 else _refuse(path, found)


def _devkits(path: Path) -> list[Path]:
    candidates = [path, *sorted(path.glob("VOC[0-9]*")), *sorted(path.glob("VOCdevkit/VOC[0-9]*"))]
    return [p for p in candidates if (p / "Annotations").is_dir() and (p / "JPEGImages").is_dir()]


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


def _layout(root: Path, xml_root: Path, lists: Path | None, findings: Findings, *, standard: bool = False) -> VocLayout:
    root, xml_root = root.resolve(), xml_root.resolve()
    listing = list_pictures(root)
    xml_listing = listing if xml_root == root else list_pictures(xml_root)
    xml_files = [name for name in xml_listing.others if name.lower().endswith(".xml")]
    annotations = _by_id(xml_files, standard, "annotation", findings, "Annotations/" if standard else "")
    pictures = _by_id(listing.pictures, standard, "image", findings, "JPEGImages/" if standard else "")
    for name in (*listing.unread, *listing.others):  # of any extension, as converted datasets have them
        if PurePosixPath(name).suffix.lower() not in _NO_PICTURES:
            image_id = _id(name, standard)
            if image_id in annotations:
                pictures.setdefault(image_id, name)
    return VocLayout(
        root=root,
        xml_root=xml_root,
        lists=lists if lists is not None and lists.is_dir() else None,
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


def _note_unread_lists(folder: Path, findings: Findings) -> None:
    """Say that lists beside ImageSets/Main are not read."""
    lists = sorted(p.name for p in folder.glob("*.txt") if not p.name.startswith("."))
    if lists:
        findings.note(f"ImageSets/{lists[0]}: is not read ({len(lists)} such lists); VOC's lists are in ImageSets/Main")
