"""``object.json``: what an object is, and the size and checksum of each of its files."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import google_crc32c
import numpy as np

from . import _hdf5, _zarr
from .digest import canonical_json
from .errors import StoreError, StoreVersionError
from .recipe import Form, Payload, Recipe, checked_name

FILE = "object.json"
_DTYPE = re.compile(r"[<|][biufU][0-9]{1,9}")
FORMAT_VERSION = 1
# More is no array that this program wrote, and what the record declares is allocated.
_MAX_BYTES = 1 << 40
_MAX_TEXT_BYTES = 1 << 28
# A direct member of attrs, by its indentation.
_IMAGE = re.compile(rb'^  "image": ("(?:[^"\\]|\\.)*")', re.MULTILINE)


class DamagedRecordError(ValueError):
    """``object.json`` is not what was written."""


def crc32c(data: bytes) -> str:
    """CRC-32C as 8 hex digits."""
    return f"{google_crc32c.value(data):08x}"


def _text(body: Any) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True)
class ArraySpec:
    """Shape and numpy dtype string (``<f2``) of one stored array."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class FileSpec:
    """Size and CRC-32C (hex) of one stored file."""

    nbytes: int
    crc32c: str


def check_files(form: str, files: Mapping[str, FileSpec]) -> None:
    """ValueError unless these can be the files of an object of this form: whoever seals a record names any path."""
    for name, spec in files.items():
        path = PurePosixPath(name)
        inside = name == _hdf5.FILE if form == "hdf5" else form == "zarr" and path.parts[:1] == (_zarr.FOLDER,)
        if not inside or ".." in path.parts or str(path) != name or "\0" in name:
            raise ValueError(f"{name!r} is no file of an object of form {form!r}")
        if type(spec.nbytes) is not int or spec.nbytes < 0 or type(spec.crc32c) is not str:
            raise ValueError(f"{name}: {spec.nbytes!r} and {spec.crc32c!r} are no size and checksum")


def check_arrays(form: str, arrays: Mapping[str, ArraySpec], n_files: int) -> None:
    """ValueError or TypeError unless these can be the arrays of an object; StoreError for a name that none has."""
    for name, spec in arrays.items():
        checked_name(name, "array")
        if not _DTYPE.fullmatch(spec.dtype) or (dtype := np.dtype(spec.dtype)).str != spec.dtype:
            raise ValueError(f"array {name!r} has dtype {spec.dtype!r}")
        if any(type(extent) is not int or extent < 0 for extent in spec.shape):
            raise ValueError(f"array {name!r} has shape {list(spec.shape)}")
        nbytes = math.prod(spec.shape) * dtype.itemsize
        if nbytes > (_MAX_TEXT_BYTES if dtype.kind == "U" else _MAX_BYTES):
            raise ValueError(f"array {name!r} would take {nbytes} bytes")
        # every chunk is a file
        if form == "zarr" and spec.shape and nbytes > n_files * _zarr.chunk_bytes(spec.shape, dtype):
            raise ValueError(f"array {name!r} has more chunks than the object has files")


