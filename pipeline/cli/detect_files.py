"""Which pictures ``rcnn detect`` reads, and what it calls the drawn ones."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cache.errors import StageError
from cache.outputs import RECORD, name_key, ours
from manifests import IMAGE_SUFFIXES

RESULTS = "detections.json"
SUFFIX = ".jpg"  # of drawn pictures

Named = tuple[Path, Path]  # a file, and the name of its drawn picture below the output folder


def files_to_read(given: Sequence[Path]) -> tuple[list[Named], list[Path]]:
    """Find the pictures of files and folders: each once, in order, no two drawn under one name.

    Returns:
        The pictures, and those passed over because an earlier ``rcnn detect`` drew them. One that is named by itself is
        read, whoever drew it.
    """
    found: list[Named] = []
    drawn: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            own = ours(inside)
            drawn += [p for p in inside if p in own]
            if len(own) == len(inside):
                but = " but those that `rcnn detect` drew" if own else f" ({', '.join(sorted(IMAGE_SUFFIXES))})"
                raise StageError(f"{path}: no images in this folder{but}; give one that has some")
            found += [(p, p.relative_to(path)) for p in inside if p not in own]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise StageError(f"{path}: no such file or folder; check the path")
    once: dict[Path, Named] = {}
    for path, name in found:
        once.setdefault(path.resolve(), (path, name))
    return _named_apart(once.values()), drawn


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
