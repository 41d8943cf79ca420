"""decode_image against arrays written down here and OpenCV."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from manifests import DatasetError, decode_image
from manifests.images import decode

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **save: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **save)
    return buffer.getvalue()


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, so that 16-bit samples come from no library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_rgb_is_read_exactly(form: str) -> None:
    decoded = decode_image(encoded(Image.fromarray(RGB), form), "x")
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, RGB)


def opencvs(data: bytes) -> NDArray[np.uint8]:
    """What OpenCV decodes: uint8 [H, W, 3], BGR."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found.astype(np.uint8)


@pytest.mark.parametrize("quality", [30, 95])
def test_jpeg_agrees_with_opencv(quality: int) -> None:
    smooth = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_CUBIC)
    data = encoded(Image.fromarray(smooth), "JPEG", quality=quality)
    theirs = opencvs(data)[:, :, ::-1]
    assert np.abs(decode_image(data, "x").astype(int) - theirs).max() <= 3


# [[1, 2, 3], [4, 5, 6]] is what is stored; each line is how it should be seen (EXIF 2.3, table of Orientation).
ORIENTED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
    0: [[1, 2, 3], [4, 5, 6]],
    9: [[1, 2, 3], [4, 5, 6]],
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation(orientation: int, form: str) -> None:
    stored = (np.array([[1, 2, 3], [4, 5, 6]], np.uint8) * 40).repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(np.stack([stored] * 3, 2)), form, exif=exif, **lossless)
    seen = (np.array(ORIENTED[orientation], np.uint8) * 40).repeat(8, 0).repeat(8, 1)
    decoded = decode_image(data, "x")
    assert decoded.shape == (*seen.shape, 3)
    # JPEG's blocks are 8 x 8 px of one value here, so that it is nearly exact too.
    assert np.abs(decoded.astype(int) - seen[:, :, None]).max() <= 2


def test_damaged_exif_is_no_orientation() -> None:
    data = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert decode_image(data, "x").shape == RGB.shape


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grayscale_and_two_level(mode: str) -> None:
    gray = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    decoded = decode_image(encoded(Image.fromarray(gray).convert(mode)), "x")
    np.testing.assert_array_equal(decoded, np.stack([gray] * 3, 2))


def test_16_bit_grayscale_keeps_the_high_byte() -> None:
    values = np.array([[0, 255, 256, 65535], [0x1234, 0x80FF, 0x7F00, 257 * 99]], np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    decoded = decode_image(png(4, 2, 16, 0, rows), "x")
    expected = [[0, 0, 1, 255], [0x12, 0x80, 0x7F, 99]]
    np.testing.assert_array_equal(decoded, np.stack([expected] * 3, 2))


def test_16_bit_colour_from_8_bit_comes_back_exactly() -> None:
    rows = b"".join(b"\0" + (row.astype(np.uint16) * 257).astype(">u2").tobytes() for row in RGB)
    np.testing.assert_array_equal(decode_image(png(7, 5, 16, 2, rows), "x"), RGB)


@pytest.mark.parametrize("form", ["TIFF", "PPM"])
def test_16_bit_of_other_formats(form: str) -> None:
    gray = np.array([[0, 0x1234], [0xFFFF, 0x8000]], np.uint16)
    pnm = b"P5 2 2 65535\n" + gray.astype(">u2").tobytes()
    data = pnm if form == "PPM" else encoded(Image.fromarray(gray), form)
    np.testing.assert_array_equal(decode_image(data, "x")[:, :, 1], [[0, 0x12], [0xFF, 0x80]])


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode_image(encoded(image), "x"), [[[10, 20, 30], [40, 50, 60]]])
    np.testing.assert_array_equal(decode_image(encoded(image, transparency=0), "x"), [[[255, 255, 255], [40, 50, 60]]])


@pytest.mark.parametrize("alpha", [0, 64, 128, 255])
def test_transparency_is_composited_on_white(alpha: int) -> None:
    pixels = np.dstack([RGB, np.full(RGB.shape[:2], alpha, np.uint8)])
    expected = RGB * (alpha / 255) + 255 * (1 - alpha / 255)
    decoded = decode_image(encoded(Image.fromarray(pixels)), "x")
    assert np.abs(decoded - expected).max() <= 1


def test_gray_with_alpha() -> None:
    image = Image.new("LA", (2, 1))
    image.putpixel((0, 0), (100, 0))
    image.putpixel((1, 0), (100, 255))
    np.testing.assert_array_equal(decode_image(encoded(image), "x"), [[[255] * 3, [100] * 3]])


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk(form: str) -> None:
    """Pillow writes JPEG's CMYK inverted, with Adobe's marker, as Photoshop does."""
    cmyk = np.zeros((16, 16, 4), np.uint8) + np.array([200, 100, 20, 60], np.uint8)
    data = encoded(Image.frombytes("CMYK", (16, 16), cmyk.tobytes()), form)
    expected = [(255 - ink) * (255 - 60) / 255 for ink in (200, 100, 20)]
    assert np.abs(decode_image(data, "x")[8, 8] - expected).max() <= 2
    if form == "JPEG":
        assert b"Adobe" in data
        theirs = opencvs(data)[8, 8, ::-1]
        assert np.abs(decode_image(data, "x")[8, 8].astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP"])
def test_one_pixel(form: str) -> None:
    np.testing.assert_array_equal(decode_image(encoded(Image.new("RGB", (1, 1), "white"), form), "x"), [[[255] * 3]])


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data, "x"), np.full((3, 4, 3), [255, 0, 0]))


