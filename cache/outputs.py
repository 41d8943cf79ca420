"""Files written where the user says: never over one that this program did not write.

A folder that is written to keeps a record, ``.rcnn-outputs.jsonl``: one line for each file, with its name below the
folder and the SHA-256 of its bytes. A file is ours while its bytes are those of such a line. One that was changed
since, or that no line names, is the user's: it is never replaced.
"""

import contextlib
import hashlib
import json
import os
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .digest import digest_file
from .errors import OutputError, StoreError
from .files import atomic_write, beside, explained, make_dirs, sync

RECORD = ".rcnn-outputs.jsonl"
_HEAD = '{"files written by": "rcnn", "format": 1}\n'
_NAMED = 3  # files named where many are in the way

Digests = dict[str, set[str]]  # by each name's key, the SHA-256 of all that was written under it


class OutputFolder:
    """A folder that one command writes to. First :meth:`check`, then :meth:`prepare`, then compute and write.

    Args:
        folder: Any folder, there or not.
        instead: What the user can do about a file that is in the way; ends each refusal.
        force: Replace files that are not ours, too (the user said so). A folder is never replaced.
        elsewhere: What the user can do where the system lets nothing be written to the folder.
    """

    def __init__(
        self, folder: Path, instead: str, *, force: bool = False, elsewhere: str = "give another folder by --out"
    ) -> None:
        self._folder, self._instead, self._force, self._elsewhere = folder, instead, force, elsewhere
        self._lock = threading.Lock()
        self._recorded = _read_record(folder)

    def check(
        self, names: Sequence[str | Path], inputs: Iterable[Path] = (), protected: Mapping[Path, str] | None = None
    ) -> None:
        """Raise OutputError, one line, if writing these files would cost the user anything; nothing is touched.

        Args:
            names: All that will be written, relative to the folder.
            inputs: Files that are read; none may be replaced, not even one that is ours.
            protected: As :func:`refuse_within` takes them.
        """
        for parent in sorted({(self._folder / name).parent for name in names}):
            refuse_within(parent, protected or {}, self._instead)
        read = {_identity(path) for path in inputs}
        if in_way := list(dict.fromkeys(path for name in names if (path := self._in_way(name, read)) is not None)):
            named = ", ".join(map(str, in_way[:_NAMED]))
            more = f" and {len(in_way) - _NAMED} more" if len(in_way) > _NAMED else ""
            raise OutputError(
                f"{named}{more}: would be replaced, but rcnn did not write it (or it was changed since, or is an input "
                f"here); nothing was written; {self._instead}"
            )

    def prepare(self) -> None:
        """Make the folder and its record, so that one which cannot be written to is told before anything is computed.

        OutputError: a file of the record's name is there that is no record. StoreError: the system refuses.
        """
        with explained("making the folder", self._folder, self._elsewhere):
            make_dirs(self._folder)
        self._append("")

    def write(self, name: str | Path, data: bytes) -> None:
        """Write one file atomically, in a folder below this one if it says so; OutputError if one came in the way."""
        path = self._place(name)
        self._note(name, hashlib.sha256(data).hexdigest())
        atomic_write(path, data, instead=self._elsewhere)

    @contextlib.contextmanager
    def written_aside(self, name: str | Path) -> Iterator[Path]:
        """Give a name to write a large file under; it appears as ``name`` at the end, whole, or not at all."""
        path = self._place(name)
        unfinished = beside(path)
        try:
            with explained(f"writing {path.name}", path.parent, self._elsewhere):
                yield unfinished
                sync(unfinished)
                self._look_again(name)
                self._note(name, digest_file(unfinished))
                unfinished.replace(path)
                sync(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)

    def _place(self, name: str | Path) -> Path:
        """The path of a file that is about to be put there, in a folder that is there."""
        path = self._folder / name
        self._look_again(name)
        with explained("making the folder", path.parent, self._elsewhere):
            make_dirs(path.parent)
        return path

    def _look_again(self, name: str | Path) -> None:
        """See that nothing came in the way since the check: a run may take hours."""
        if (path := self._in_way(name, set())) is not None:
            raise OutputError(f"{path}: came here while this was running, and is left as it is; {self._instead}")

    def _in_way(self, name: str | Path, read: set[tuple[int, int]]) -> Path | None:
        """What of the user's is where this file, or a folder above it, has to be."""
        path = self._folder / name
        for parent in path.parents[: len(Path(name).parts) - 1]:
            if parent.is_symlink() or (os.path.lexists(parent) and not parent.is_dir()):
                return parent
        if not os.path.lexists(path):
            return None
        if path.is_dir() or _identity(path) in read:
            return path
        return None if self._force or (not path.is_symlink() and _is_recorded(path, name, self._recorded)) else path

    def _note(self, name: str | Path, digest: str) -> None:
        """Record a file before it is there: killed between the two, we know it all the same."""
        self._append(json.dumps({"name": Path(name).as_posix(), "sha256": digest}) + "\n")
        self._recorded.setdefault(name_key(name), set()).add(digest)

    def _append(self, line: str) -> None:
        record = self._folder / RECORD
        with self._lock, explained(f"writing {RECORD}", self._folder, self._elsewhere):
            file = os.open(record, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                length = os.fstat(file).st_size
                if length and os.pread(file, len(_HEAD), 0) != _HEAD.encode():
                    raise OutputError(f"{record}: is no record of rcnn's files; move it away, or {self._instead}")
                cut_off = length > 0 and os.pread(file, 1, length - 1) != b"\n"  # by a crash
                os.write(file, (("" if length else _HEAD) + ("\n" if cut_off else "") + line).encode())
                os.fsync(file)
            finally:
                os.close(file)


def refuse_within(folder: Path, protected: Mapping[Path, str], instead: str) -> None:
    """Raise OutputError where a folder that is to be written to lies in a protected one, also through links.

    ``protected``: folders in which nothing may be written, and what each is.
    """
    for place, what in protected.items():
        if folder.resolve().is_relative_to(place.resolve()):
            raise OutputError(f"{folder}: is in {what}; nothing was written; {instead}")


def ours(paths: Iterable[Path]) -> set[Path]:
    """Which of these files this program wrote and nobody changed since, by the records of the folders above them."""
    known: dict[Path, Digests] = {}
    found = set()
    for path in paths:
        real = path.resolve()
        for folder in real.parents:
            if folder not in known:
                known[folder] = _read_record(folder)
            if known[folder] and _is_recorded(real, real.relative_to(folder), known[folder]):
                found.add(path)
    return found


def name_key(name: str | Path) -> str:
    """What two names have in common that are one on a file system without case, or with one form of Unicode."""
    return unicodedata.normalize("NFC", Path(name).as_posix()).casefold()


def _is_recorded(path: Path, name: str | Path, recorded: Digests) -> bool:
    digests = recorded.get(name_key(name))
    if not digests or not path.is_file():
        return False
    try:
        return digest_file(path) in digests
    except StoreError:
        return False


def _read_record(folder: Path) -> Digests:
    """What the folder's record says; nothing where there is none. A line cut off by a crash says nothing."""
    try:
        lines = (folder / RECORD).read_bytes().splitlines()
    except OSError:
        return {}
    found: Digests = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            entry = json.loads(line)
            found.setdefault(name_key(str(entry["name"])), set()).add(str(entry["sha256"]))
    return found


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode, through links: equal for all names of one file. (-1, -1) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino
