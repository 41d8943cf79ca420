"""A payload as the files of one zarr v3 group, and back.

One writer per object and whole chunks only: appending to a shared chunk loses data (zarr#3682). Every chunk is written,
also one that holds only fill values, so an absent chunk is always damage; floats are filled with NaN all the same,
because 0 is a legal feature and a reader outside this package would see zeros (zarr#486).

Chunks hold whole rows, about 2 MiB: 256 rows of a 4096-wide float16 layer; zstd level 1. Both chosen by
``benchmarks/bench_object_form.py``, whose table is in ``docs/measured.md``: of 2000x4096 float16 with 16 % non-zeros
(16.4 MB) 4.0 MB, written in 55 ms and read in 10. Records hold no chunk size: another one needs a format version.
"""

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._zarr_check import check_array
from .recipe import ArrayForm

FOLDER = "data.zarr"
_CHUNK_BYTES = 2 << 20
# Chunks that zarr has in flight at once for one array (when writing, and for text). Images are already worked on in
# threads; zarr's own 10 would multiply.
_CONCURRENCY = 2


@cache
def _module() -> Any:
    import zarr

    zarr.config.set({"async.concurrency": _CONCURRENCY})
    return zarr


@cache
def _pool() -> ThreadPoolExecutor:
    """One for all readers of this process: as many threads as there are cores for it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(cores, thread_name_prefix="decompress")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def _compressor() -> Any:
    return _module().codecs.ZstdCodec(level=1)


def encode(arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> dict[str, bytes]:
    """Checked arrays and attributes -> ``{"data.zarr/<path>": bytes}``, the same bytes for the same payload."""
    zarr = _module()
    files: dict[str, Any] = {}
    group = zarr.create_group(zarr.storage.MemoryStore(files), attributes={k: attrs[k] for k in sorted(attrs)})
    for name in sorted(arrays):
        array, text = arrays[name], arrays[name].dtype.kind == "U"
        stored = group.create_array(
            name,
            shape=array.shape,
            chunks=chunk_shape(array.shape, array.dtype) if array.ndim else (),
            dtype="str" if text else array.dtype,
            compressors=_compressor(),
            fill_value="" if text else float("nan") if array.dtype.kind == "f" else 0,
            config={"write_empty_chunks": True},
        )
        if array.size:
            stored[...] = array.astype(np.dtypes.StringDType()) if text else array
    return {f"{FOLDER}/{path}": data.to_bytes() for path, data in sorted(files.items())}


def decode(
    files: Mapping[str, bytes], arrays: Mapping[str, ArrayForm], rows: slice = slice(None)
) -> dict[str, NDArray[Any]]:
    """Arrays of these shapes and dtypes; with ``rows``, only those rows (files of other chunks may be left out).

    Chunks of numbers are decompressed straight into the result, in threads: twice as fast as through zarr, which
    copies. Raises ValueError, KeyError, or whatever zarr raises, for files that are not as ``encode`` makes them.
    """
    out = {}
    for name, (shape, dtype) in arrays.items():
        check_array(files, f"{FOLDER}/{name}", shape, chunk_shape(shape, dtype) if shape else (), dtype)
        direct = shape and dtype.kind != "U"
        out[name] = _numbers(files, name, shape, dtype, rows) if direct else _by_zarr(files, name, shape, dtype, rows)
    return out


def _by_zarr(
    files: Mapping[str, bytes], name: str, shape: tuple[int, ...], dtype: np.dtype[Any], rows: slice
) -> NDArray[Any]:
    zarr = _module()
    buffer = zarr.core.buffer.cpu.Buffer
    memory = {path.removeprefix(f"{FOLDER}/"): buffer.from_bytes(data) for path, data in files.items()}
    # consolidated metadata would take the place of the arrays' own, which were checked
    group = zarr.open_group(zarr.storage.MemoryStore(memory), mode="r", use_consolidated=False)
    return np.asarray(group[name][rows] if shape else group[name][()], dtype)


def _numbers(
    files: Mapping[str, bytes], name: str, shape: tuple[int, ...], dtype: np.dtype[Any], rows: slice
) -> NDArray[Any]:
    from numcodecs.zstd import decompress

    start, stop, _ = rows.indices(shape[0])
    out = np.empty((max(0, stop - start), *shape[1:]), dtype)
    chunks = [path for path in files_of(name, shape, dtype, rows) if not path.endswith("zarr.json")]
    height = chunk_shape(shape, dtype)[0]

    def fill(item: tuple[int, str]) -> None:
        first, data = item[0] * height, files[item[1]]
        begin, end = max(first, start), min(first + height, stop)
        target = out[begin - start : end - start]
        if end - begin == height:
            decompress(data, target.reshape(-1).view(np.uint8))
        else:  # the array's last chunk, which is stored whole, or one of which some rows are asked for
            chunk = np.frombuffer(decompress(data), dtype).reshape(height, *shape[1:])
            target[...] = chunk[begin - first : end - first]

    work = list(enumerate(chunks, start // height))
    if out.nbytes < _CHUNK_BYTES:
        for item in work:
            fill(item)
    else:
        list(_pool().map(fill, work))
    return out


def chunk_shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Whole rows, as many as make about 2 MiB, at least one."""
    row_bytes = max(1, dtype.itemsize * math.prod(shape[1:]))
    rows = max(1, min(shape[0], _CHUNK_BYTES // row_bytes))
    return (rows, *(max(1, n) for n in shape[1:]))


def chunk_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of one chunk, uncompressed."""
    return math.prod(chunk_shape(shape, dtype)) * dtype.itemsize


def files_of(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], rows: slice = slice(None)) -> list[str]:
    """The files that hold an array, or some of its rows: its metadata and its chunks."""
    files = [f"{FOLDER}/zarr.json", f"{FOLDER}/{name}/zarr.json"]
    if not shape:
        return [*files, f"{FOLDER}/{name}/c"]
    start, stop, _ = rows.indices(shape[0])
    if stop > start and 0 not in shape:
        height = chunk_shape(shape, dtype)[0]
        tail = "/0" * (len(shape) - 1)
        files += [f"{FOLDER}/{name}/c/{i}{tail}" for i in range(start // height, (stop - 1) // height + 1)]
    return files
