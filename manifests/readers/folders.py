"""Reads a classification dataset: class folders, ``train/<class>/*.jpg``, in a folder or inside a zip archive."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import Archive, why_unsafe
from manifests.listing import Listing, list_pictures, sort_names

from .build import build_dataset
from .findings import Findings, FoundImage
from .options import SPLIT_NAMES, ReadOptions


@dataclass(frozen=True)
class _Picture:
    file_name: str
    split: str  # "": the source has none
    label: str


def read_folders(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read a tree of class folders; returns the dataset, the folder or archive its file names are in, and notes.

    ``path`` is a folder or a zip archive of ``<split>/<class>/...`` or ``<class>/...`` (splits are then drawn), maybe
    inside outer folders that hold nothing else. Top folders are splits if one of them has a name of :data:`SPLIT_NAMES`
    and folders in it, or all have such names (so a class may be called train); then all must have. Classes are sorted
    by name. Files that are no pictures by their name, and hidden ones, are left alone. ``options.per_class`` takes
    a seeded choice of each class's pictures. DatasetError holds all problems.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    if options.unannotated:
        raise DatasetError("unannotated: is for datasets with boxes; in class folders the folder is the annotation")
    if options.in_part:
        raise DatasetError("in_part: is for datasets with boxes; in class folders the folder is the annotation")
    root = Path(path).resolve()
    listing = _safe(sort_names(_members(root)) if root.is_file() else list_pictures(root), root, findings)
    for closed, why in listing.closed:
        findings.problem(f"{closed}: cannot be listed ({why}); check the folder and its permissions")
    for link in listing.links:
        findings.problem(f"{link}: is a link to a folder; move the folder itself there, or remove the link")
    pictures = _pictures(listing.pictures, findings)
    found_classes = sorted({picture.label for picture in pictures})
    classes = options.classes or tuple(found_classes)
    for label in sorted(set(found_classes) - set(classes)):
        findings.told.update(picture.file_name for picture in pictures if picture.label == label)
        findings.problem(f"{label}: class folder {label!r} is not among the classes; add it there or remove the folder")
    for label in sorted(set(classes) - set(found_classes)):
        findings.fatal(f"{root}: class {label!r} has no folder with pictures; correct the classes or add pictures")
    if len(classes) == 1:
        findings.fatal(
            f"{root}: one class only, {classes[0]!r}; a classification set has a folder for each of several classes "
            "(for images with boxes: rcnn dataset import voc or coco)"
        )
    chosen = _choice([p for p in pictures if p.label in classes], options, findings)
    found = [
        FoundImage(p.file_name, p.file_name, (), splits=(p.split,) if p.split else (), category=p.label) for p in chosen
    ]
    categories = {label: i for i, label in enumerate(classes, start=1)}
    listing = replace(listing, links=(), closed=())  # problems already
    dataset, notes = build_dataset(name or root.stem, root, found, categories, options, findings, listing)
    return dataset, root, notes


def _members(root: Path) -> list[str]:
    with closing(Archive(root)) as archive:
        return archive.names()


def _safe(listing: Listing, root: Path, findings: Findings) -> Listing:
    """The listing of the names that stay below the root; another one is a problem, whatever it names."""
    reasons = {name: reason for name in (*listing.seen, *listing.others) if (reason := why_unsafe(name))}
    for name, reason in sorted(reasons.items()):
        findings.problem(f"{name}: {reason}; name the file relative to {root}")
    return replace(listing, pictures=tuple(name for name in listing.pictures if name not in reasons))


def _pictures(names: Sequence[str], findings: Findings) -> list[_Picture]:
    """Each picture's split and class, from the folders that it is in."""
    outer = _outer_folders([PurePosixPath(name).parts for name in names])
    inner = {name: PurePosixPath(name).parts[outer:] for name in names}
    top = {parts[0].lower() for parts in inner.values() if len(parts) > 1}
    deep = {parts[0].lower() for parts in inner.values() if len(parts) > 2}
    has_splits = bool(deep & SPLIT_NAMES) or (bool(top) and top <= SPLIT_NAMES)
    out = []
    for name, parts in inner.items():
        if len(parts) < 2 + has_splits:
            findings.told.add(name)
            findings.problem(f"{name}: is in no class folder; move it into one or remove it")
        elif has_splits and parts[0].lower() not in SPLIT_NAMES:
            findings.told.add(name)
            findings.problem(
                f"{name}: folder {parts[0]!r} is beside split folders and none ({', '.join(sorted(SPLIT_NAMES))})"
            )
        elif has_splits:
            out.append(_Picture(name, parts[0], parts[1]))
        else:
            out.append(_Picture(name, "", parts[0]))
    return out


def _outer_folders(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders all pictures are below before the splits or classes begin."""
    outer = 0
    while paths and all(len(p) > outer + 2 and p[outer] == paths[0][outer] for p in paths):
        if paths[0][outer].lower() in SPLIT_NAMES:
            break
        outer += 1
    return outer


def _choice(pictures: Sequence[_Picture], options: ReadOptions, findings: Findings) -> list[_Picture]:
    """Choose at most ``per_class`` pictures of each split and class: the smallest seeded hashes of their names."""
    if options.per_class is None:
        return list(pictures)
    groups: dict[tuple[str, str], list[_Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.split, picture.label].append(picture)

    def rank(picture: _Picture) -> bytes:
        return hashlib.sha256(f"{options.seed}\0per class\0{picture.file_name}".encode()).digest()

    chosen = [p for group in groups.values() for p in sorted(group, key=rank)[: options.per_class]]
    if len(chosen) < len(pictures):
        findings.left_out(
            {picture.file_name for picture in pictures} - {picture.file_name for picture in chosen},
            f"{len(chosen)} of {len(pictures)} pictures taken: at most {options.per_class} of each class and split, "
            f"drawn by seed {options.seed}",
        )
    return chosen
