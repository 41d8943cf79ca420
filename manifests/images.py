"""Decoding images to the one form used inside: uint8 [H, W, 3], RGB, upright."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from cache.errors import DatasetError

from .files import refuse_pointer
from .mending import cut_jpeg, without_png_texts

Pixels = NDArray[np.uint8]

# Pillow warns of a decompression bomb above the first figure and refuses above the second, whatever we allow.
DEFAULT_MAX_PIXELS = 89_478_485
HARD_MAX_PIXELS = 178_956_970

# Files that are looked at as pictures where a folder is searched for them.
_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo"})
IMAGE_SUFFIXES = _JPEG_SUFFIXES | {
    *(".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"),
}
# Pictures too, but of forms that are not read: named where a folder holds them.
UNREAD_SUFFIXES = frozenset(
    {
        *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".svg", ".psd", ".tga", ".exr"),
        *(".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".dcm"),
    }
)

# Named, because Pillow's full list has formats that run other programs (EPS) or hold no picture.
# JPEG includes MPO, which phones write.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_FORMAT_NAMES = "JPEG, PNG, BMP, GIF, TIFF, WebP or PNM"


def decode_image(data: bytes, name: str, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Pixels:
    """Decode one image file's bytes -> uint8 [H, W, 3], RGB, upright.

    - Grayscale, palette and two-level images become RGB; an animation gives its first frame.
    - 16-bit samples keep their high byte (as libpng's strip_16): an 8-bit image stored as 16 comes back exactly.
    - Transparency is composited on white: what browsers and annotation tools show, so what the boxes were drawn on.
    - CMYK becomes RGB without colour management, (255 - C)(255 - K) / 255; JPEG's CMYK is taken as inverted, which is
      what Adobe's programs write and what all common decoders assume.
    - EXIF orientation 1 to 8 is applied; a value out of range or EXIF that cannot be parsed counts as 1.
    - A JPEG that ends early is taken, the lost part grey, where that is less than a twentieth of its rows.

    ``name`` is used in errors only. DatasetError: not an image, truncated, a format or pixel type without a defined
    8-bit meaning (float, 32-bit integers, LAB), more than ``max_pixels`` pixels.
    """
    return decode(data, name, max_pixels=max_pixels).pixels


@dataclass(frozen=True)
class Decoded:
    """A decoded picture: uint8 [H, W, 3], RGB, upright.

    ``orientation`` is EXIF's (1..8), which was applied; ``missing`` says what a file that ends early lacks, or is "".
    """

    pixels: Pixels
    orientation: int
    missing: str = ""


def decode(data: bytes, name: str, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Decode as :func:`decode_image`, and say what was found on the way."""
    if not data:
        raise DatasetError(f"{name}: the file is empty; replace or remove it")
    refuse_pointer(data, name)
    try:
        return Decoded(*_decoded(data, name, max_pixels))
    except DatasetError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name, "far", max_pixels) from None
    except UnidentifiedImageError:
        raise DatasetError(
            f"{name}: is not an image in {_FORMAT_NAMES} form{_what_else(data)}; convert or remove it"
        ) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        try:
            mended, missing = _mended(data, name, max_pixels)
        except DatasetError:
            raise
        except Exception:  # what cannot be mended either is told by its first error
            mended, missing = None, ""
        if mended is None:
            why = f"{error}{f'; {missing}' if missing else ''}"
            raise DatasetError(f"{name}: the image is truncated or damaged ({why}); replace or remove it") from None
        return Decoded(*mended, missing)


def _decoded(data: bytes, name: str, max_pixels: int) -> tuple[Pixels, int]:
    """The picture's upright pixels, and its EXIF orientation; Pillow's errors, of any type, where it cannot be read."""
    with quietly():
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(name, f"{width} x {height}", max_pixels)
        image.load()
        orientation = _orientation(image)
        return np.ascontiguousarray(_turn_upright(_to_rgb(image, name), orientation)), orientation


_LOST_SHARE = 20  # one row in so many may be missing


def _mended(data: bytes, name: str, max_pixels: int) -> tuple[tuple[Pixels, int] | None, str]:
    """What every viewer shows of a file that Pillow refuses, if that is nearly all of it; and what is missing."""
    if (texts := without_png_texts(data)) is not None:
        return _decoded(texts, name, max_pixels), ""
    cut = cut_jpeg(data)
    if cut is None:
        return None, ""
    # Where the data end, the first of these shows grey and the second noise.
    ended, noisy = (_decoded(one, name, max_pixels) for one in (cut.ended, cut.noisy))
    stored, other = (_as_stored(*one) for one in (ended, noisy))
    height = len(stored)
    differing = np.flatnonzero((stored != other).any(axis=(1, 2)))
    # Colours are interpolated, so that the row above the first lost block may differ as well.
    lost = height - int(differing[0] + 1) // cut.block_px * cut.block_px if len(differing) else 0
    if not lost:
        return ended, "its last bytes are missing, but none of its rows"
    missing = f"the last {lost} of its {height} rows are missing, wholly or in part"
    return (ended if lost * _LOST_SHARE < height else None), missing


def _as_stored(pixels: Pixels, orientation: int) -> Pixels:
    """The inverse of :func:`_turn_upright`."""
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return pixels.transpose(1, 0, 2) if orientation >= 5 else pixels


def _what_else(data: bytes) -> str:
    """What a file of another form is, where its first bytes say so."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in (b"avif", b"avis"):
        return " but AVIF"
    if brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"):
        return " but HEIC, as iPhones write it"
    if data[:12] == b"\0\0\0\x0cJXL \r\n\x87\n" or data[:2] == b"\xff\x0a":
        return " but JPEG XL"
    if data[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return " but a web page, as a failed download leaves it"
    return ""


_warnings_lock = threading.Lock()


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture as it should be seen, from the file's head; None where that cannot be told."""
    try:
        with quietly():
            image = Image.open(path, formats=_FORMATS)
        with image:
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except Exception:  # what is wrong with it is told where it is decoded
        return None


@contextmanager
def quietly() -> Iterator[None]:
    """Silence Pillow's warnings about headers and EXIF, which do not name the file and whose cases we handle.

    Locked, since Python swaps the warning filters of the whole process; not held while pixels are decoded.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _too_large(name: str, size: str, max_pixels: int) -> DatasetError:
    what = "has far" if size == "far" else f"is {size}, "
    return DatasetError(f"{name}: {what} more than the {max_pixels} pixels allowed; shrink it")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of a loaded image (Pillow turns TIFF itself while loading, and then reports none)."""
    try:
        with quietly():
            value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF beside sound pixels: the picture is usable as it is stored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo EXIF orientation: [H, W, 3] as stored -> as it should be seen."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _to_rgb(image: Image.Image, name: str) -> Pixels:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        high = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    if mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"):
        return np.asarray(image.convert("RGB"))
    raise DatasetError(
        f"{name}: pixels of type {mode!r} ({image.format}) have no defined 8-bit colour; convert it to 8-bit RGB"
    )
