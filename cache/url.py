"""A store at a URL of an object store, by fsspec: ``s3://bucket/folder``, ``gs://…``, ``abfs://…``, ``memory://…``.

Object stores have no folders to rename, but a file appears there whole or not at all. So an object is one file,
``objects/<stage>/<key[:2]>/<key>.zip``: an archive of the files that a folder would hold, uncompressed, ``object.json``
first (``pack``). A reader fetches its head, learns from the record where each file lies (``spans``), and fetches what
it wants.

There is no time of last use: gc spares what a run has claimed (``Store.register``) and what was written lately.

Credentials and endpoints come from fsspec's own configuration and environment (``AWS_…``, ``FSSPEC_S3_ENDPOINT_URL``).
"""

import errno
import io
import math
import struct
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from typing import Any

from cache import files as disk

from .backend import Entry, Stat
from .errors import StoreError
from .recipe import is_key, is_stage
from .record import RECORD_FILE, DamagedRecordError, FileSpec, ObjectRecord, Span, image_in

SUFFIX = ".zip"
_HEADER = struct.Struct("<4s5H3I2H")  # a zip's local file header
_MAX_FILE_BYTES = 2_000_000_000  # beyond, a zip needs longer headers
_MAGIC = b"PK\x03\x04"
_HEAD_BYTES = 1 << 16  # most records, and many whole objects, are smaller
_TIMES = ("LastModified", "mtime", "created", "updated", "last_modified")  # each file system has its own word
_AT_ONCE = 32  # requests in flight
_LIST_FROM = 1000  # for so many keys listing a stage is faster than asking for each
# Where a file appears at once, when it is whole; over ftp, sftp or smb half of one is visible.
_ATOMIC = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")


def pack(files: Mapping[str, bytes]) -> bytes:
    """Write ``{relative path: bytes}``, ``object.json`` among them, as the bytes of an archive."""
    for name, data in files.items():
        if len(data) > _MAX_FILE_BYTES:
            raise StoreError(f"{name} has {len(data)} bytes, too many for an archive; keep this object in a folder")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in (RECORD_FILE, *sorted(files.keys() - {RECORD_FILE})):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o444 << 16
            archive.writestr(entry, files[name])
    return out.getvalue()


def record_span(head: bytes) -> tuple[int, int]:
    """First and last byte (exclusive) of ``object.json`` in an archive beginning with ``head``; ValueError if none."""
    if len(head) < _HEADER.size:
        raise ValueError("it is cut off")
    magic, *_, size, full_size, name_length, extra = _HEADER.unpack_from(head)
    start = _HEADER.size + name_length + extra
    if magic != _MAGIC or head[_HEADER.size : _HEADER.size + name_length] != RECORD_FILE.encode() or size != full_size:
        raise ValueError("it is no object's archive")
    return start, start + size


def record_end(found: ObjectRecord) -> int:
    """Place in the object's archive at which ``object.json`` ends."""
    data = found.to_bytes()
    return record_span(pack({RECORD_FILE: data}))[1]


def spans(start: int, files: Mapping[str, FileSpec]) -> dict[str, tuple[int, int]]:
    """First and last byte (exclusive) of each payload file; ``start`` is where the record ends."""
    out, at = {}, start
    for name in sorted(files):
        at += _HEADER.size + len(name.encode())
        out[name] = (at, at + files[name].nbytes)
        at += files[name].nbytes
    return out


