"""Payloads as the files of one zarr v3 group: arrays and attributes to bytes, and back, checked before they are read.

One writer per object; appending to a shared chunk loses data (zarr#3682). Every chunk is written, also one that holds
only fill values, so an absent chunk is always damage; floats are filled with NaN all the same, because 0 is a legal
feature and a reader outside this package would see zeros (zarr#486).

An array is one file: a single chunk, or, where it is larger than that, one shard of chunks of whole rows of about
256 KiB (32 rows of a 4096-wide float16 layer), so that some rows cost little more than their share and yet an image is
not hundreds of files. zstd level 1. All chosen by ``benchmarks/bench_object_form.py`` (table in ``docs/measured.md``).
The sizes and checksums of a shard's chunks are in the object's record.

A record may have been made by whoever means harm. So before an array is read, its metadata and what its chunks declare
are held against what the record says, and against what so many bytes can hold (``check_array``, ``check_chunk``).
"""

import json
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .cores import usable_cores

FOLDER = "data.zarr"
_CHUNK_BYTES = 256 << 10
_LEVEL = 1
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# A zstd block of 4 bytes stands for at most 128 KiB.
_MAX_EXPANSION = 1 << 15
# Below this a declared size is no danger, whatever the file holds.
_HARMLESS_BYTES = 1 << 20
Buffer = bytes | memoryview
_CORES = usable_cores()


@dataclass(frozen=True)
class ChunkLayout:
    """Place of an array in its file: as one chunk (``rows`` 0), or as a shard of chunks of ``rows`` rows each.

    ``sizes`` are the bytes of the shard's compressed chunks, which lie one after another from the file's start.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int = 0
    sizes: tuple[int, ...] = ()

    def chunks(self, rows: slice) -> range:
        """The chunks of the shard that hold these rows."""
        start, stop, _ = rows.indices(self.shape[0])
        return range(start // self.rows, -(-stop // self.rows)) if stop > start else range(0)

    def span(self, chunks: range) -> tuple[int, int]:
        """First and last byte (exclusive) of consecutive chunks in the file."""
        if not chunks:
            return 0, 0
        ends = list(accumulate(self.sizes, initial=0))
        return ends[chunks.start], ends[chunks.stop]

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of one chunk; the shard's last one is stored whole."""
        whole = tuple(max(1, n) for n in self.shape)
        return (self.rows, *whole[1:]) if self.rows else whole


@cache
def _module() -> Any:
    import zarr

    return zarr


@cache
def _pool() -> ThreadPoolExecutor:
    """Start the pool of all readers and writers of this process: as many threads as there are cores for it."""
    return ThreadPoolExecutor(_CORES, thread_name_prefix="compress")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def to_zarr(
    arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]
) -> tuple[dict[str, bytes], dict[str, ChunkLayout]]:
    """Write checked arrays and attributes: ``{"data.zarr/<path>": bytes}``, and each array's place in its file.

    The same payload gives the same bytes.
    """
    zarr = _module()
    files: dict[str, Any] = {}
    group = zarr.create_group(zarr.storage.MemoryStore(files), attributes={k: attrs[k] for k in sorted(attrs)})
    layouts, shards = {}, {}
    for name in sorted(arrays):
        array, text = arrays[name], arrays[name].dtype.kind == "U"
        layout = ChunkLayout(array.shape, array.dtype, _chunk_rows(array))
        fill = "" if text else float("nan") if array.dtype.kind == "f" else 0
        stored = group.create_array(
            name,
            shape=array.shape,
            chunks=layout.chunk_shape,
            shards=shard_shape(layout) if layout.rows else None,
            dtype="str" if text else array.dtype,
            compressors=zarr.codecs.ZstdCodec(level=_LEVEL),
            fill_value=fill,
            config={"write_empty_chunks": True},
        )
        if layout.rows:
            shards[data_file(name, array.shape)], sizes = _shard(array, layout.rows, fill)
            layout = ChunkLayout(array.shape, array.dtype, layout.rows, sizes)
        elif array.size:
            stored[...] = array.astype(np.dtypes.StringDType()) if text else array
        layouts[name] = layout
    written = {f"{FOLDER}/{path}": data.to_bytes() for path, data in files.items()} | shards
    return dict(sorted(written.items())), layouts


