"""The content-addressed store: immutable objects named by their keys, in a folder or at a URL.

Layout under the root: ``store.json`` (format version), ``objects/<stage>/<key[:2]>/<key>`` (see ``folder`` and
``url``), ``tmp/`` (objects being written), ``quarantine/`` (damaged objects), ``refs/`` (artifact manifests of every
run, so that gc knows them).
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from cache import record

from .artifact import Artifact
from .backend import Backend, Entry
from .environment import Environment, present
from .errors import CorruptObjectError, MissingObjectError, StoreError, StoreVersionError, remedy
from .folder import FolderBackend
from .recipe import Payload, Recipe, StoredObject, check_key, check_stage
from .url import UrlBackend

STORE_FORMAT = 2  # 1 was never released
_DESCRIPTION = "store.json"
_FOLDERS = ("objects", "refs", "tmp", "quarantine")
_FILE_URL = "file://"


def is_url(root: str | Path) -> bool:
    """Tell whether a store's root is a URL and not a folder (which may be written as file:///...)."""
    return "://" in str(root) and not str(root).startswith(_FILE_URL)


class Store:
    """A store in a folder or at a URL. Safe for many threads and processes at once; may be read-only; picklable.

    Opening creates nothing; the first ``put`` does. Raises StoreVersionError if the store is newer than the program.
    """

    def __init__(self, root: str | Path) -> None:
        folder = Path(str(root).removeprefix(_FILE_URL))
        self.backend: Backend = UrlBackend(str(root)) if is_url(root) else FolderBackend(folder)
        self._described = False
        self._check_version()

    @property
    def root(self) -> Path | str:
        """The store's folder or URL."""
        return self.backend.root

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def exists(self) -> bool:
        """Tell whether anything was ever written here."""
        with self.backend.explained("looking for a store"):
            return _DESCRIPTION in self.backend.names("")

    def path(self, stage: str, key: str) -> Path:
        """Path of an object's folder, or where it would be; StoreError for a store at a URL, which has no folders."""
        _check(stage, key)
        if not isinstance(self.root, Path):
            raise StoreError(f"{self.root}: a store at a URL has no folders; `rcnn cache pull` copies it into one")
        return self.root / "objects" / stage / key[:2] / key

    def has(self, stage: str, key: str) -> bool:
        """Tell whether the object was written. Its bytes are checked when they are read."""
        _check(stage, key)
        with self.backend.explained(f"looking for {stage} object {key[:12]}"):
            return self.backend.has(stage, key)

    def missing(self, stage: str, keys: Iterable[str]) -> set[str]:
        """Return the keys to be computed. Those present are marked as in use, which starts gc's grace period anew."""
        keys = set(keys)
        for key in keys:
            _check(stage, key)
        with self.backend.explained(f"looking for {stage} objects"):
            return keys - self.backend.present(stage, keys)

    def put(self, recipe: Recipe, payload: Payload, environment: Environment | None = None) -> str:
        """Write an object and return its key; if the object is there already, nothing is written.

        When this returns the object is whole, durable and visible; when it is killed or fails, nothing is visible.
        ``environment`` is what computed the payload; None: this process, on its CPU.

        Raises StoreFullError (no space, quota, file size limit) or StoreError (payload that cannot be stored, another
        environment than the recipe's, no permission).
        """
        if not self.missing(recipe.stage, [recipe.key]):
            return recipe.key
        image = payload.attrs.get("image")
        doing = f"writing {recipe.stage} object {recipe.key[:12]}" + (f" of image {image}" if image else "")
        files = record.object_files(recipe, payload, environment or present())
        self._write(recipe.stage, recipe.key, files, doing)
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
        return StoredObject(found.attrs, self._read(found, wanted))

    def get_rows(self, stage: str, key: str, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start:stop`` (as a slice) of one array; of a zarr object only the chunks that hold them."""
        return self._read(self._record(stage, key), [name], slice(start, stop))[name]

    def describe(self, stage: str, key: str) -> dict[str, Any]:
        """Tell what the object was made of, what computed it, and what it holds.

        ``key``, ``recipe``, ``environment`` (None where the record does not name it), ``attrs``, ``form``, ``arrays``
        (shape, dtype, and chunk_rows where an array has several chunks), ``files`` (nbytes, crc32c, and chunk_nbytes
        and chunk_crc32c of those), ``format`` (of the record), ``nbytes``, ``created`` (seconds since the epoch),
        ``path`` (where it lies), ``payload`` (what h5py.File or zarr.open opens; at a URL the archive that holds it).
        """
        found, entry = self._record(stage, key), self.backend.entry(stage, key)
        created = self.backend.stat(entry).created
        place = {"path": str(self.backend.locate(entry.name)), "payload": self.backend.payload_path(found)}
        return {"environment": None, **found.as_dict(), **place, "nbytes": found.nbytes, "created": created}

    def register(self, artifact: Artifact) -> str:
        """Keep an artifact manifest in ``refs/``, so that gc spares its objects whichever experiment made them.

        Returns its name in the store, as ``references`` has it.
        """
        name = _reference_name(artifact)
        with self.backend.explained(f"writing the reference to {artifact.stage} results"):
            self._prepare()
            self.backend.write(name, artifact.to_bytes())
        return name

    def unregister(self, name: str) -> None:
        """Take back what ``register`` returned."""
        with self.backend.explained(f"removing {name}"):
            self.backend.remove(Entry("reference", "", name))

    def references(self, skip: Container[str] = ()) -> dict[str, Artifact]:
        """Read every registered artifact manifest, by its name in the store, but for ``skip``.

        Raises StoreError or StoreVersionError if one cannot be read.
        """
        with self.backend.explained("reading the references"):
            names = [f"refs/{name}" for name in self.backend.names("refs") if name.endswith(".json") and name[0] != "."]
            try:
                return {name: self._reference(name) for name in names if name not in skip}
            except FileNotFoundError:
                pass
        # A run was through in this moment: it has put its manifest in the place of its claim.
        return self.references(skip)

    def check(self, stage: str, key: str) -> list[str]:
        """Re-read every file of an object and list what is wrong with it, one line each. Moves nothing.

        Raises StoreError if a file cannot be read, StoreVersionError if the object is newer than this program.
        """
        _check(stage, key)
        try:
            found = record.ObjectRecord.from_bytes(self.backend.record(stage, key))
        except FileNotFoundError:
            return [f"{record.RECORD_FILE} is gone"]
        except OSError as error:
            raise self._unreadable(stage, key, error) from error
        except record.DamagedRecordError as error:
            return [f"{record.RECORD_FILE}: {error}"]
        if (found.recipe.stage, found.recipe.key) != (stage, key):
            return [f"{record.RECORD_FILE}: it belongs to {found.recipe.stage} object {found.recipe.key}"]
        try:
            files, extras = self.backend.everything(found)
        except FileNotFoundError:
            return ["it went while it was read"]
        except OSError as error:
            raise self._unreadable(stage, key, error) from error
        return [what for name, data in files.items() if (what := found.damage(name, data))] + extras

    def export(self, stage: str, key: str) -> dict[str, bytes]:
        """Read an object's files, checked, ``object.json`` last, for another store to take in; raises as ``get``."""
        found = self._record(stage, key)
        return {**self._files(found, dict.fromkeys(found.files)), record.RECORD_FILE: found.to_bytes()}

    def take_in(self, stage: str, key: str, files: Mapping[str, bytes]) -> None:
        """Write an object that another store gave; it has been checked there, and its record is checked here."""
        found = record.ObjectRecord.from_bytes(files[record.RECORD_FILE])
        if (found.recipe.stage, found.recipe.key) != (stage, key) or {*found.files, record.RECORD_FILE} != set(files):
            raise StoreError(f"{stage} object {key}: the files given are not its own")
        self._write(stage, key, files, f"writing {stage} object {key[:12]}")

    def quarantine(self, stage: str, key: str) -> bool:
        """Take an object out of the store into ``quarantine/``; False if that cannot be done (read-only store)."""
        _check(stage, key)
        try:
            self.backend.quarantine(stage, key)
        except OSError:
            return False
        return True

    def _check_version(self) -> None:
        where = self.backend.locate(_DESCRIPTION)
        try:
            version = json.loads(self.backend.read(_DESCRIPTION))["format"]
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{where}: cannot be read ({error.strerror}); {self.backend.remedy}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"{where}: not a store description; restore it or choose another store folder") from error
        if version == 1:
            raise StoreVersionError(
                f"{self.root}: this store has format 1, of before the first release; remove it or choose another folder"
            )
        if not isinstance(version, int) or version != STORE_FORMAT:
            raise StoreVersionError(
                f"{self.root}: this store has format {version} and this program reads up to {STORE_FORMAT}; "
                "update the program or choose another store folder"
            )

    def _prepare(self) -> None:
        """Write the store's description where there is none yet; StoreError where folders of these names are another's.

        What lies in ``tmp/`` would be gc's to remove.
        """
        if not self._described:
            try:
                self.backend.read(_DESCRIPTION)
            except FileNotFoundError:
                others = [name for name in _FOLDERS if self.backend.names(name)]
                # asked again: a process that makes the store just now writes its description before all else
                if others and not self.exists():
                    raise StoreError(
                        f"{self.root}: is no store, but holds {others[0]}/, which a store would take for its own; "
                        f"choose another folder (or restore its {_DESCRIPTION}, if it was one)"
                    ) from None
                self.backend.write(_DESCRIPTION, json.dumps({"format": STORE_FORMAT}).encode() + b"\n")
            self._described = True

    def _write(self, stage: str, key: str, files: Mapping[str, bytes], doing: str) -> None:
        with self.backend.explained(doing):
            self._prepare()
            self.backend.put(stage, key, files)

    def _reference(self, name: str) -> Artifact:
        found = Artifact.from_bytes(self.backend.read(name), str(self.backend.locate(name)))
        if name != _reference_name(found):  # gc would remove what it does not name
            raise StoreError(
                f"{self.backend.locate(name)}: is damaged: it does not hold what its name says; remove it and run "
                f"`dvc repro -f -s {found.stage}` in the workspace that it is of"
            )
        return found

    def _record(self, stage: str, key: str) -> record.ObjectRecord:
        _check(stage, key)
        try:
            found = record.ObjectRecord.from_bytes(self.backend.record(stage, key))
        except FileNotFoundError:
            raise self._missing(stage, key) from None
        except OSError as error:
            raise self._unreadable(stage, key, error) from error
        except record.DamagedRecordError as error:
            self._corrupt(stage, key, f"{record.RECORD_FILE}: {error}")
        if (found.recipe.stage, found.recipe.key) != (stage, key):
            self._corrupt(stage, key, f"it belongs to {found.recipe.stage} object {found.recipe.key}")
        return found

    def _read(self, found: record.ObjectRecord, names: list[str], rows: slice | None = None) -> dict[str, NDArray[Any]]:
        for name in names:
            if name not in found.arrays:
                known = ", ".join(sorted(found.arrays)) or "none"
                raise StoreError(
                    f"{found.recipe.stage} object {found.recipe.key} has no array {name!r}; it has: {known}"
                )
        files = self._files(found, found.files_of(names, rows))
        try:
            return found.decode(files, names, rows)
        except record.DamagedRecordError as error:
            self._corrupt(found.recipe.stage, found.recipe.key, str(error))

    def _files(self, found: record.ObjectRecord, wanted: Mapping[str, record.Span | None]) -> dict[str, bytes]:
        """Read payload files, or spans of them, and check them."""
        stage, key = found.recipe.stage, found.recipe.key
        try:
            files = self.backend.files(found, wanted)
        except FileNotFoundError:
            raise self._missing(stage, key) from None  # gc, or another reader's quarantine, took it in this moment
        except OSError as error:
            raise self._unreadable(stage, key, error) from error
        whole: dict[str, bytes] = {}
        for name, data in files.items():
            if damage := found.damage(name, data, wanted[name]):
                if data is None and not self.backend.has(stage, key):
                    raise self._missing(stage, key)
                self._corrupt(stage, key, damage)
            whole[name] = data or b""
        return whole

    def _corrupt(self, stage: str, key: str, damage: str) -> NoReturn:
        image = self.backend.image_of(self.backend.entry(stage, key)) or "unknown"
        quarantined = self.quarantine(stage, key)
        moved = "moved to quarantine" if quarantined else "could not be moved to quarantine; remove it"
        raise CorruptObjectError(
            f"{stage} object {key} (image {image}) in {self.root} is damaged: {damage}; {moved}; {remedy(stage)} "
            "(`rcnn cache verify --quarantine` finds all that are damaged)",
            stage,
            key,
            quarantined,
        )

    def _missing(self, stage: str, key: str) -> MissingObjectError:
        return MissingObjectError(f"{self.root} has no {stage} object {key}; {remedy(stage)}", stage, key)

    def _unreadable(self, stage: str, key: str, error: OSError) -> StoreError:
        where = error.filename or self.backend.locate(self.backend.entry(stage, key).name)
        return StoreError(f"{where}: cannot be read ({error.strerror}); {self.backend.remedy}")


def _reference_name(artifact: Artifact) -> str:
    return f"refs/{artifact.stage}-{artifact.digest}.json"


def _check(stage: str, key: str) -> None:
    check_stage(stage)
    check_key(key)