@dataclass(frozen=True)
class ObjectRecord:
    """The content of ``object.json``. Equal payloads under equal recipes have equal bytes: it holds no time."""

    recipe: Recipe
    attrs: Mapping[str, Any]
    form: Form
    arrays: Mapping[str, ArraySpec]
    files: Mapping[str, FileSpec]

    def to_bytes(self) -> bytes:
        """Indented JSON with sorted keys and a checksum of everything else in it."""
        body = self.as_dict()
        return _text({**body, "checksum": crc32c(canonical_json(body))})

    def as_dict(self) -> dict[str, Any]:
        """The record as a JSON value, without its checksum."""
        return {
            "format": FORMAT_VERSION,
            "key": self.recipe.key,
            "recipe": self.recipe.as_dict(),
            "attrs": self.attrs,
            "form": self.form,
            "arrays": {name: {"shape": list(a.shape), "dtype": a.dtype} for name, a in self.arrays.items()},
            "files": {name: {"nbytes": f.nbytes, "crc32c": f.crc32c} for name, f in self.files.items()},
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> "ObjectRecord":
        """Read and check; DamagedRecordError if its checksum differs, StoreVersionError if it is newer."""
        try:
            body = json.loads(data)
            if _text(body) != data:  # "1e-05" and "1E-05" are one value, but only one of them was written
                raise DamagedRecordError("it is not as it was written")
            checksum = body.pop("checksum")
            if crc32c(canonical_json(body)) != checksum:
                raise DamagedRecordError("its checksum differs")
            if body["format"] > FORMAT_VERSION:
                raise StoreVersionError(
                    f"object {body['key']} has format {body['format']} and this program reads up to {FORMAT_VERSION}; "
                    "update the program or use another store folder"
                )
            files = {name: FileSpec(**spec) for name, spec in body["files"].items()}
            arrays = {name: ArraySpec(tuple(a["shape"]), a["dtype"]) for name, a in body["arrays"].items()}
            check_files(body["form"], files)
            check_arrays(body["form"], arrays, len(files))
            return cls(Recipe(**body["recipe"]), dict(body["attrs"]), body["form"], arrays, files)
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

    def damage(self, name: str, data: bytes | None) -> str:
        """What is wrong with the bytes read for a payload file (None: it is not there); "" if nothing is."""
        spec = self.files.get(name)
        if data is None or spec is None:
            return f"{name} is gone"
        if len(data) != spec.nbytes:
            return f"{name} has {len(data)} bytes where {spec.nbytes} were written"
        if crc32c(data) != spec.crc32c:
            return f"{name} has CRC-32C {crc32c(data)} where {spec.crc32c} was written"
        return ""

    def files_of(self, names: list[str], rows: slice = slice(None)) -> list[str]:
        """The files to read for some arrays (or some of their rows)."""
        if self.form == "hdf5":
            return [_hdf5.FILE]
        specs = [(name, self.arrays[name]) for name in names]
        # dict: the group's own metadata once
        return list(dict.fromkeys(f for n, a in specs for f in _zarr.files_of(n, a.shape, np.dtype(a.dtype), rows)))

    def decode(self, files: Mapping[str, bytes], names: list[str], rows: slice = slice(None)) -> dict[str, Any]:
        """Arrays from checked file contents; DamagedRecordError where they do not hold what the record says."""
        forms = {name: (self.arrays[name].shape, np.dtype(self.arrays[name].dtype)) for name in names}
        if not forms:
            return {}
        try:
            if self.form == "zarr":
                return _zarr.decode(files, forms, rows)
            arrays = _hdf5.decode(files, forms)
        except MemoryError:  # the machine's fault
            raise
        except Exception as error:  # HDF5 and zarr have no base class of their own for what strange bytes lead to
            raise DamagedRecordError(f"{self.payload} is not as it is written here ({error})") from error
        return {name: array[rows] if array.ndim else array for name, array in arrays.items()}


def image_in(data: bytes) -> str:
    """The image that a record's bytes name, as far as they can be read, also where they are damaged; else ""."""
    found = _IMAGE.search(data)
    try:
        return str(json.loads(found[1])) if found else ""
    except ValueError:
        return ""


def encode(recipe: Recipe, payload: Payload) -> dict[str, bytes]:
    """All files of an object, by relative path; ``object.json`` last."""
    checked = payload.checked()
    files = (_hdf5 if checked.form == "hdf5" else _zarr).encode(checked.arrays, checked.attrs)
    record = ObjectRecord(
        recipe=recipe,
        attrs=checked.attrs,
        form=checked.form,
        arrays={name: ArraySpec(array.shape, array.dtype.str) for name, array in checked.arrays.items()},
        files={name: FileSpec(len(data), crc32c(data)) for name, data in files.items()},
    )
    return {**files, FILE: record.to_bytes()}
