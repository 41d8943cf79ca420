"""Whether a zarr array's files are of the form that ``_zarr.encode`` writes, before zarr is let at them.

zarr allocates what ``zarr.json`` and the headers of compressed chunks declare, and follows any codec they name.
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# A zstd block of 4 bytes stands for at most 128 KiB.
_MAX_EXPANSION = 1 << 15
_HARMLESS_BYTES = 1 << 20
Buffer = bytes | memoryview


def check_array(
    files: Mapping[str, bytes],
    folder: str,
    shape: tuple[int, ...],
    stored: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: DTypeLike,
) -> None:
    """ValueError, KeyError or TypeError where the metadata of the array in ``folder`` is not as the writer makes it.

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
    """ValueError unless the chunk says, in its first frame, that it holds ``count`` values of this dtype."""
    size = _content_bytes(data)
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


def _content_bytes(data: Buffer) -> int:
    """The size that a zstd frame's header declares for its content; ValueError where it declares none."""
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
