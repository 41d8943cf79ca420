"""Which pictures ``rcnn detect`` reads, and what it calls the drawn ones."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cache.errors import StageError
from cache.outputs import RECORD, name_key, ours
from manifests import IMAGE_SUFFIXES
from manifests.listing import list_pictures

RESULTS = "detections.json"
SUFFIX = ".jpg"  # of drawn pictures

Named = tuple[Path, Path]  # a file, and the name of its drawn picture below the output folder


def files_to_read(given: Sequence[Path]) -> tuple[list[Named], list[str]]:
    """Find the pictures of files and folders: each once, in order, no two drawn under one name.

    Returns:
        The pictures; and a line for each kind that folders hold and that is passed over, among them what an earlier
        ``rcnn detect`` drew. A file that is named by itself is read, whatever it is.
    """
    found: list[Named] = []
    passed_over: list[str] = []
    for path in given:
        if path.is_dir():
            inside, lines = _in_folder(path)
            found += [(p, p.relative_to(path)) for p in inside]
            passed_over += [f"{path}: {line}" for line in lines]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise StageError(f"{path}: no such file or folder; check the path")
    once: dict[Path, Named] = {}
    for path, name in found:
        once.setdefault(path.resolve(), (path, name))
    return _named_apart(once.values()), passed_over


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures that a folder holds, and lines about those that are passed over; StageError where there are none."""
    listing = list_pictures(folder)
    named = [folder / name for name in listing.pictures]
    files = [path for path in named if path.is_file()]
    drawn = ours(files)
    passed_over = list(listing.passed_over)
    if drawn:
        passed_over.append(f"{len(drawn)} that an earlier `rcnn detect` drew and nobody changed are passed over")
    if no_files := [path for path in named if not path.is_file()]:
        passed_over.append(f"{len(no_files)} names of pictures lead to no file ({no_files[0].relative_to(folder)})")
    if len(drawn) == len(files):
        but = "; ".join(passed_over) or f"looked for: {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise StageError(f"{folder}: no images in this folder ({but}); give one that has some")
    return [path for path in files if path not in drawn], passed_over


def _named_apart(files: Iterable[Named]) -> list[Named]:
    """Number the names that would be one, also where a file system knows no case; and of a file and a folder."""
    ours = {name_key(RESULTS), name_key(RECORD)}
    files = [(path, _beside(name) if name_key(name.parts[0]) in ours else name) for path, name in files]
    folders = {name_key(parent) for _, name in files for parent in name.parents}
    taken = folders | ours
    named = []
    for path, name in files:
        unique, count = name.with_suffix(SUFFIX), 1
        while name_key(unique) in taken:
            count += 1
            unique = name.with_name(f"{name.stem}-{count}{SUFFIX}")
        taken.add(name_key(unique))
        named.append((path, unique))
    return named


def _beside(name: Path) -> Path:
    """The name below another folder, where one is called as a file of ours."""
    return Path(f"{name.parts[0]}-2", *name.parts[1:])
