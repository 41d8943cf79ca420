"""What names an object (:class:`Recipe`), what it holds (:class:`Payload`), and what is read back."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .digest import canonical_json, plain_json
from .errors import StoreError

Form = Literal["hdf5", "zarr"]
ArrayForm = tuple[tuple[int, ...], np.dtype[Any]]  # shape and dtype of a stored array
_STAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def is_stage(name: object) -> bool:
    """Tell whether the name can be a stage's, and so a folder's and nothing but a folder's."""
    return isinstance(name, str) and _STAGE.fullmatch(name) is not None


def is_key(key: object) -> bool:
    """Tell whether ``key`` is a sha256 in lower-case hex."""
    return isinstance(key, str) and _KEY.fullmatch(key) is not None


def check_stage(stage: str) -> None:
    """Raise StoreError unless ``is_stage``."""
    if not is_stage(stage):
        raise StoreError(f"stage {stage!r}: a name is a letter followed by up to 63 letters, digits, '_' or '-'")


def check_key(key: str) -> None:
    """Raise StoreError unless ``is_key``."""
    if not is_key(key):
        raise StoreError(f"key {key!r}: not 64 lower-case hex digits; `rcnn cache ls` lists the keys there are")


@dataclass(frozen=True, eq=False)
class Recipe:
    """Everything a result depends on; its digest is the result's key.

    ``stage`` and ``version`` name the code; ``params`` the settings that matter to it, and only those; ``inputs`` the
    digests of what it reads, down to the image's own bytes. Paths, times and machine names must stay out.
    ``environment`` is the digest of the :class:`~cache.environment.Environment` that computes the result, where results
    of different ones are to be kept apart; None, as usual, is no part of the key's JSON.
    ``params`` and ``inputs`` are copied and checked: JSON values only (see ``digest.canonical_json``; ``1``, ``1.0``
    and ``True`` make three different keys). Two recipes are equal when their keys are.
    """

    stage: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    environment: str | None = None

    def __post_init__(self) -> None:
        check_stage(self.stage)
        if self.environment is not None and not is_key(self.environment):
            raise StoreError(f"recipe of {self.stage}: environment {self.environment!r} is no sha256 in hex")
        if isinstance(self.version, bool) or not isinstance(self.version, int):
            raise StoreError(f"recipe of {self.stage}: version {self.version!r} is not an int")
        for name in ("params", "inputs"):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise StoreError(f"recipe of {self.stage}: {name} is a {type(value).__name__}, not a mapping")
            object.__setattr__(self, name, plain_json(value, f"recipe of {self.stage}: {name}"))

    def as_dict(self) -> dict[str, Any]:
        """The recipe as a JSON value: what ``key`` digests and ``object.json`` keeps."""
        body = {"stage": self.stage, "version": self.version, "params": self.params, "inputs": self.inputs}
        return body if self.environment is None else {**body, "environment": self.environment}

    def in_environment(self, digest: str) -> "Recipe":
        """The recipe of the same result computed in this environment, which becomes part of the key."""
        return replace(self, environment=digest)

    @cached_property
    def key(self) -> str:
        """sha256 (hex) of the recipe's canonical JSON."""
        return hashlib.sha256(canonical_json(self.as_dict())).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class Payload:
    """Content of one object: named arrays and JSON attributes, and the form it is written in.

    Arrays are bool, int8..int64, uint8..uint64, float16..float64 or fixed-width ``str``; they come back with the
    same shape, dtype and bits. ``zarr`` lets a reader take single arrays and rows; ``hdf5`` is one small file.
    """

    arrays: Mapping[str, NDArray[Any]]
    attrs: Mapping[str, Any]
    form: Form

    def checked(self) -> "Payload":
        """Copy it with contiguous little-endian arrays and plain JSON attributes; StoreError naming what is wrong."""
        if self.form not in ("hdf5", "zarr"):
            raise StoreError(f"payload form {self.form!r}: use 'hdf5' or 'zarr'")
        arrays = {checked_name(name, "array"): _checked_array(name, array) for name, array in self.arrays.items()}
        attrs = {checked_name(name, "attribute"): plain_json(v, f"attrs.{name}") for name, v in self.attrs.items()}
        return Payload(arrays, attrs, self.form)


def checked_name(name: str, kind: str) -> str:
    """Return the name, if an array or attribute can have it; StoreError otherwise. ``kind`` is for the message."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "zarr.json":
        raise StoreError(f"{kind} name {name!r}: use letters, digits, '_', '-' and '.', not starting with '.' or '-'")
    return name


def _checked_array(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise StoreError(f"array {name!r}: a {type(array).__name__} is no numpy array; use numpy.asarray")
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
        raise StoreError(
            f"array {name!r}: dtype {array.dtype} cannot be stored; use bool, int, float or fixed-width str"
        )
    if array.dtype.kind == "U":
        text = "".join(array.ravel().tolist())
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise StoreError(f"array {name!r}: a string holds NUL or half a surrogate pair, which HDF5 cannot store")
    # ascontiguousarray would turn a scalar array into [1]
    return np.require(array, array.dtype.newbyteorder("<"), "C")


@dataclass(frozen=True)
class StoredObject:
    """An object read back: its attributes and the arrays that were asked for."""

    attrs: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