class UrlBackend:
    """The :class:`cache.backend.Backend` of a URL. Picklable: each process opens its own connection."""

    remedy = "check the address, the credentials and the connection"
    marks_use = False

    def __init__(self, root: str) -> None:
        protocol, _, path = root.partition("://")
        if protocol not in _ATOMIC or not path.strip("/"):
            raise StoreError(
                f"store {root}: neither a folder nor PROTOCOL://BUCKET/FOLDER, with {', '.join(_ATOMIC)} as PROTOCOL, "
                "where a file appears only when it is whole; choose such a place"
            )
        self.root = f"{protocol}://{path.strip('/')}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (UrlBackend, (self.root,))

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and the root's path in it."""
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(self.root, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreError(f"store {self.root}: {error}") from error
        return fs, path.rstrip("/")

    def locate(self, name: str) -> str:
        return f"{self.root}/{name}"

    def explained(self, doing: str) -> AbstractContextManager[None]:
        return disk.explained(doing, self.root)

    def read(self, name: str) -> bytes:
        return bytes(self._call("cat_file", name))

    def write(self, name: str, data: bytes) -> None:
        self._call("pipe_file", name, data)

    def names(self, folder: str) -> list[str]:
        try:
            found = self._call("ls", folder, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted({path.rstrip("/").rsplit("/", 1)[1] for path in found} - {folder.rsplit("/", 1)[-1]})

    def entry(self, stage: str, key: str) -> Entry:
        return Entry(stage, key, _name(stage, key))

    def has(self, stage: str, key: str) -> bool:
        try:
            return bool(self._call("info", _name(stage, key))["type"] == "file")
        except FileNotFoundError:
            return False

    def present(self, stage: str, keys: set[str]) -> set[str]:
        if len(keys) >= _LIST_FROM:
            return keys & {entry.key for entry in self.objects(stage)}
        if len(keys) == 1:
            return {key for key in keys if self.has(stage, key)}
        ordered = sorted(keys)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            there = pool.map(lambda key: self.has(stage, key), ordered)
            return {key for key, is_there in zip(ordered, there, strict=True) if is_there}

    def record(self, stage: str, key: str) -> bytes:
        name = _name(stage, key)
        head = self._range(name, 0, _HEAD_BYTES)
        try:
            start, stop = record_span(head)
        except ValueError as error:
            raise DamagedRecordError(str(error)) from error
        if stop > len(head):
            head += self._range(name, len(head), stop)
        return head[start:stop]

    def files(self, found: ObjectRecord, wanted: Mapping[str, Span | None]) -> dict[str, bytes | None]:
        name = _name(found.recipe.stage, found.recipe.key)
        place = spans(record_end(found), found.files) if wanted else {}
        parts: dict[str, Span] = {}
        for one in place.keys() & wanted.keys():
            (start, stop), span = place[one], wanted[one]
            parts[one] = (start, stop) if span is None else (start + span[0], start + span[1])
        some = [part for part in parts.values() if part[0] < part[1]]  # a server answers an empty range by everything
        fetched = [(start, self._range(name, start, stop)) for start, stop in _merged(some)]
        out: dict[str, bytes | None] = dict.fromkeys(wanted)
        for one, (start, stop) in parts.items():
            runs = [(first, data) for first, data in fetched if first <= start < stop]
            out[one] = b""
            if runs:
                first, data = runs[-1]
                out[one] = data[start - first : stop - first]
        return out

    def everything(self, found: ObjectRecord) -> tuple[dict[str, bytes | None], list[str]]:
        data = self.read(_name(found.recipe.stage, found.recipe.key))
        place = spans(record_end(found), found.files)
        files = {name: data[start:stop] for name, (start, stop) in place.items()}
        as_written = pack({**files, RECORD_FILE: found.to_bytes()}) == data
        return {**files}, [] if as_written else ["the archive around its files is not as it was written"]

    def put(self, stage: str, key: str, files: Mapping[str, bytes]) -> None:
        self._call("pipe_file", _name(stage, key), pack(files))

    def quarantine(self, stage: str, key: str) -> None:
        with suppress(FileNotFoundError):
            source, target = _name(stage, key), f"quarantine/{stage}-{key}-{disk.random_name()}{SUFFIX}"
            self.write(target, self.read(source))
            self._call("rm_file", source)

    def payload_path(self, found: ObjectRecord) -> str:
        return self.locate(_name(found.recipe.stage, found.recipe.key))

    def objects(self, stage: str | None = None) -> Iterator[Entry]:
        for name, key, path, info in self._listed(stage):
            if key:
                yield Entry(name, key, path, _stat(info))

    def leftovers(self) -> Iterator[Entry]:
        for path, info in self._find("quarantine"):
            yield Entry("quarantine", "", path, _stat(info))

    def strays(self, stage: str | None = None) -> Iterator[Entry]:
        for _, key, path, info in self._listed(stage):
            if not key:
                yield Entry("stray", "", path, _stat(info))

    def stat(self, entry: Entry) -> Stat:
        return entry.stat or _stat(self._call("info", entry.name))

    def image_of(self, entry: Entry) -> str:
        try:
            return image_in(self._range(entry.name, 0, _HEAD_BYTES))
        except OSError:
            return ""

    def remove(self, entry: Entry, unused_since: float = math.inf) -> bool:
        try:
            if _stat(self._call("info", entry.name)).used >= unused_since:
                return False
            self._call("rm_file", entry.name)
        except FileNotFoundError:
            return False
        return True

    def _call(self, method: str, name: str, *args: Any, **options: Any) -> Any:
        fs, root = self._opened
        with _as_os_error(self.locate(name)):
            return getattr(fs, method)(f"{root}/{name}", *args, **options)

    def _range(self, name: str, start: int, stop: int) -> bytes:
        try:
            return bytes(self._call("cat_file", name, start=start, end=stop))
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError) or self._call("size", name) > start:
                raise
            return b""  # cut off before that: a server refuses such a range

    def _find(self, folder: str) -> list[tuple[str, Mapping[str, Any]]]:
        """List (name, info) of every file under a folder, sorted."""
        prefix = self._opened[1].lstrip("/") + "/"
        try:
            found = self._call("find", folder, detail=True)
        except FileNotFoundError:
            return []
        return [(path.lstrip("/").removeprefix(prefix), found[path]) for path in sorted(found)]

    def _listed(self, stage: str | None) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
        """Yield (stage, key, name, info) of every file among the objects; the key of one that is no object is empty."""
        for path, info in self._find("objects" if stage is None else f"objects/{stage}"):
            parts = path.split("/")
            key = parts[-1].removesuffix(SUFFIX)
            fits = len(parts) == 4 and is_stage(parts[1]) and is_key(key) and path == _name(parts[1], key)
            yield parts[1], key if fits else "", path, info


def _name(stage: str, key: str) -> str:
    return f"objects/{stage}/{key[:2]}/{key}{SUFFIX}"


def _merged(wanted: Iterable[tuple[int, int]], gap: int = _HEAD_BYTES) -> list[tuple[int, int]]:
    """Join spans to fewer requests: those less than ``gap`` bytes apart are fetched as one."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(wanted):
        if out and start - out[-1][1] <= gap:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out


def _stat(info: Mapping[str, Any]) -> Stat:
    """Size and time of a file, as the different file systems name them."""
    when: Any = next((info[name] for name in _TIMES if info.get(name)), None) or time.time()
    seconds = when.timestamp() if hasattr(when, "timestamp") else float(when)
    return Stat(int(info.get("size") or 0), 1, seconds, seconds)


@contextmanager
def _as_os_error(where: str) -> Iterator[None]:
    """Turn what a file system raises for no connection or credentials into an OSError; ``where`` is the file's URL."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            error.strerror = str(error).splitlines()[0] if str(error) else type(error).__name__
        error.filename = where
        raise
    except Exception as error:
        text = (str(error).splitlines() or [""])[0]
        raise OSError(errno.EIO, f"{type(error).__name__}: {text}", where) from error
