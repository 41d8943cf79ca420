"""``object.json``: what an object is, which environment computed it, and the size and checksum of each of its files."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import PurePosixPath
from typing import Any

import google_crc32c
import numpy as np

from cache import _hdf5, _zarr

from .environment import Environment
from .errors import StoreError, StoreVersionError
from .recipe import Form, Payload, Recipe, checked_name

RECORD_FILE = "object.json"
Span = tuple[int, int]  # first and last byte (exclusive)
_DTYPE = re.compile(r"[<|][biufU][0-9]{1,9}")
RECORD_FORMAT = 3
_WITHOUT_ENVIRONMENT = 2  # the format of records from before they named it; they stay as they are
# More is no array that this program wrote, and what the record declares is allocated.
_MAX_BYTES = 1 << 40
_MAX_TEXT_BYTES = 1 << 28
_SEAL = b',\n "checksum": "%s"\n}\n'
# A direct member of attrs, by its indentation.
_IMAGE = re.compile(rb'^  "image": ("(?:[^"\\]|\\.)*")', re.MULTILINE)
_ENVIRONMENT = re.compile(rb'^ "environment": (\{[^{}]*\})', re.MULTILINE)


class DamagedRecordError(ValueError):
    """``object.json`` is not what was written."""


def crc32c(data: bytes) -> str:
    """Compute a CRC-32C, as 8 hex digits."""
    return f"{google_crc32c.value(data):08x}"


def sealed(body: Mapping[str, Any]) -> bytes:
    """Write a record: indented JSON with sorted keys, then the checksum of every byte before it."""
    return _sealed(json.dumps(body, indent=1, sort_keys=True).encode().removesuffix(b"\n}"))


def _sealed(text: bytes) -> bytes:
    return text + _SEAL % crc32c(text).encode()


@dataclass(frozen=True)
class ArraySpec:
    """Shape and numpy dtype string (``<f2``) of one stored array, and the rows of each chunk where it has several."""

    shape: tuple[int, ...]
    dtype: str
    chunk_rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON value that the record has."""
        chunks = {"chunk_rows": self.chunk_rows} if self.chunk_rows else {}
        return {"shape": list(self.shape), "dtype": self.dtype, **chunks}


@dataclass(frozen=True)
class FileSpec:
    """Size and CRC-32C (hex) of one stored file, and of each chunk where it holds several, in their order."""

    nbytes: int
    crc32c: str
    chunk_nbytes: tuple[int, ...] = ()
    chunk_crc32c: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON value that the record has."""
        chunks = {"chunk_nbytes": list(self.chunk_nbytes), "chunk_crc32c": list(self.chunk_crc32c)}
        return {"nbytes": self.nbytes, "crc32c": self.crc32c, **(chunks if self.chunk_nbytes else {})}

    @classmethod
    def of(cls, data: bytes, chunks: Sequence[int] = ()) -> "FileSpec":
        """Measure a file's bytes, which begin with chunks of these sizes."""
        ends = list(accumulate(chunks, initial=0))
        sums = tuple(crc32c(data[a:b]) for a, b in pairwise(ends))
        return cls(len(data), crc32c(data), tuple(chunks), sums)


def check_environment(recipe: Recipe, environment: Environment | None) -> None:
    """Raise StoreError unless the environment is the one that the recipe asks for, if it asks for one."""
    if recipe.environment is None or (environment is not None and environment.digest == recipe.environment):
        return
    raise StoreError(
        f"{recipe.stage} object {recipe.key[:12]} is named after another environment than the one that computes it "
        f"({environment}); use the same one everywhere, or set store.environment to record"
    )


def _environment(body: Mapping[str, Any]) -> Environment | None:
    """Read the environment that a record's JSON names; ValueError unless it has what its format must have."""
    if (body["format"] == RECORD_FORMAT) != ("environment" in body):
        raise ValueError(f"has format {body['format']!r} and other fields than that")
    return Environment.from_json(body["environment"]) if "environment" in body else None


def check_files(form: str, files: Mapping[str, FileSpec]) -> None:
    """Raise ValueError unless an object of this form can have these files: whoever seals a record names any path."""
    for name, spec in files.items():
        path = PurePosixPath(name)
        inside = name == _hdf5.FILE if form == "hdf5" else form == "zarr" and path.parts[:1] == (_zarr.FOLDER,)
        if not inside or ".." in path.parts or str(path) != name or "\0" in name:
            raise ValueError(f"{name!r} is no file of an object of form {form!r}")
        sizes, sums = (spec.nbytes, *spec.chunk_nbytes), (spec.crc32c, *spec.chunk_crc32c)
        if any(type(n) is not int or n < 0 for n in sizes) or any(type(c) is not str for c in sums):
            raise ValueError(f"{name}: has no sizes and checksums")
        if len(sizes) != len(sums) or sum(spec.chunk_nbytes) > spec.nbytes:
            raise ValueError(f"{name}: has other chunks than it holds")


