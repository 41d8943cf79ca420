"""A store in a folder of the file system.

``objects/<stage>/<key[:2]>/<key>/`` holds ``object.json`` and ``data.h5`` or ``data.zarr/``; an object is written in
``tmp/`` and renamed into place when all of it is durable.
"""

import errno
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from cache import files as disk

from .backend import Entry, Stat
from .errors import StoreError
from .recipe import is_key, is_stage
from .record import RECORD_FILE, DamagedRecordError, ObjectRecord, Span, image_in


class FolderBackend:
    """The :class:`cache.backend.Backend` of a folder. Creates nothing until something is written."""

    remedy = "check its permissions and the disk"
    marks_use = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def locate(self, name: str) -> Path:
        return self.root / name

    def explained(self, doing: str) -> AbstractContextManager[None]:
        return disk.explained(doing, self.root)

    def read(self, name: str) -> bytes:
        return self._unlinked(name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self._unlinked(name)
        self._make_dirs(path.parent)
        disk.atomic_write(path, data, shared=disk.is_shared(self.root))

    def names(self, folder: str) -> list[str]:
        try:
            with os.scandir(self._unlinked(folder)) as found:
                return sorted(entry.name for entry in found)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def entry(self, stage: str, key: str) -> Entry:
        return Entry(stage, key, _object(stage, key))

    def has(self, stage: str, key: str) -> bool:
        try:
            os.stat(f"{self.root}/{_object(stage, key)}/{RECORD_FILE}")  # noqa: PTH116 a fifth of Path's time
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def present(self, stage: str, keys: set[str]) -> set[str]:
        for key in keys:
            self._touch(self._folder(stage, key))
        # only now: what gc took before it was touched is absent, and what it took after, gc gives back
        found = {key for key in keys if self.has(stage, key)}
        self._sync_shards(stage, {key[:2] for key in found})
        return found

    def record(self, stage: str, key: str) -> bytes:
        folder = self._folder(stage, key)
        for _ in range(2):  # an object may appear between the first look at its record and that at its folder
            with suppress(FileNotFoundError):
                return self._unlinked(f"{_object(stage, key)}/{RECORD_FILE}").read_bytes()
            if not folder.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        raise DamagedRecordError("it is gone")

    def files(self, found: ObjectRecord, wanted: Mapping[str, Span | None]) -> dict[str, bytes | None]:
        folder = _object(found.recipe.stage, found.recipe.key)
        return {name: _read_or_none(self._unlinked(f"{folder}/{name}"), span) for name, span in wanted.items()}

    def everything(self, found: ObjectRecord) -> tuple[dict[str, bytes | None], list[str]]:
        folder = self._folder(found.recipe.stage, found.recipe.key)
        present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        extras = [f"{name}: does not belong to the object" for name in sorted(present - {*found.files, RECORD_FILE})]
        return self.files(found, dict.fromkeys(found.files)), extras

    def put(self, stage: str, key: str, files: Mapping[str, bytes]) -> None:
        target = self._folder(stage, key)
        self._make_dirs(self._unlinked("tmp"))
        self._make_dirs(target.parent)
        temporary = self.root / "tmp" / disk.own_name()
        try:
            disk.write_tree(temporary, files, shared=disk.is_shared(self.root))
            while not disk.move_dir(temporary, target):
                if self.has(stage, key):  # another process was first, with the same content
                    self._sync_shards(stage, {key[:2]})
                    break
                self.quarantine(stage, key)
        finally:
            disk.remove_tree(temporary)

    def quarantine(self, stage: str, key: str) -> None:
        folder = self._unlinked("quarantine")
        self._make_dirs(folder)
        # False: another process was first, which is as good
        disk.move_away(self._folder(stage, key), folder / f"{stage}-{key}-{disk.random_name()}")

    def payload_path(self, found: ObjectRecord) -> str:
        return str(self._folder(found.recipe.stage, found.recipe.key) / found.payload)

    def objects(self, stage: str | None = None) -> Iterator[Entry]:
        for folder in self.names("objects") if stage is None else [stage]:
            if is_stage(folder) and not self._is_stray(f"objects/{folder}"):
                for shard in self.names(f"objects/{folder}"):
                    if self._is_stray(f"objects/{folder}/{shard}"):
                        continue
                    for key in self.names(f"objects/{folder}/{shard}"):
                        if is_key(key) and key[:2] == shard:
                            yield self.entry(folder, key)

    def leftovers(self) -> Iterator[Entry]:
        for kind, folder in (("temporary", "tmp"), ("quarantine", "quarantine")):
            yield from (Entry(kind, "", f"{folder}/{name}") for name in self.names(folder) if not disk.in_use(name))
        for folder in (".", "refs"):
            for name in self.names(folder):
                if name.endswith(".partial") and not disk.in_use(name.removesuffix(".partial").rpartition(".")[2]):
                    yield Entry("temporary", "", f"{folder}/{name}")

    def strays(self, stage: str | None = None) -> Iterator[Entry]:
        for folder in self.names("objects"):
            if not is_stage(folder) or self._is_stray(f"objects/{folder}"):
                yield Entry("stray", "", f"objects/{folder}")
            elif stage in (None, folder):
                for shard in self.names(f"objects/{folder}"):
                    here = f"objects/{folder}/{shard}"
                    if self._is_stray(here):
                        yield Entry("stray", "", here)
                        continue
                    wrong = (name for name in self.names(here) if not is_key(name) or name[:2] != shard)
                    yield from (Entry("stray", "", f"{here}/{name}") for name in wrong)

    def stat(self, entry: Entry) -> Stat:
        path = f"{self.root}/{entry.name}"
        about = Path(path).lstat()
        if not stat.S_ISDIR(about.st_mode):
            return Stat(about.st_size, 1, about.st_mtime, about.st_mtime)
        nbytes, files = _measured(path)
        created = about.st_mtime
        with suppress(OSError):  # listing goes on; `verify` says what is wrong
            created = Path(path, RECORD_FILE).lstat().st_mtime if entry.key else created
        return Stat(nbytes, files, created, about.st_mtime)

    def image_of(self, entry: Entry) -> str:
        try:
            return image_in(self._unlinked(f"{entry.name}/{RECORD_FILE}").read_bytes())
        except (OSError, StoreError):
            return ""

    def remove(self, entry: Entry, unused_since: float = math.inf) -> bool:
        path = self.root / entry.name
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            return True
        # first out of sight in one step, so that no reader meets half an object
        doomed = self._unlinked("tmp") / disk.own_name()
        self._make_dirs(doomed.parent)
        if not disk.move_away(path, doomed):
            return False
        used = doomed.stat().st_mtime >= unused_since
        given_back = used and disk.move_dir(doomed, path)
        disk.remove_tree(doomed)
        return not given_back

    def _make_dirs(self, path: Path) -> None:
        disk.make_dirs(path, self.root if disk.is_shared(self.root) else None)

    def _folder(self, stage: str, key: str) -> Path:
        return self._unlinked(_object(stage, key))

    def _unlinked(self, name: str) -> Path:
        """Return the path; StoreError where a part of it below the root is a link: it might lead out of the store."""
        path = str(self.root)
        for part in name.split("/"):
            path = f"{path}/{part}"
            if os.path.islink(path):  # noqa: PTH114 a fifth of Path's time
                raise StoreError(f"{path}: is a link, which nothing inside a store may be; put there what it points to")
        return Path(path)

    def _is_stray(self, name: str) -> bool:
        """Tell whether what should be a folder of objects is a file or a link."""
        path = self.root / name
        return path.is_symlink() or (path.exists() and not path.is_dir())

    def _sync_shards(self, stage: str, shards: set[str]) -> None:
        """Make durable what another process renamed into these folders: it may have died before it did so itself."""
        above = [f"objects/{stage}", "objects", "."] if shards else []
        for name in [*(f"objects/{stage}/{shard}" for shard in shards), *above]:
            with suppress(OSError):  # a store that only others may write, or without sync of folders
                disk.sync(self._unlinked(name))

    def _touch(self, folder: Path) -> None:
        with suppress(OSError):  # absent; or a store that only others may write, whose gc is theirs
            os.utime(folder)


def _object(stage: str, key: str) -> str:
    return f"objects/{stage}/{key[:2]}/{key}"


def _read_or_none(path: Path, span: Span | None) -> bytes | None:
    try:
        if span is None:
            return path.read_bytes()
        with path.open("rb") as file:
            file.seek(span[0])
            return file.read(span[1] - span[0])
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _measured(folder: str) -> tuple[int, int]:
    """Add up the bytes and the number of a folder's files, links not followed; what goes meanwhile is passed over."""
    nbytes = files = 0
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                inside = _measured(entry.path)
                nbytes, files = nbytes + inside[0], files + inside[1]
            else:
                with suppress(FileNotFoundError):
                    nbytes, files = nbytes + entry.stat(follow_symlinks=False).st_size, files + 1
    return nbytes, files
