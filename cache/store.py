"""The content-addressed store: immutable objects in folders named by their keys.

Layout under the root: ``store.json`` (format version), ``objects/<stage>/<key[:2]>/<key>/`` (``object.json`` and
``data.h5`` or ``data.zarr/``), ``tmp/`` (objects being written), ``quarantine/`` (damaged objects), ``refs/`` (artifact
manifests of every run, so that gc knows them).
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from . import _fs, record
from .artifact import Artifact
from .errors import CorruptObjectError, MissingObjectError, StoreError, StoreVersionError, remedy
from .recipe import Payload, Recipe, StoredObject, check_key, check_stage

FORMAT_VERSION = 1
# An object found present is marked as in use (folder mtime) at most this often, so that gc spares it.
_TOUCH_S = 600.0


class Store:
    """A store in a folder. Safe for many threads and processes at once; may be read-only; picklable.

    Opening creates nothing; the first ``put`` does. Raises StoreVersionError if the store is newer than the program.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._check_version()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def path(self, stage: str, key: str) -> Path:
        """Where the object is, or would be."""
        check_stage(stage)
        check_key(key)
        return self.root / "objects" / stage / key[:2] / key

    def has(self, stage: str, key: str) -> bool:
        """Whether the object was written. Its bytes are checked when they are read."""
        return (self.path(stage, key) / record.FILE).is_file()

    def missing(self, stage: str, keys: Iterable[str]) -> set[str]:
        """The keys to be computed. Those present are marked as in use, which starts gc's grace period anew."""
        keys = set(keys)
        for key in keys:
            self._touch(self.path(stage, key))
        # only now: what gc took before it was touched is absent, and what it took after, gc gives back
        return {key for key in keys if not self.has(stage, key)}

    def put(self, recipe: Recipe, payload: Payload) -> str:
        """Write an object and return its key; if the object is there already, nothing is written.

        When this returns the object is whole, durable and visible; when it is killed or fails, nothing is visible.
        Raises StoreFullError (no space, quota, file size limit) or StoreError (payload that cannot be stored,
        no permission).
        """
        target = self.path(recipe.stage, recipe.key)
        self._touch(target)
        if self.has(recipe.stage, recipe.key):
            return recipe.key
        files = record.encode(recipe, payload)
        image = payload.attrs.get("image")
        doing = f"writing {recipe.stage} object {recipe.key[:12]}" + (f" of image {image}" if image else "")
        with _fs.explained(doing, self.root):
            self._prepare(target.parent)
            temporary = self.root / "tmp" / _fs.random_name()
            try:
                _fs.write_tree(temporary, files)
                while not _fs.move_dir(temporary, target):
                    if self.has(recipe.stage, recipe.key):  # another process was first, with the same content
                        break
                    self._quarantine(recipe.stage, recipe.key)
            finally:
                _fs.remove_tree(temporary)
        return recipe.key

    def get(self, stage: str, key: str, names: Sequence[str] | None = None) -> StoredObject:
        """Read an object's attributes and its arrays, all or the named ones.

        Exactly the files that are read are checked against their checksums first: of a zarr object those of the named
        arrays, of an HDF5 object the whole file. Raises MissingObjectError (never computed),
        CorruptObjectError (damaged: the object is moved to ``quarantine/``), StoreError (no such array, or no
        permission to read).
        """
        found = self._record(stage, key)
        wanted = list(found.arrays if names is None else names)
        return StoredObject(found.attrs, self._read(found, wanted, slice(None)))

    def get_rows(self, stage: str, key: str, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start:stop`` (as a slice) of one array; of a zarr object only the chunks that hold them are read."""
        return self._read(self._record(stage, key), [name], slice(start, stop))[name]

    def describe(self, stage: str, key: str) -> dict[str, Any]:
        """What the object was made of and what it holds.

        ``recipe``, ``attrs``, ``form``, ``arrays`` (shape, dtype), ``files`` (nbytes, crc32c), ``nbytes``, ``created``
        (seconds since the epoch), ``path`` (its folder), ``payload`` (what h5py.File or zarr.open opens).
        """
        found, folder = self._record(stage, key), self.path(stage, key)
        created = (folder / record.FILE).stat().st_mtime
        place = {"path": str(folder), "payload": str(folder / found.payload)}
        return {**found.as_dict(), **place, "nbytes": found.nbytes, "created": created}

    def register(self, artifact: Artifact) -> Path:
        """Keep an artifact manifest in ``refs/``, so that gc spares its objects whichever experiment made them."""
        path = self.root / "refs" / f"{artifact.stage}-{artifact.digest}.json"
        with _fs.explained(f"writing the reference to {artifact.stage} results", self.root):
            self._prepare(path.parent)
        artifact.write(path)
        return path

    def unregister(self, reference: Path) -> None:
        """Take back what ``register`` returned."""
        with _fs.explained(f"removing the reference {reference.name}", self.root):
            reference.unlink(missing_ok=True)

    def references(self) -> dict[Path, Artifact]:
        """Every registered artifact manifest by its file; StoreError or StoreVersionError if one cannot be read."""
        try:
            return {path: Artifact.read(path) for path in sorted((self.root / "refs").glob("[!.]*.json"))}
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # A run was through in this moment: it has put its manifest in the place of its claim.
            return self.references()

    def check(self, stage: str, key: str) -> list[str]:
        """Re-read every file of an object; what is wrong with it, one line each. Moves nothing.

        Raises StoreError if a file cannot be read, StoreVersionError if the object is newer than this program.
        """
        folder = self.path(stage, key)
        try:
            found = record.ObjectRecord.from_bytes((folder / record.FILE).read_bytes())
        except FileNotFoundError:
            return [f"{record.FILE} is gone"]
        except OSError as error:
            raise _unreadable(folder / record.FILE, error) from error
        except record.DamagedRecordError as error:
            return [f"{record.FILE}: {error}"]
        problems = []
        if (found.recipe.stage, found.recipe.key) != (stage, key):
            problems.append(f"{record.FILE}: it belongs to {found.recipe.stage} object {found.recipe.key}")
        for name in found.files:
            try:
                self._read_file(found, name)
            except _DamageError as error:
                problems.append(str(error))
        present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        problems += [f"{name}: does not belong to the object" for name in sorted(present - {*found.files, record.FILE})]
        return problems

    def quarantine(self, stage: str, key: str) -> bool:
        """Take an object out of the store into ``quarantine/``; False if that cannot be done (read-only store)."""
        try:
            self._quarantine(stage, key)
        except OSError:
            return False
        return True

    def _check_version(self) -> None:
        path = self.root / "store.json"
        try:
            version = json.loads(path.read_bytes())["format"]
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unreadable(path, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: not a store description; restore it or choose another store folder") from error
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise StoreVersionError(
                f"{self.root}: this store has format {version} and this program reads up to {FORMAT_VERSION}; "
                "update the program or choose another store folder"
            )

    def _prepare(self, folder: Path) -> None:
        """Make the store's own files and the folder an object goes to."""
        _fs.make_dirs(self.root / "tmp")
        if not (self.root / "store.json").exists():
            _fs.atomic_write(self.root / "store.json", json.dumps({"format": FORMAT_VERSION}).encode() + b"\n")
        _fs.make_dirs(folder)

    def _record(self, stage: str, key: str) -> record.ObjectRecord:
        path = self.path(stage, key) / record.FILE
        try:
            found = record.ObjectRecord.from_bytes(path.read_bytes())
        except FileNotFoundError:
            if path.parent.is_dir():
                if self.has(stage, key):  # another process has written it in this moment
                    return self._record(stage, key)
                self._corrupt(stage, key, f"{record.FILE} is gone")
            raise MissingObjectError(f"{self.root} has no {stage} object {key}; {remedy(stage)}") from None
        except OSError as error:
            raise _unreadable(path, error) from error
        except record.DamagedRecordError as error:
            self._corrupt(stage, key, f"{record.FILE}: {error}")
        if (found.recipe.stage, found.recipe.key) != (stage, key):
            self._corrupt(stage, key, f"it belongs to {found.recipe.stage} object {found.recipe.key}")
        return found

    def _read(self, found: record.ObjectRecord, names: list[str], rows: slice) -> dict[str, NDArray[Any]]:
        stage, key = found.recipe.stage, found.recipe.key
        for name in names:
            if name not in found.arrays:
                known = ", ".join(sorted(found.arrays)) or "none"
                raise StoreError(f"{stage} object {key} has no array {name!r}; it has: {known}")
        try:
            files = {name: self._read_file(found, name) for name in found.files_of(names, rows)}
        except _DamageError as error:
            self._corrupt(stage, key, str(error))
        return found.decode(files, names, rows)

    def _read_file(self, found: record.ObjectRecord, name: str) -> bytes:
        """One payload file's bytes, checked."""
        path = self.path(found.recipe.stage, found.recipe.key) / name
        try:
            data = path.read_bytes()
            spec = found.files[name]
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, KeyError):
            raise _DamageError(f"{name} is gone") from None
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(data) != spec.nbytes:
            raise _DamageError(f"{name} has {len(data)} bytes where {spec.nbytes} were written")
        if record.crc32c(data) != spec.crc32c:
            raise _DamageError(f"{name} has CRC-32C {record.crc32c(data)} where {spec.crc32c} was written")
        return data

    def _corrupt(self, stage: str, key: str, damage: str) -> NoReturn:
        image = record.image_of(self.path(stage, key)) or "unknown"
        moved = "moved to quarantine" if self.quarantine(stage, key) else "could not be moved to quarantine; remove it"
        raise CorruptObjectError(
            f"{stage} object {key} (image {image}) in {self.root} is damaged: {damage}; {moved}; {remedy(stage)}"
        )

    def _quarantine(self, stage: str, key: str) -> None:
        folder = self.root / "quarantine"
        _fs.make_dirs(folder)
        # False: another process was first, which is as good
        _fs.move_away(self.path(stage, key), folder / f"{stage}-{key}-{_fs.random_name()}")

    def _touch(self, folder: Path) -> None:
        try:
            # either way: a time to come is of a clock that was wrong, and would keep the object until then
            if abs(time.time() - folder.stat().st_mtime) > _TOUCH_S:
                os.utime(folder)
        except OSError:
            return  # a read-only store has no gc to fear


class _DamageError(Exception):
    """A payload file is not what was written."""


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot be read ({error.strerror}); check its permissions and the disk")