def _shard(array: NDArray[Any], rows: int, fill: Any) -> tuple[bytes, tuple[int, ...]]:
    """Return the bytes that zarr writes for an array of more than one chunk, and the sizes of the chunks in it.

    zarr itself compresses one after another.
    """
    from google_crc32c import value as crc32c
    from numcodecs.zstd import compress

    def packed(start: int) -> bytes:
        part = array[start : start + rows]
        if len(part) < rows:
            part = np.concatenate([part, np.full((rows - len(part), *array.shape[1:]), fill, array.dtype)])
        return bytes(compress(np.ascontiguousarray(part).view(np.uint8), _LEVEL))

    chunks = list(_pool().map(packed, range(0, len(array), rows)))
    sizes = tuple(map(len, chunks))
    index = np.array([list(accumulate(sizes[:-1], initial=0)), sizes], "<u8").T.tobytes()
    return b"".join([*chunks, index, crc32c(index).to_bytes(4, "little")]), sizes


def from_zarr(
    files: Mapping[str, bytes], layouts: Mapping[str, ChunkLayout], rows: slice = slice(None), *, whole: bool = True
) -> dict[str, NDArray[Any]]:
    """Read arrays as they were written; with ``rows``, only those rows.

    ``files`` holds an array's metadata and its data: the file, or, of a shard where not ``whole``, the bytes of the
    chunks that hold the rows. Chunks of numbers are decompressed straight into the result, in threads: twice as fast as
    through zarr, which copies. Raises ValueError, KeyError, or whatever zarr raises, for files that are not as
    ``to_zarr`` makes them.
    """
    out = {}
    for name, layout in layouts.items():
        check_array(files, f"{FOLDER}/{name}", layout.shape, shard_shape(layout), layout.chunk_shape, layout.dtype)
        if not layout.shape or layout.dtype.kind == "U":
            out[name] = _by_zarr(files, name, layout, rows)
        elif 0 in layout.shape:
            out[name] = np.empty(layout.shape, layout.dtype)[rows]
        elif layout.rows:
            out[name] = _from_shard(files[data_file(name, layout.shape)], name, layout, rows, whole)
        else:
            out[name] = _from_chunk(files[data_file(name, layout.shape)], name, layout)[rows]
    return out


def _by_zarr(files: Mapping[str, bytes], name: str, layout: ChunkLayout, rows: slice) -> NDArray[Any]:
    zarr = _module()
    if 0 not in layout.shape:
        check_chunk(name, files[data_file(name, layout.shape)], math.prod(layout.chunk_shape), layout.dtype)
    buffer = zarr.core.buffer.cpu.Buffer
    memory = {path.removeprefix(f"{FOLDER}/"): buffer.from_bytes(data) for path, data in files.items()}
    # consolidated metadata would take the place of the arrays' own, which were checked
    group = zarr.open_group(zarr.storage.MemoryStore(memory), mode="r", use_consolidated=False)
    return np.asarray(group[name][rows] if layout.shape else group[name][()], layout.dtype)


def _from_chunk(data: bytes, name: str, layout: ChunkLayout) -> NDArray[Any]:
    from numcodecs.zstd import decompress

    check_chunk(name, data, math.prod(layout.shape), layout.dtype)
    out = np.empty(layout.shape, layout.dtype)
    decompress(data, out.reshape(-1).view(np.uint8))
    return out


def _from_shard(data: bytes, name: str, layout: ChunkLayout, rows: slice, whole: bool) -> NDArray[Any]:
    from numcodecs.zstd import decompress

    height, tail = layout.rows, layout.shape[1:]
    start, stop, _ = rows.indices(layout.shape[0])
    wanted = layout.chunks(rows)
    ends = list(accumulate(layout.sizes[wanted.start : wanted.stop], initial=layout.span(wanted)[0] if whole else 0))
    view = memoryview(data)
    parts = [(i * height, view[a:b]) for i, a, b in zip(wanted, ends, ends[1:], strict=False)]
    for _, part in parts:  # before anything is allocated
        check_chunk(name, part, height * math.prod(tail), layout.dtype)
    out = np.empty((max(0, stop - start), *tail), layout.dtype)

    def decompress_into_place(some: list[tuple[int, memoryview]]) -> None:
        for first, part in some:
            begin, end = max(first, start), min(first + height, stop)
            target = out[begin - start : end - start]
            if end - begin == height:
                decompress(part, target.reshape(-1).view(np.uint8))
            else:  # the last chunk, which is stored whole, or one of which some rows are asked for
                chunk = np.frombuffer(decompress(part), layout.dtype).reshape(height, *tail)
                target[...] = chunk[begin - first : end - first]

    if len(parts) < 2 * _CORES:
        decompress_into_place(parts)
    else:
        list(_pool().map(decompress_into_place, [parts[i :: 2 * _CORES] for i in range(2 * _CORES)]))
    return out


