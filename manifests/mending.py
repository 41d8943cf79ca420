"""Image files that Pillow refuses and viewers open: a JPEG that ends early, a PNG with large texts or profiles."""

import re
from dataclasses import dataclass

_END = b"\xff\xd9"  # JPEG's end mark
_NOISE = bytes((i * 73 + 41) % 251 for i in range(512))  # no mark in it, and nothing that a decoder shows as grey
_NEXT_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of those inside a scan, the first that ends it
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _PROGRESSIVE = 0xDA, (0xC2, 0xC6, 0xCA, 0xCE)
_LAST_COEFFICIENT = 63
_NEVER_WRITTEN = 64  # zeros at the end: space that a download took and never filled, which decodes as a picture would

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})  # none of them changes a pixel here


@dataclass(frozen=True)
class CutJpeg:
    """A JPEG without its end, made decodable in two ways that differ from where its data end.

    ``block_px``: the height of the blocks that it is coded in.
    """

    ended: bytes
    noisy: bytes
    block_px: int


def cut_jpeg(data: bytes) -> CutJpeg | None:
    """End a JPEG file that stops in the midst of its last scan; None for any other file.

    A progressive picture's scans sharpen it one after another; unless the last of them has begun, some sharpness of
    every row is lost, and it is None too.
    """
    if not data.startswith(b"\xff\xd8\xff") or data.endswith(_END):
        return None
    written = data.rstrip(b"\0\xff")
    data = written if len(data) - len(written) >= _NEVER_WRITTEN else data.rstrip(b"\xff")
    block_px = _block_px_of_all_scans(data)
    return None if block_px is None else CutJpeg(data + _END, data + _NOISE + _END, block_px)


def _block_px_of_all_scans(data: bytes) -> int | None:
    """The height of the picture's blocks, px, where every coefficient of every component has its last scan begun."""
    block_px, progressive = 0, False
    lowest_bit: dict[int, list[int]] = {}  # of each coefficient, by component: 0 is exact
    at = 2
    while at + 4 <= len(data):
        mark, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if data[at] != 0xFF or length < 2 or len(body) != length - 2:
            return None
        if mark in _FRAMES:
            parts = [body[i : i + 3] for i in range(6, len(body), 3)]
            block_px, progressive = 8 * max((part[1] & 15 for part in parts), default=0), mark in _PROGRESSIVE
            lowest_bit = {part[0]: [99] * (_LAST_COEFFICIENT + 1) for part in parts}
        at += 2 + length
        if mark == _SCAN:
            first, last, bits = body[-3:] if progressive else (0, _LAST_COEFFICIENT, 0)
            for component in body[1:-3:2]:
                for k in range(first, min(last, _LAST_COEFFICIENT) + 1):
                    lowest_bit.setdefault(component, [99] * (_LAST_COEFFICIENT + 1))[k] = bits & 15
            found = _NEXT_MARK.search(data, at)
            if found is None:
                complete = all(not any(bits) for bits in lowest_bit.values())
                return block_px if complete and block_px else None
            at = found.start()
    return None


def without_png_texts(data: bytes) -> bytes | None:
    """A PNG file without its texts and its colour profile; None for one that has none, and for any other file."""
    if not data.startswith(_PNG):
        return None
    kept, at, dropped = [_PNG], len(_PNG), False
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in _PNG_TEXTS:
            dropped = True
        else:
            kept.append(data[at:end])
        at = end
    return b"".join(kept) if dropped else None
