"""Arrays of HDF5 and npz files that nobody vouches for: only what lies in the file itself, no more than it can hold.

HDF5 lets an array live in other files (links, virtual and external storage), and lets 1 kB declare any size; so does an
npz archive, whose members may be pickles, too. Nothing here follows a link, unpickles, or takes memory for what a
header merely declares.
"""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Deflate makes at most 1032 bytes of one. Below the second figure a size is no danger, whatever the file holds.
MAX_EXPANSION = 1032
HARMLESS_BYTES = 1 << 20
_HEAP = b"GCOL\x01\0\0\0"
_NOT_COMPRESSION = frozenset({2, 3})  # HDF5's numbers of the shuffle filter and of its checksum


class NotPlainError(ValueError):
    """The entry is no array whose values lie in this file; the message says what it is instead."""


def check_heaps(data: bytes | mmap) -> None:
    """Raise NotPlainError where a heap of texts in the bytes is damaged so that HDF5 would walk through it for ever.

    A heap is "GCOL", version 1, its size, and then objects, each with its index, a count, its size and its content; the
    library goes on by an object's size, also where that is 0 or leads out of the heap.
    """
    place = data.find(_HEAP)
    while place >= 0:
        end = place + int.from_bytes(data[place + 8 : place + 16], "little")
        at = place + 16
        while at + 16 <= min(end, len(data)):
            size = int.from_bytes(data[at + 8 : at + 16], "little")
            free = data[at : at + 2] == b"\0\0"  # whose size counts its own head
            step = size if free else 16 + -(-size // 8) * 8
            if step == 0 or at + step > end:
                raise NotPlainError("is damaged: a heap's object has no size, or too large a one")
            at += step
        place = data.find(_HEAP, place + 1)


def plain_dataset(group: Any, name: str) -> Any:
    """Open the h5py.Dataset of this name: of numbers, bool, text or records, all its values in the file.

    Raises NotPlainError, or whatever h5py raises for damaged bytes.
    """
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise NotPlainError("is a link, not an array")
    data = group[name]
    if not isinstance(data, h5py.Dataset):
        raise NotPlainError("is no array")
    if data.is_virtual or data.external:
        raise NotPlainError("keeps its values in another file; write them into this one")
    if data.dtype.hasobject and h5py.check_string_dtype(data.dtype) is None:
        raise NotPlainError("holds references or arrays of varying length, not numbers")
    return data


def read_values(data: Any) -> NDArray[Any]:
    """Read all values of a dataset of numbers; NotPlainError where it declares more than the file can hold."""
    check_size(data)
    return np.asarray(data[()])


def check_size(data: Any) -> None:
    """Raise NotPlainError where the array, or one of its chunks, is larger than what is stored can be expanded to."""
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if sum(number not in _NOT_COMPRESSION for number in filters) > 1:
        raise NotPlainError("is compressed more than once")
    chunk = 1
    for extent in data.chunks or (0,):
        chunk *= extent
    declared = max(int(data.size or 0), chunk) * data.dtype.itemsize
    stored = min(data.id.get_storage_size(), data.file.id.get_filesize())
    if declared > HARMLESS_BYTES + MAX_EXPANSION * stored:
        raise NotPlainError(f"declares {declared} bytes where the file holds {stored}")


@dataclass(frozen=True)
class StoredArray:
    """One array of a file: its shape and dtype are known, its values are read on demand."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


def npz_arrays(archive: zipfile.ZipFile) -> dict[str, StoredArray]:
    """List every array by its name without ``.npy``; ValueError, naming the member, for what is no array."""
    entries = {}
    for info in archive.infolist():
        try:
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(file)
        except Exception as error:  # zipfile and numpy raise many kinds for damaged bytes
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"'{info.filename}' is not an array ({reason})") from error
        entries[info.filename.removesuffix(".npy")] = StoredArray(
            shape, dtype, partial(_load, archive, info, shape, dtype)
        )
    return entries


def _load(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Read the values; ValueError where they are pickled or fewer than declared, before memory is taken for them."""
    nbytes = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{dtype} {list(shape)} is no array of numbers")
    if nbytes > info.file_size or nbytes > HARMLESS_BYTES + MAX_EXPANSION * info.compress_size:
        raise ValueError(f"it declares {nbytes} bytes where the file holds {min(info.file_size, info.compress_size)}")
    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
