"""Which pictures a command reads, and what it calls the files that it makes of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cache.errors import StageError
from cache.outputs import RECORD, name_key, ours
from cache.text import counted
from manifests import IMAGE_SUFFIXES
from manifests.listing import list_pictures

Named = tuple[Path, Path]  # a file, and the name of what is made of it below the output folder


def files_to_read(given: Sequence[Path], suffix: str, taken: Sequence[str] = ()) -> tuple[list[Named], list[str]]:
    """Find the pictures of files and folders: each once, in order, no two to be written under one name.

    Args:
        given: Files and folders.
        suffix: Of the files that are made of them, such as ``.jpg``.
        taken: Names of other files that the command writes into the output folder.

    Returns:
        The pictures, and names of pictures that lead to no file, which reading them will tell; and a line for each
        kind that folders hold and that is passed over, among them what an earlier ``rcnn detect`` or ``rcnn segment``
        drew. A file that is named by itself is read, whatever it is.
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
        once.setdefault(path.resolve() if path.exists() else path.absolute(), (path, name))
    return _named_apart(once.values(), suffix, taken), passed_over


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures that a folder holds, and lines about those that are passed over; StageError where there are none."""
    listing = list_pictures(folder)
    named = [folder / name for name in listing.pictures]
    files = [path for path in named if path.is_file()]
    drawn = ours(files)
    passed_over = list(listing.passed_over)
    if drawn:
        are = "is" if len(drawn) == 1 else "are"
        passed_over.append(f"{len(drawn)} that an earlier run drew and nobody changed {are} passed over")
    lost = {path for path in named if path.is_symlink() and not path.exists()}
    if no_files := [path for path in named if path not in lost and not path.is_file()]:  # a pipe would be waited for
        number = counted(len(no_files), "name of a picture is no file's", "names of pictures are no files'")
        passed_over.append(f"{number} ({no_files[0].relative_to(folder)})")
    if len(drawn) == len(files):
        if lost:
            leads = counted(len(lost), "name of a picture leads", "names of pictures lead")
            passed_over.append(f"{leads} to no file ({min(lost).relative_to(folder)})")
        but = "; ".join(passed_over) or f"looked for: {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise StageError(f"{folder}: no images in this folder ({but}); give one that has some")
    return [path for path in named if path in lost or (path.is_file() and path not in drawn)], passed_over


def _named_apart(files: Iterable[Named], suffix: str, taken: Sequence[str]) -> list[Named]:
    """Number the names that would be one, also where a file system knows no case; and of a file and a folder."""
    ours = {name_key(name) for name in (*taken, RECORD)}
    files = [(path, _beside(name) if name_key(name.parts[0]) in ours else name) for path, name in files]
    folders = {name_key(parent) for _, name in files for parent in name.parents}
    used = folders | ours
    named = []
    for path, name in files:
        unique, count = name.with_suffix(suffix), 1
        while name_key(unique) in used:
            count += 1
            unique = name.with_name(f"{name.stem}-{count}{suffix}")
        used.add(name_key(unique))
        named.append((path, unique))
    return named


def _beside(name: Path) -> Path:
    """The name below another folder, where one is called as a file of ours."""
    return Path(f"{name.parts[0]}-2", *name.parts[1:])