def test_multi_picture_jpeg_of_phones() -> None:
    data = encoded(Image.new("RGB", (8, 8), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    assert decode_image(data, "x").shape == (8, 8, 3)


# PNG, GIF and JPEG end in a mark that no pixel depends on: losing just that is no damage.
@pytest.mark.parametrize(
    ("form", "cut"),
    [(form, cut) for form in ("TIFF", "WEBP") for cut in (1, 40, 0.5, 0.9)]
    + [(form, cut) for form in ("PNG", "GIF", "JPEG") for cut in (40, 0.5, 0.9)],
)
def test_truncated(form: str, cut: float) -> None:
    data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)), form)
    length = len(data) - int(cut) if cut >= 1 else int(len(data) * (1 - cut))
    with pytest.raises(DatasetError, match=r"^cut\.img: .*; .*") as caught:
        decode_image(data[:length], "cut.img")
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\xff\xd8\xff\xe0", "not an image|damaged"),
        (encoded(Image.new("F", (2, 2)), "TIFF"), "'F'"),
        (encoded(Image.new("I", (2, 2)), "TIFF"), "'I'"),
        (encoded(Image.new("LAB", (2, 2)), "TIFF"), "'LAB'"),
    ],
)
def test_refused(data: bytes, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        decode_image(data, "x.jpg")


def test_decompression_bomb_is_refused_undecoded() -> None:
    data = png(100_000, 100_000, 8, 0, b"\0" * 100)
    with pytest.raises(DatasetError, match="pixels allowed"):
        decode_image(data, "bomb.png")
    with pytest.raises(DatasetError, match=r"7 x 5.* 34 pixels allowed; shrink it"):
        decode_image(encoded(Image.fromarray(RGB)), "x", max_pixels=34)
    assert decode_image(encoded(Image.fromarray(RGB)), "x", max_pixels=35).shape == (5, 7, 3)


def photograph(width: int = 96, height: int = 1280) -> Image.Image:
    """A picture with content everywhere, of a JPEG file as large as a photograph's."""
    small = np.random.default_rng(3).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def entropy(data: bytes, rows_left: float) -> bytes:
    """A JPEG's bytes up to this share of its (last) scan."""
    start = data.rindex(b"\xff\xda")
    return data[: start + int((len(data) - start) * rows_left)]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_jpeg_without_its_end_is_taken_where_little_is_lost(
    progressive: bool, subsampling: int, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph(), "JPEG", progressive=progressive, subsampling=subsampling, exif=exif, quality=90)
    whole = decode(data, "x")
    assert whole.missing == ""
    turned = {1: 0, 3: 2, 6: 1}[orientation]  # quarter turns that bring the stored rows back
    stored = np.rot90(whole.pixels, turned)
    for cut in (data[:-1], data[:-2], entropy(data, 0.99), entropy(data, 0.97)):
        found = decode(cut, "x")
        assert found.orientation == orientation
        differing = np.flatnonzero((np.rot90(found.pixels, turned) != stored).any(axis=(1, 2)))
        lost = len(stored) - int(differing[0]) if len(differing) else 0
        if cut in (data[:-1], data[:-2]):
            assert (lost, found.missing) == (0, "its last bytes are missing, but none of its rows")
        else:
            said = int(found.missing.split()[2])
            assert found.missing.endswith("of its 1280 rows are missing, wholly or in part")
            assert lost - 1 <= said < 1280 / 20  # chroma is interpolated one row up
            assert said - lost < 2 * 16  # in whole blocks
    for cut in (entropy(data, 0.5), entropy(data, 0.9), data[:300]):
        with pytest.raises(DatasetError, match=r"^x: the image is truncated or damaged \("):
            decode(cut, "x")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_end_was_never_written_is_one_without_its_end(progressive: bool) -> None:
    """A download that took all its space and then broke off: zeros, which decode as some picture."""
    data = encoded(photograph(), "JPEG", progressive=progressive, quality=90)
    for share in (0.98, 0.97, 0.9, 0.5):
        cut = entropy(data, share)
        filled = cut + bytes(len(data) - len(cut))
        assert len(filled) - len(cut) > 64
        if share < 0.95:
            with pytest.raises(DatasetError, match=r"the last \d+ of its 1280 rows are missing"):
                decode(filled, "x")
        else:
            found, expected = decode(filled, "x"), decode(cut.rstrip(b"\0\xff"), "x")
            assert found.missing == expected.missing != ""
            np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = encoded(photograph(), "JPEG", progressive=True)
    scans = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    assert len(scans) > 4
    for end in scans[1:]:  # a file that ends between two scans lacks no row, but the rows' detail
        with pytest.raises(DatasetError, match="truncated or damaged"):
            decode(data[:end], "x")


def test_a_jpeg_says_how_much_is_lost_where_that_is_too_much() -> None:
    data = encoded(photograph(), "JPEG")
    with pytest.raises(DatasetError, match=r"; the last \d+ of its 1280 rows are missing, wholly .*\); replace"):
        decode(entropy(data, 0.5), "x")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"tEXt"])
def test_a_png_with_large_texts_or_profiles_is_read(kind: bytes) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packed = zlib.compress(bytes(2**22))
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0", b"tEXt": b"k\0"}[kind]
    data = encoded(Image.fromarray(RGB))
    large = data[:33] + chunk(kind, head + (b"x" * 2**22 if kind == b"tEXt" else packed)) * 30 + data[33:]
    np.testing.assert_array_equal(decode_image(large, "x"), RGB)
    with pytest.raises(DatasetError, match="truncated or damaged"):
        decode_image(large[:-40], "x")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "form but HEIC, as iPhones write it; convert"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "form but AVIF; convert"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "form but JPEG XL; convert"),
        (b"\n<!DOCTYPE html><html></html>", "form but a web page, as a failed download leaves it"),
    ],
)
def test_what_another_file_is_is_said(data: bytes, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        decode_image(data, "x.jpg")