def check_arrays(form: str, arrays: Mapping[str, ArraySpec], files: Mapping[str, FileSpec]) -> None:
    """Raise ValueError or TypeError unless an object can have these arrays; StoreError for a name that none has."""
    for name, spec in arrays.items():
        checked_name(name, "array")
        if not _DTYPE.fullmatch(spec.dtype) or (dtype := np.dtype(spec.dtype)).str != spec.dtype:
            raise ValueError(f"array {name!r} has dtype {spec.dtype!r}")
        if any(type(extent) is not int or extent < 0 for extent in spec.shape):
            raise ValueError(f"array {name!r} has shape {list(spec.shape)}")
        nbytes = math.prod(spec.shape) * dtype.itemsize
        if nbytes > (_MAX_TEXT_BYTES if dtype.kind == "U" else _MAX_BYTES):
            raise ValueError(f"array {name!r} would take {nbytes} bytes")
        if form == "zarr":
            _check_chunks(name, spec, files)


def _check_chunks(name: str, spec: ArraySpec, files: Mapping[str, FileSpec]) -> None:
    """Raise ValueError unless the array's one file has as many chunks as the array."""
    if (
        type(spec.chunk_rows) is not int
        or spec.chunk_rows < 0
        or (spec.chunk_rows and (0 in spec.shape or not spec.shape))
    ):
        raise ValueError(f"array {name!r} cannot have chunks of {spec.chunk_rows!r} rows")
    file = files.get(_zarr.data_file(name, spec.shape))
    if file is None and 0 not in spec.shape:
        raise ValueError(f"array {name!r} has no file")
    count = -(-spec.shape[0] // spec.chunk_rows) if spec.chunk_rows else 0
    if count != len(file.chunk_nbytes if file else ()):
        raise ValueError(f"array {name!r} has {count} chunks and its file has others")


@dataclass(frozen=True)
class ObjectRecord:
    """The content of ``object.json``. Equal payloads, recipes and environments have equal bytes: it holds no time.

    ``environment`` is None where the record is from before records named it.
    """

    recipe: Recipe
    attrs: Mapping[str, Any]
    form: Form
    arrays: Mapping[str, ArraySpec]
    files: Mapping[str, FileSpec]
    environment: Environment | None = None

    def to_bytes(self) -> bytes:
        """Indented JSON with sorted keys and a checksum of everything else in it."""
        return sealed(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The record as a JSON value, without its checksum."""
        body = {
            "format": _WITHOUT_ENVIRONMENT,
            "key": self.recipe.key,
            "recipe": self.recipe.as_dict(),
            "attrs": self.attrs,
            "form": self.form,
            "arrays": {name: a.as_dict() for name, a in self.arrays.items()},
            "files": {name: f.as_dict() for name, f in self.files.items()},
        }
        if self.environment is None:
            return body
        return {**body, "format": RECORD_FORMAT, "environment": self.environment.as_json()}

    @classmethod
    def from_bytes(cls, data: bytes) -> "ObjectRecord":
        """Read and check; DamagedRecordError if its checksum differs, StoreVersionError if it is newer."""
        try:
            if data != _sealed(data.rpartition(_SEAL[: _SEAL.index(b"%")])[0]):
                raise DamagedRecordError("its checksum differs")
            body = json.loads(data)
            if body["format"] > RECORD_FORMAT:
                raise StoreVersionError(
                    f"object {body['key']} has format {body['format']} and this program reads up to {RECORD_FORMAT}; "
                    "update the program or use another store folder"
                )
            files = {name: FileSpec(**_tuples(spec)) for name, spec in body["files"].items()}
            arrays = {name: ArraySpec(**_tuples(spec)) for name, spec in body["arrays"].items()}
            check_files(body["form"], files)
            check_arrays(body["form"], arrays, files)
            recipe, environment = Recipe(**body["recipe"]), _environment(body)
            check_environment(recipe, environment)
            return cls(recipe, dict(body["attrs"]), body["form"], arrays, files, environment)
        except StoreVersionError:
            raise
        except (StoreError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedRecordError(str(error)) from error

    @property
    def payload(self) -> str:
        """Name of the file or folder that ``h5py.File`` or ``zarr.open`` opens."""
        return _hdf5.FILE if self.form == "hdf5" else _zarr.FOLDER

    @property
    def nbytes(self) -> int:
        """Bytes of the payload's files."""
        return sum(spec.nbytes for spec in self.files.values())

    def damage(self, name: str, data: bytes | None, span: Span | None = None) -> str:
        """Say what is wrong with the bytes read for a payload file (None: it is not there); "" if nothing is.

        ``span``: first and last byte (exclusive) of the chunks that were read, where it was not the whole file.
        """
        spec = self.files.get(name)
        if data is None or spec is None:
            return f"{name} is gone"
        if span is not None:
            return self._chunk_damage(name, spec, data, span)
        if len(data) != spec.nbytes:
            return f"{name} has {len(data)} bytes where {spec.nbytes} were written"
        if crc32c(data) != spec.crc32c:
            return f"{name} has CRC-32C {crc32c(data)} where {spec.crc32c} was written"
        return ""

    @staticmethod
    def _chunk_damage(name: str, spec: FileSpec, data: bytes, span: Span) -> str:
        at = list(accumulate(spec.chunk_nbytes, initial=0))
        first, last = at.index(span[0]), at.index(span[1])
        for i in range(first, last):
            if crc32c(data[at[i] - span[0] : at[i + 1] - span[0]]) != spec.chunk_crc32c[i]:
                return f"{name}, chunk {i}, differs from the CRC-32C {spec.chunk_crc32c[i]} that was written"
        return ""

    def files_of(self, names: list[str], rows: slice | None = None) -> dict[str, Span | None]:
        """List the files to read for some arrays; with ``rows``, of one with chunks the span of bytes that has them.

        None stands for the whole file.
        """
        if self.form == "hdf5":
            return {_hdf5.FILE: None}
        wanted: dict[str, Span | None] = {}
        for name in names:
            layout = self._layout(name)
            wanted.update(dict.fromkeys(_zarr.meta_files(name)))
            if 0 not in layout.shape:
                span = layout.span(layout.chunks(rows)) if rows is not None and layout.rows else None
                wanted[_zarr.data_file(name, layout.shape)] = span
        return wanted

    def _layout(self, name: str) -> _zarr.ChunkLayout:
        spec = self.arrays[name]
        file = self.files.get(_zarr.data_file(name, spec.shape))
        return _zarr.ChunkLayout(spec.shape, np.dtype(spec.dtype), spec.chunk_rows, file.chunk_nbytes if file else ())

    def decode(self, files: Mapping[str, bytes], names: list[str], rows: slice | None = None) -> dict[str, Any]:
        """Read arrays from the checked contents of ``files_of``; DamagedRecordError where they hold something else."""
        if not names:
            return {}
        every = slice(None)
        try:
            if self.form == "zarr":
                layouts = {name: self._layout(name) for name in names}
                return _zarr.from_zarr(files, layouts, rows or every, whole=rows is None)
            forms = {name: (self.arrays[name].shape, np.dtype(self.arrays[name].dtype)) for name in names}
            arrays = _hdf5.from_hdf5(files, forms)
        except (MemoryError, ImportError):  # the machine's fault, or the installation's
            raise
        except Exception as error:  # HDF5 and zarr have no base class of their own for what strange bytes lead to
            raise DamagedRecordError(f"{self.payload} is not as it is written here ({error})") from error
        return {name: array[rows or every] if array.ndim else array for name, array in arrays.items()}


def image_in(data: bytes) -> str:
    """Find the image that a record's bytes name, also where they are damaged; "" where that cannot be read."""
    found = _IMAGE.search(data)
    try:
        return str(json.loads(found[1])) if found else ""
    except ValueError:
        return ""


def environment_in(data: bytes) -> Environment | None:
    """Find the environment that a record's bytes name, the checksum not looked at; None where they name none.

    A tenth of the time of ``ObjectRecord.from_bytes``, for telling people of thousands of objects.
    """
    found = _ENVIRONMENT.search(data)
    try:
        return Environment.from_json(json.loads(found[1])) if found else None
    except ValueError:
        return None


def object_files(recipe: Recipe, payload: Payload, environment: Environment | None) -> dict[str, bytes]:
    """Write all files of an object: their bytes by relative path, ``object.json`` last.

    StoreError for a payload that cannot be stored, or an environment that is not the recipe's.
    """
    check_environment(recipe, environment)
    checked = payload.checked()
    files, layouts = _encoded(checked)
    chunks = {_zarr.data_file(name, layout.shape): layout.sizes for name, layout in layouts.items()}
    rows = {name: layout.rows for name, layout in layouts.items()}
    record = ObjectRecord(
        recipe=recipe,
        attrs=checked.attrs,
        form=checked.form,
        arrays={n: ArraySpec(array.shape, array.dtype.str, rows.get(n, 0)) for n, array in checked.arrays.items()},
        files={name: FileSpec.of(data, chunks.get(name, ())) for name, data in files.items()},
        environment=environment,
    )
    return {**files, RECORD_FILE: record.to_bytes()}


def _encoded(payload: Payload) -> tuple[dict[str, bytes], dict[str, _zarr.ChunkLayout]]:
    if payload.form == "zarr":
        return _zarr.to_zarr(payload.arrays, payload.attrs)
    return _hdf5.to_hdf5(payload.arrays, payload.attrs), {}


def _tuples(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}
