"""Reads PNG files whose pixels are labels, and writes them with VOC's palette."""

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cache.errors import DatasetError
from manifests.files import refuse_pointer
from manifests.images import HARD_MAX_PIXELS, quietly

Labels = NDArray[np.int64]

_BIT_DEPTH = 24  # place of the bits per sample in a PNG file: behind its signature, and IHDR's size, name and extent
_NAMED = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # the others than PNG to say what a file is
_SIGNATURE = b"\x89PNG"
_SHOWN = 3  # colours named in one line
VOID = 255  # VOC's value of pixels that are left out


@cache
def voc_palette() -> tuple[tuple[int, int, int], ...]:
    """Return VOC's 256 colours (VOCdevkit's ``VOClabelcolormap``): the bits of a label, spread from the highest down.

    Bits 0, 1, 2 of the label are the highest bits of red, green and blue, bits 3, 4, 5 the next lower ones, and so on.
    """
    colours = []
    for label in range(256):
        channels = [sum(((label >> (3 * bit + at)) & 1) << (7 - bit) for bit in range(3)) for at in range(3)]
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)


def read_label_map(data: bytes, name: str) -> Labels:
    """Decode a map of labels -> int64 [H, W].

    A palette's or a grey picture's pixels are the labels; a picture of colours is mapped back by VOC's colormap, and so
    is a palette that a program that shrinks PNG files has renumbered: all of whose colours are VOC's of other labels,
    numbered without a gap from 0 on, with two or more besides black. One such colour may be anybody's.

    ``name`` is used in errors only. DatasetError: no PNG, cut short, 16 bits per sample, transparent, a colour that is
    not in VOC's colormap.
    """
    return decode_label_map(data, name)[0]


def decode_label_map(data: bytes, name: str) -> tuple[Labels, bool]:
    """Decode as :func:`read_label_map` -> the labels, and whether they are a palette's by its colours."""
    image = _opened(data, name)
    if image.mode == "P":
        return _of_palette(image)
    if image.mode in ("1", "L"):
        values = np.asarray(image.convert("L"), np.int64)
        most = (1 << data[_BIT_DEPTH]) - 1  # Pillow spreads fewer bits over 0 to 255
        return values * most // 255, False
    return _by_colour(_colours(image, name), name), False


def read_panoptic_map(data: bytes, name: str) -> Labels:
    """Decode a panoptic map of COCO -> int64 [H, W] of segment ids, R + 256 G + 65536 B; errors as above."""
    image = _opened(data, name)
    if image.mode in ("1", "L", "P"):
        raise DatasetError(f"{name}: has no colours, and a panoptic map's ids are R + 256 G + 65536 B; save it as RGB")
    ids: Labels = _colours(image, name).astype(np.int64) @ np.array([1, 256, 65536])
    return ids


def label_map_png(labels: NDArray[np.integer], name: str = "map") -> bytes:
    """Write labels 0 to 255, [H, W], as a PNG file with VOC's palette, which VOC's own tools read."""
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= 255:
        raise DatasetError(f"{name}: has labels outside 0 to 255, which a palette cannot hold; use fewer")
    image = Image.fromarray(labels.astype(np.uint8)).convert("L")
    image.putpalette([channel for colour in voc_palette() for channel in colour])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _opened(data: bytes, name: str) -> Image.Image:
    """Open and decode a PNG file; DatasetError where it is none, or has labels of a form that is not read."""
    if not data:
        raise DatasetError(f"{name}: the file is empty; replace or remove it")
    refuse_pointer(data, name)
    try:
        if not data.startswith(_SIGNATURE):
            Image.init()  # else some of the others are not known to Pillow yet
        with quietly():
            image = Image.open(io.BytesIO(data), formats=_NAMED)
        if image.format != "PNG":
            loss = ", which changes labels where they meet" if image.format in ("JPEG", "MPO") else ""
            raise DatasetError(f"{name}: is a {image.format} picture{loss}, not PNG; give masks as PNG")
        if image.width * image.height > HARD_MAX_PIXELS:
            raise DatasetError(f"{name}: is {image.width} x {image.height}, far too large; replace it")
        if data[_BIT_DEPTH] == 16:
            raise DatasetError(f"{name}: has 16 bits per sample, but labels are 8-bit; save it with 8")
        image.load()
    except DatasetError:
        raise
    except UnidentifiedImageError:
        raise DatasetError(f"{name}: is not a PNG file; give masks as PNG") from None
    except MemoryError:  # the machine's fault
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise DatasetError(f"{name}: the mask is cut short or damaged ({error}); replace it") from None
    return image


def _of_palette(image: Image.Image) -> tuple[Labels, bool]:
    """Labels of a palette's picture, and whether they are those of its colours; else they are its indices."""
    indices = np.asarray(image, np.int64)
    palette = image.getpalette("RGB") or []
    used = np.flatnonzero(np.bincount(indices.reshape(-1), minlength=256))
    colours = {
        int(i): (palette[3 * i], palette[3 * i + 1], palette[3 * i + 2]) for i in used if 3 * i + 2 < len(palette)
    }
    label_of = {colour: label for label, colour in enumerate(voc_palette())}
    labels = [label_of.get(colours.get(int(i), (-1, -1, -1)), -1) for i in used]
    renumbered = used.tolist() == list(range(len(used))) != labels and len(set(labels) - {0}) > 1
    if -1 in labels or not renumbered:
        return indices, False
    table = np.zeros(256, np.int64)
    table[used] = labels
    return table[indices], True


def _colours(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """A picture's colours, uint8 [H, W, 3]; DatasetError where parts of it are transparent, which no label is."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        raise DatasetError(f"{name}: has pixels of type {image.mode!r}; save it as an 8-bit palette or grey PNG")
    if image.mode != "RGB":
        rgba = np.asarray(image.convert("RGBA"))
        if (rgba[..., 3] != 255).any():
            raise DatasetError(f"{name}: is transparent in parts, which says no label; save it without transparency")
        return np.ascontiguousarray(rgba[..., :3])
    return np.asarray(image)


def _by_colour(colours: NDArray[np.uint8], name: str) -> Labels:
    codes = colours.astype(np.int64) @ np.array([65536, 256, 1])
    known = {(red << 16) + (green << 8) + blue: label for label, (red, green, blue) in enumerate(voc_palette())}
    found, where = np.unique(codes, return_inverse=True)
    foreign = [int(code) for code in found if int(code) not in known]
    if foreign:
        raise DatasetError(f"{name}: has {_named(foreign)}, which VOC's colormap has not; save masks with its palette")
    return np.array([known[int(code)] for code in found], np.int64)[where.reshape(codes.shape)]


def _named(codes: Sequence[int]) -> str:
    shown = ", ".join(f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in codes[:_SHOWN])
    more = f" and {len(codes) - _SHOWN} more" if len(codes) > _SHOWN else ""
    return f"the {'colour' if len(codes) == 1 else 'colours'} {shown}{more}"
