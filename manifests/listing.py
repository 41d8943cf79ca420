"""What a folder holds: its pictures, the pictures of a form that is not read, and what is passed over."""

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from .names import same_name

# Folders that systems and archivers make beside the user's own.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})


@dataclass(frozen=True)
class Listing:
    """The files below a folder, each by its path relative to the folder, sorted.

    Hidden ones (``.name``, anything in ``.folder/``) are in none of the lists but ``hidden``, and what macOS adds to
    every folder (``._name``, ``__MACOSX/``) is in no list at all.
    """

    pictures: tuple[str, ...]  # by their names
    unread: tuple[str, ...]  # pictures of a form that is not read: HEIC, AVIF, camera raw, ...
    others: tuple[str, ...]  # all other files
    hidden: tuple[str, ...]  # pictures that are hidden themselves, or lie in a hidden folder
    links: tuple[str, ...] = ()  # links to folders, which are not followed: they may lead in a circle
    closed: tuple[tuple[str, str], ...] = ()  # folders that cannot be listed, and why

    @property
    def seen(self) -> set[str]:
        """All pictures: each is taken, or a line says why not."""
        return {*self.pictures, *self.unread, *self.hidden}

    def under(self, folder: str) -> "Listing":
        """The same files as seen from further up, where this folder's path is ``folder``."""
        at = "" if folder in ("", ".") else f"{folder}/"

        def moved(names: Iterable[str]) -> tuple[str, ...]:
            return tuple(f"{at}{name}" for name in names)

        return Listing(
            pictures=moved(self.pictures),
            unread=moved(self.unread),
            others=moved(self.others),
            hidden=moved(self.hidden),
            links=moved(self.links),
            closed=tuple((f"{at}{name}", why) for name, why in self.closed),
        )

    @classmethod
    def joined(cls, parts: Sequence["Listing"]) -> "Listing":
        """The files of all parts, each once."""

        def every(name: str) -> tuple[Any, ...]:
            return tuple(sorted({item for part in parts for item in getattr(part, name)}))

        return cls(*map(every, ("pictures", "unread", "others", "hidden", "links", "closed")))

    @property
    def passed_over(self) -> list[str]:
        """A line for each kind of picture that is there and not among ``pictures``, with its number and an example."""
        lines = []
        if self.unread:
            forms = Counter(PurePosixPath(name).suffix[1:].upper() for name in self.unread)
            counts = ", ".join(f"{form} {count}" for form, count in sorted(forms.items()))
            lines.append(
                f"{_number(self.unread)} of a form that is not read ({counts}; such as {self.unread[0]}); "
                "convert to JPEG or PNG what is wanted of them"
            )
        if self.hidden:
            lines.append(f"{_number(self.hidden)} hidden, or in a hidden folder, and passed over ({self.hidden[0]})")
        lines += [f"{name}: is a link to a folder, which is not followed" for name in self.links]
        lines += [f"{name}: cannot be listed ({why}), so what it holds is not seen" for name, why in self.closed]
        return lines


def list_pictures(folder: Path) -> Listing:
    """List all files below ``folder``, of its hidden folders just the pictures; no link to a folder is followed."""
    names: list[str] = []
    links: list[str] = []
    closed: list[tuple[str, str]] = []

    def unreadable(error: OSError) -> None:
        name = Path(error.filename)
        inside = name.relative_to(folder).as_posix() if name.is_relative_to(folder) else str(name)
        closed.append((inside, error.strerror or str(error)))

    for top, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(top).relative_to(folder)
        names += [(here / file).as_posix() for file in files]
        visible = sorted(name for name in folders if not is_hidden(name))
        links += [(here / name).as_posix() for name in visible if (Path(top) / name).is_symlink()]
        for name in filter(is_hidden, folders):
            if name not in _SYSTEM_FOLDERS:
                names += [(here / name / file).as_posix() for file in _pictures_below(Path(top) / name)]
        folders[:] = visible
    return sort_names(names, links, closed)


def inner_folder(folder: Path, name: str) -> Path | None:
    """Return the folder of a name in another one: of the very name, or the only one of another case or Unicode form.

    None where there is none, or the outer one cannot be listed.
    """
    try:
        found = [p for p in folder.iterdir() if same_name(p.name) == same_name(name) and p.is_dir()]
    except OSError:
        return None
    exact = [p for p in found if p.name == name]
    return (exact or found)[0] if exact or len(found) == 1 else None


def list_outside(top: Path, folders: Collection[Path]) -> Listing:
    """List what lies below ``top`` in none of the image folders, relative to ``top``."""
    if any(top.is_relative_to(folder) for folder in folders):
        return Listing((), (), (), ())
    inside = tuple(f"{folder.relative_to(top).as_posix()}/" for folder in folders if folder.is_relative_to(top))
    whole = list_pictures(top)

    def outside(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if not f"{name}/".startswith(inside))

    def leads_to_images(link: str) -> bool:
        target = (top / link).resolve()
        return any(folder.is_relative_to(target) or target.is_relative_to(folder) for folder in folders)

    return Listing(
        pictures=outside(whole.pictures),
        unread=outside(whole.unread),
        others=outside(whole.others),
        hidden=outside(whole.hidden),
        links=tuple(link for link in outside(whole.links) if not leads_to_images(link)),
        closed=tuple((name, why) for name, why in whole.closed if outside((name,))),
    )


def sort_names(names: Iterable[str], links: Iterable[str] = (), closed: Iterable[tuple[str, str]] = ()) -> Listing:
    """Sort names, of a folder's files or an archive's, into a listing."""
    pictures, unread, others, hidden = [], [], [], []
    for name in sorted(names):
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if path.name.startswith("._") or any(part in _SYSTEM_FOLDERS for part in path.parts):
            continue
        if any(part.startswith(".") and part not in (".", "..") for part in path.parts):
            if suffix in IMAGE_SUFFIXES | UNREAD_SUFFIXES:
                hidden.append(name)
        elif suffix in IMAGE_SUFFIXES:
            pictures.append(name)
        elif suffix in UNREAD_SUFFIXES:
            unread.append(name)
        else:
            others.append(name)
    return Listing(
        tuple(pictures), tuple(unread), tuple(others), tuple(hidden), tuple(sorted(links)), tuple(sorted(closed))
    )


def is_hidden(name: str) -> bool:
    """Whether a file's or folder's own name says that it is not the user's: ``.ipynb_checkpoints``, ``._a.jpg``."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _pictures_below(folder: Path) -> list[str]:
    """Paths of the pictures in a hidden folder, at any depth, relative to it; no link is followed or is one."""
    if folder.is_symlink():
        return []
    found = []
    for top, _, files in os.walk(folder):  # what cannot be listed is passed over, as the folder itself is
        pictures = [file for file in files if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES | UNREAD_SUFFIXES]
        paths = (Path(top) / file for file in pictures)
        found += [path.relative_to(folder).as_posix() for path in paths if _is_plain_file(path)]
    return sorted(found)


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # in a folder that may be listed, but not entered
        return False


def _number(names: tuple[str, ...]) -> str:
    return "1 picture is" if len(names) == 1 else f"{len(names)} pictures are"
