"""Digests of JSON values, files and arrays: what keys are made of."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import StoreError

JSON = None | bool | int | float | str | list[Any] | dict[str, Any]
_BLOCK_BYTES = 1 << 20


def plain_json(value: Any, where: str = "value") -> JSON:
    """Copy ``value`` deeply, made of None, bool, int, float, str, list and dict only.

    Tuples become lists; subclasses of the scalar types (``numpy.float64``, ``IntEnum``) become the type itself.

    Raises:
        StoreError: NaN, infinity, a key that is not a str, or any other type, named by its place (``params.svm.C``).
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StoreError(f"{where}: {value} cannot be part of a key or a manifest; use null or a finite number")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StoreError(f"{where}: the key {key!r} is a {type(key).__name__}; make it a str")
        return {str.__str__(key): plain_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise StoreError(
        f"{where}: a {type(value).__name__} cannot be part of a key or a manifest; "
        "convert it to str, int, float, bool, None, list or dict (numpy: .item() or .tolist())"
    )


def canonical_json(value: Any, where: str = "value") -> bytes:
    """The one JSON text of a value: keys sorted, no spaces, ASCII, floats in Python's shortest repr.

    ``1``, ``1.0`` and ``True`` have three different texts (``1``, ``1.0``, ``true``), hence three different digests,
    although Python calls them equal; so do ``0.0`` and ``-0.0``. A parameter model that declares its fields' types
    (pydantic) makes sure that the same setting always arrives as the same type.
    """
    plain = plain_json(value, where)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest_json(value: Any) -> str:
    """sha256 (hex) of a JSON value's canonical text; StoreError if it holds anything that is not JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: str | Path) -> str:
    """sha256 (hex) of a file's bytes; StoreError naming the file if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def digest_array(*arrays: NDArray[Any]) -> str:
    """sha256 (hex) of one or several arrays: their dtypes, shapes and values, whatever their memory layout.

    Byte order does not count; the dtype does (float16 and float32 copies of the same numbers differ).
    """
    sha = hashlib.sha256()
    for array in arrays:
        plain = np.asarray(array)
        if plain.dtype.hasobject:
            raise StoreError("an array of Python objects has no digest; convert it to numbers or fixed-width strings")
        little = np.ascontiguousarray(plain, plain.dtype.newbyteorder("<"))
        sha.update(f"{little.dtype.str}{plain.shape};".encode())
        data = little.reshape(-1).view(np.uint8).data if little.size else memoryview(b"")
        for start in range(0, len(data), _BLOCK_BYTES):
            sha.update(data[start : start + _BLOCK_BYTES])
    return sha.hexdigest()
