"""Reads structs of numbers and texts out of MATLAB's files of version 5, as its "MAT-File Format" describes them.

scipy's reader ends the whole process on some damaged files, without an error, and takes memory for what a header merely
declares; so files that nobody vouches for are read here, and only the few forms that datasets need.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 128  # a text, and at its end the version and the byte order
MOST_BYTES = 1 << 27  # of all that a file unpacks to
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _TEXT = 2, 4  # classes of arrays
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}  # of texts, by type
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = range(6, 16)  # of arrays of numbers: double, single, and whole numbers of 8 to 64 bits
_SAVED_COMPLEX = 1 << 11

Element = tuple[int, memoryview]


def read_struct(data: bytes, name: str) -> Mapping[str, memoryview]:
    """Find the 1 x 1 struct of this name, and return its fields' arrays, unread; errors as :func:`read_structs`."""
    found = read_structs(data, name)
    if len(found) != 1:
        raise ValueError(f"{name} has {len(found)} parts, not 1")
    return found[0]


def read_structs(data: bytes, name: str) -> list[Mapping[str, memoryview]]:
    """Find the array of structs of this name, and return the fields' arrays of each, unread.

    KeyError where there is none; ValueError where the file is damaged, or unpacks to more than 128 MiB.
    """
    order = byte_order(data)
    for kind, body in _unpacked(data, order):
        if kind != _MATRIX:
            continue
        parts = _elements(body, order)
        array_class, shape, own = _head(parts, order)
        if own == name and array_class == _STRUCT:
            names = _field_names(parts, order)
            return [_fields(parts, names) for _ in range(math.prod(shape))]
    raise KeyError(name)


def read_numbers(field: memoryview, order: str) -> NDArray[Any]:
    """Read one array of numbers; ValueError where it is none, or holds fewer than it declares."""
    parts = _elements(field, order)
    array_class, shape, _ = _head(parts, order)
    if array_class not in _CLASSES:
        raise ValueError(f"an array of class {array_class} is not one of plain numbers")
    kind, body = _next(parts)
    if kind not in _NUMBERS:
        raise ValueError(f"numbers of type {kind} are unknown")
    values = np.frombuffer(body, f"{order}{_NUMBERS[kind]}")
    count = math.prod(shape)
    if len(values) != count:
        raise ValueError(f"an array of {count} numbers has {len(values)}")
    return values.reshape(shape, order="F")


def read_text(field: memoryview, order: str) -> str:
    """Read one text; ValueError where it is none."""
    parts = _elements(field, order)
    array_class, _, _ = _head(parts, order)
    if array_class != _TEXT:
        raise ValueError(f"an array of class {array_class} is no text")
    kind, body = next(parts, (2, memoryview(b"")))
    if kind not in _ENCODINGS:
        raise ValueError(f"texts of type {kind} are unknown")
    wide = {"utf-16": f"utf-16-{'le' if order == '<' else 'be'}", "utf-32": f"utf-32-{'le' if order == '<' else 'be'}"}
    return bytes(body).decode(wide.get(_ENCODINGS[kind], _ENCODINGS[kind]))


def byte_order(data: bytes) -> str:
    """Tell in which order a file has its bytes, in numpy's and struct's words: ">" or "<"."""
    return ">" if data[126:128] == b"MI" else "<"


def _unpacked(data: bytes, order: str) -> Iterator[Element]:
    """The top elements; one that is compressed is unpacked, as long as the whole stays small."""
    left = MOST_BYTES
    for kind, body in _elements(memoryview(data)[HEADER_BYTES:], order, padded=False):
        if kind != _COMPRESSED:
            yield kind, body
            continue
        unpacker = zlib.decompressobj()
        try:
            inner = unpacker.decompress(body, left)
        except zlib.error as error:
            raise ValueError(f"a compressed array is damaged ({error})") from None
        left -= len(inner)
        if not unpacker.eof or left <= 0:
            raise ValueError("a compressed array ends early, or unpacks to far too much")
        yield from _elements(memoryview(inner), order)


def _elements(data: memoryview, order: str, *, padded: bool = True) -> Iterator[Element]:
    """The elements one after the other: each its type and its bytes. ValueError where one leaves the data.

    An element of at most 4 bytes may have its size and type in one word. All but compressed ones end at multiples of 8.
    """
    at = 0
    while at + 8 <= len(data):
        first, size = struct.unpack_from(f"{order}II", data, at)
        if first >> 16:
            first, size, start, step = first & 0xFFFF, first >> 16, at + 4, 8
            if size > 4:
                raise ValueError("a small element has more than 4 bytes")
        else:
            start, step = at + 8, 8 + size
            step += -size % 8 if padded or first != _COMPRESSED else 0
        if start + size > len(data):
            raise ValueError("an array ends early")
        yield first, data[start : start + size]
        at += step


def _next(parts: Iterator[Element]) -> Element:
    try:
        return next(parts)
    except StopIteration:
        raise ValueError("an array lacks a part") from None


def _head(parts: Iterator[Element], order: str) -> tuple[int, tuple[int, ...], str]:
    """The class, shape and name of an array; of an empty one, which has no parts, class 0."""
    try:
        _, flags = next(parts)
    except StopIteration:
        return 0, (0,), ""
    (_, extents), (_, name) = _next(parts), _next(parts)
    if len(flags) < 4 or len(extents) % 4 or len(extents) > 4 * 32:
        raise ValueError("the head of an array is damaged")
    (word,) = struct.unpack_from(f"{order}I", flags)
    if word & _SAVED_COMPLEX:
        raise ValueError("an array of complex numbers is not one of plain numbers")
    shape = struct.unpack(f"{order}{len(extents) // 4}i", extents)
    if min(shape, default=0) < 0:
        raise ValueError("an array has a negative size")
    return word & 0xFF, shape, bytes(name).decode("ascii", "replace")


def _field_names(parts: Iterator[Element], order: str) -> list[str]:
    """The names of the fields of an array of structs, whose head was read."""
    (_, length), (_, names) = _next(parts), _next(parts)
    if len(length) != 4:
        raise ValueError("a struct's field names are damaged")
    (width,) = struct.unpack(f"{order}i", length)
    if not 1 <= width <= 64 or len(names) % width or not len(names):
        raise ValueError("a struct's field names are damaged")
    starts = range(0, len(names), width)
    return [bytes(names[start : start + width]).split(b"\0")[0].decode("ascii", "replace") for start in starts]


def _fields(parts: Iterator[Element], names: Sequence[str]) -> Mapping[str, memoryview]:
    """The fields of the next struct."""
    fields = {}
    for name in names:
        kind, body = _next(parts)
        if kind != _MATRIX:
            raise ValueError("a struct's field is no array")
        fields[name] = body
    return fields
