"""Payloads as one HDF5 file: arrays and attributes to its bytes, and back.

Built in memory, so that the checksum is of the bytes meant, not of those read back, and equal payloads give equal bytes
(no times are tracked, and the file format's version is fixed).
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import random_name
from .recipe import ArrayForm
from .untrusted import NotPlainError, check_heaps, check_size, plain_dataset, read_values

FILE = "data.h5"
# Arrays below this many bytes gain nothing from chunks: each has its own index.
_MIN_COMPRESS_BYTES = 4096
_TRIAL_BYTES = 1 << 17
_CHUNK_BYTES = 1 << 20


def to_hdf5(arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> dict[str, bytes]:
    """Write checked arrays and attributes: ``{"data.h5": bytes}``, the same bytes for the same payload."""
    import h5py

    # The core driver tells open files apart by name, so each needs its own; the name is not part of the bytes.
    with h5py.File(random_name(), "w", driver="core", backing_store=False, libver=("earliest", "v110")) as file:
        for name in sorted(attrs):
            file.attrs[name] = _attribute(attrs[name])
        for name in sorted(arrays):
            _write_dataset(file, name, arrays[name])
        file.flush()
        return {FILE: file.id.get_file_image()}


def from_hdf5(files: Mapping[str, bytes], arrays: Mapping[str, ArrayForm]) -> dict[str, NDArray[Any]]:
    """Read arrays of these shapes and dtypes from a file's bytes; HDF5 itself has no type for fixed-width str.

    Raises NotPlainError, or whatever h5py and numpy raise, for a file that is not as ``to_hdf5`` makes it.
    """
    import h5py

    check_heaps(files[FILE])
    with h5py.File(h5py.h5f.open_file_image(files[FILE])) as file:
        return {name: _array(plain_dataset(file, name), *form) for name, form in arrays.items()}


def _array(dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    stored = dataset.dtype if dtype.kind != "U" else dtype
    if dataset.shape != shape or stored != dtype:
        raise NotPlainError(f"is {stored} {dataset.shape}, not {dtype} {shape}")
    if dtype.kind != "U":
        return read_values(dataset)
    check_size(dataset)
    out = np.empty(dataset.shape, dtype)
    text = dataset.asstr()
    for index in np.ndindex(dataset.shape):  # one by one: a file can make many long strings of one
        out[index] = text[index]
    return out


def _attribute(value: Any) -> Any:
    """Turn a value into one that HDF5 has a type for: None, lists and dicts become JSON text.

    For people who open the file: readers here take attributes from ``object.json``, which keeps every value exactly.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return value if isinstance(value, bool | float) or _is_int64(value) else json.dumps(value, sort_keys=True)


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _write_dataset(file: Any, name: str, array: NDArray[Any]) -> None:
    import h5py

    if array.dtype.kind == "U":
        file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
        return
    options: dict[str, Any] = {}
    if array.ndim and array.nbytes >= _MIN_COMPRESS_BYTES and _compresses(array):
        rows = max(1, min(len(array), _CHUNK_BYTES * len(array) // array.nbytes))
        options = {
            "chunks": (rows, *array.shape[1:]),
            "compression": "gzip",
            "compression_opts": 1,
            "shuffle": True,
        }
    dataset = file.create_dataset(name, data=array, track_times=False, **options)
    # Chunks get their place in the file when they are flushed. Left to the dataset's end that would depend on who else
    # refers to it: Dask's profiler holds the frames of running functions for moments.
    dataset.flush()


def _compresses(array: NDArray[Any]) -> bool:
    """Tell whether gzip-1 saves at least a fifth on the array's beginning."""
    sample = array.reshape(-1).view(np.uint8)[: _TRIAL_BYTES // array.itemsize * array.itemsize]
    shuffled = np.ascontiguousarray(sample.reshape(-1, array.itemsize).T).tobytes()
    return len(zlib.compress(shuffled, 1)) < 0.8 * len(shuffled)
