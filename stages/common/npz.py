"""Arrays of an npz file that nobody vouches for: nothing is unpickled, and what a header declares must be there."""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.plain_hdf5 import HARMLESS_BYTES, MAX_EXPANSION


@dataclass(frozen=True)
class StoredArray:
    """One array of a file: its shape and dtype are known, its values are read on demand."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


def npz_arrays(archive: zipfile.ZipFile) -> dict[str, StoredArray]:
    """Every array by its name without ``.npy``; ValueError, naming the member, for what is no array."""
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
    """The values; ValueError where they are pickled or fewer than declared, before memory is taken for them."""
    nbytes = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{dtype} {list(shape)} is no array of numbers")
    if nbytes > info.file_size or nbytes > HARMLESS_BYTES + MAX_EXPANSION * info.compress_size:
        raise ValueError(f"it declares {nbytes} bytes where the file holds {min(info.file_size, info.compress_size)}")

    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