def _chunk_rows(array: NDArray[Any]) -> int:
    """Number of whole rows that make about 256 KiB, at least one; 0 where that is the whole array."""
    if array.ndim == 0 or array.size == 0 or array.dtype.kind == "U":
        return 0
    rows = max(1, _CHUNK_BYTES // (array.nbytes // len(array)))
    return rows if rows < len(array) else 0


def shard_shape(layout: ChunkLayout) -> tuple[int, ...]:
    """Shape of what the array's one file holds: whole chunks."""
    shape = layout.chunk_shape
    return (-(-layout.shape[0] // layout.rows) * layout.rows, *shape[1:]) if layout.rows else shape


def meta_files(name: str) -> list[str]:
    """Names of the files that say what an array is."""
    return [f"{FOLDER}/zarr.json", f"{FOLDER}/{name}/zarr.json"]


def data_file(name: str, shape: tuple[int, ...]) -> str:
    """Name of the file that holds an array's values; there is none for an array without any."""
    return f"{FOLDER}/{name}/c" + "/0" * len(shape)


def check_array(
    files: Mapping[str, bytes],
    folder: str,
    shape: tuple[int, ...],
    stored: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: DTypeLike,
) -> None:
    """Raise ValueError, KeyError or TypeError unless the metadata of the array in ``folder`` is as the writer makes it.

    ``shape``, that of its one file (``stored``), ``chunks`` and ``dtype`` are those that the object's record names.
    """
    dtype = np.dtype(dtype)
    text = dtype.kind == "U"
    meta = json.loads(files[f"{folder}/zarr.json"])
    expected = {
        "node_type": "array",
        "shape": shape,
        "stored": stored,
        "data_type": "string" if text else dtype.name,
        "codecs": ["vlen-utf8" if text else "bytes", "zstd"],
        "chunks": chunks,
    }
    codecs = meta["codecs"]
    found = {
        "node_type": meta["node_type"],
        "shape": tuple(meta["shape"]),
        "stored": tuple(meta["chunk_grid"]["configuration"]["chunk_shape"]),
        "data_type": meta["data_type"],
        "chunks": stored,
    }
    if codecs[0]["name"] == "sharding_indexed" and len(codecs) == 1 and stored != chunks:
        found["chunks"] = tuple(codecs[0]["configuration"]["chunk_shape"])
        codecs = codecs[0]["configuration"]["codecs"]
    found["codecs"] = [codec["name"] for codec in codecs]
    for key, value in expected.items():
        if found[key] != value:
            raise ValueError(f"{folder}: {key} is {found[key]!r}, not {value!r}")
    if meta.get("storage_transformers"):
        raise ValueError(f"{folder}: has storage transformers")


def check_chunk(name: str, data: Buffer, count: int, dtype: np.dtype) -> None:
    """Raise ValueError unless the chunk says, in its first frame, that it holds ``count`` values of this dtype."""
    size = _declared_bytes(data)
    if dtype.kind == "U":
        from numcodecs.zstd import decompress

        # Before each text and before all of them stands a length of 4 bytes.
        if size > 4 + count * (4 + dtype.itemsize) or size < 4:
            raise ValueError(f"{name}: declares {size} bytes")
        if int.from_bytes(decompress(data)[:4], "little") != count:
            raise ValueError(f"{name}: does not hold {count} texts")
    elif size != count * dtype.itemsize:
        raise ValueError(f"{name}: declares {size} bytes, not {count * dtype.itemsize}")
    if size > _HARMLESS_BYTES + _MAX_EXPANSION * len(data):
        raise ValueError(f"{name}: declares {size} bytes where it has {len(data)}")


def _declared_bytes(data: Buffer) -> int:
    """Size in bytes that a zstd frame's header declares for its content; ValueError where it declares none."""
    if data[:4] != _ZSTD_MAGIC or len(data) < 6:
        raise ValueError("a chunk is not compressed by zstd")
    descriptor = data[4]
    size_flag, single_segment = descriptor >> 6, descriptor >> 5 & 1
    if size_flag == 0 and not single_segment:
        raise ValueError("a chunk does not declare its size")
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    length = (1, 2, 4, 8)[size_flag]
    size = int.from_bytes(data[start : start + length], "little")
    return size + 256 if length == 2 else size
