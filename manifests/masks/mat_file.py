"""Reads the .mat files of the Semantic Boundaries Dataset (SBD), MATLAB's version 5 and 7.3."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import DatasetError
from cache.untrusted import check_heaps, plain_dataset, read_values
from manifests.files import refuse_pointer

from .mat_v5 import HEADER_BYTES, byte_order, read_numbers, read_struct

_V5, _V73 = 1, 2
_STRUCT = "GTinst"
_FIELDS = ("Segmentation", "Categories")


def read_sbd(data: bytes, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read ``GTinst`` of one image's file: its ``Segmentation`` and ``Categories``.

    ``name`` is used in errors only. Nothing in the file is unpickled or run, and it takes no more memory than 128 MiB.

    Returns:
        int64 [H, W], 0 where no object is, else the object's number; int64 [n], the class of each, from 1.

    Raises:
        DatasetError: another version, damaged, without GTinst, an object without a category.
    """
    if not data:
        raise DatasetError(f"{name}: the file is empty; replace or remove it")
    refuse_pointer(data, name)
    version = int.from_bytes(data[124:126], "big" if byte_order(data) == ">" else "little") >> 8
    if len(data) < HEADER_BYTES or not data.startswith(b"MATLAB") or version not in (_V5, _V73):
        what = "a MATLAB file of version 4" if _is_version_4(data) else "no MATLAB file of version 5 or 7.3"
        raise DatasetError(f"{name}: is {what}; save it in MATLAB with -v7 or -v7.3")
    try:
        found = _version_73(data) if version == _V73 else _version_5(data)
        labels, categories = (np.asarray(one) for one in found)
        if labels.ndim != 2 or not all(one.dtype.kind in "iufb" for one in (labels, categories)):
            raise ValueError(f"GTinst.Segmentation has shape {list(labels.shape)}, not [height, width], or no numbers")
        numbers, classes = _whole(labels), _whole(categories).reshape(-1)
    except KeyError as error:
        raise DatasetError(f"{name}: has no {error.args[0]}; is it a file of SBD's inst/?") from None
    except MemoryError:  # the machine's fault
        raise
    except Exception as error:  # HDF5 raises many kinds for damaged bytes
        reason = " ".join(f"{error}".split())[:200]
        raise DatasetError(f"{name}: is cut short or damaged ({reason}); replace it") from None
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) <= len(classes):
        raise DatasetError(
            f"{name}: its objects have numbers from {numbers.min()} to {numbers.max()}, but Categories has "
            f"{len(classes)}; correct it"
        )
    return numbers, classes


def _is_version_4(data: bytes) -> bool:
    """Whether the first number is one of version 4's types, which it has in place of a text."""
    return len(data) > 20 and int.from_bytes(data[:4], "little") in (0, 10, 20, 30, 40, 50)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):  # NaN, which the next line refuses
        whole: NDArray[np.int64] = values.astype(np.int64)
    if (whole != values).any():
        raise ValueError("it has numbers that are not whole")
    return whole


def _version_5(data: bytes) -> tuple[Any, Any]:
    fields = read_struct(data, _STRUCT)
    for key in _FIELDS:
        if key not in fields:
            raise KeyError(f"{_STRUCT}.{key}")
    labels, categories = (read_numbers(fields[key], byte_order(data)) for key in _FIELDS)
    return labels, categories


def _version_73(data: bytes) -> tuple[Any, Any]:
    import h5py

    check_heaps(data)
    with h5py.File(io.BytesIO(data), "r") as file:
        if not isinstance(file.get(_STRUCT, getlink=True), h5py.HardLink) or not isinstance(file[_STRUCT], h5py.Group):
            raise KeyError(_STRUCT)
        group = file[_STRUCT]
        for key in _FIELDS:
            if key not in group:
                raise KeyError(f"{_STRUCT}.{key}")
        labels, categories = (read_values(plain_dataset(group, key)) for key in _FIELDS)
    return labels.T, categories  # MATLAB's arrays lie column by column
