"""An object's files as one zip archive, for storage where a file is the only thing that appears at once.

Nothing is compressed (the payload is already) and no time is kept, so equal objects give equal bytes, and where a file
lies follows from the names and sizes alone: ``object.json`` comes first, then the payload's files in the order of its
``files``. So a reader needs the archive's head and then only the bytes it wants. Any zip program, and
``zarr.storage.ZipStore``, open it.
"""

import io
import struct
import zipfile
from collections.abc import Mapping

from .errors import StoreError
from .record import FILE, FileSpec

SUFFIX = ".zip"
_HEADER = struct.Struct("<4s5H3I2H")  # a zip's local file header
_MAX_FILE_BYTES = 2_000_000_000  # beyond, a zip needs longer headers
_MAGIC = b"PK\x03\x04"


def pack(files: Mapping[str, bytes]) -> bytes:
    """``{relative path: bytes}``, ``object.json`` among them, as the bytes of an archive."""
    for name, data in files.items():
        if len(data) > _MAX_FILE_BYTES:
            raise StoreError(f"{name} has {len(data)} bytes, too many for an archive; keep this object in a folder")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in (FILE, *sorted(files.keys() - {FILE})):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o444 << 16
            archive.writestr(entry, files[name])
    return out.getvalue()


def record_span(head: bytes) -> tuple[int, int]:
    """First and last byte (exclusive) of ``object.json`` in an archive beginning with ``head``; ValueError if none."""
    if len(head) < _HEADER.size:
        raise ValueError("it is cut off")
    magic, *_, size, full_size, name_length, extra = _HEADER.unpack_from(head)
    start = _HEADER.size + name_length + extra
    if magic != _MAGIC or head[_HEADER.size : _HEADER.size + name_length] != FILE.encode() or size != full_size:
        raise ValueError("it is no object's archive")
    return start, start + size


def spans(record_end: int, files: Mapping[str, FileSpec]) -> dict[str, tuple[int, int]]:
    """First and last byte (exclusive) of each payload file, from its record."""
    out, at = {}, record_end
    for name in sorted(files):
        at += _HEADER.size + len(name.encode())
        out[name] = (at, at + files[name].nbytes)
        at += files[name].nbytes
    return out
