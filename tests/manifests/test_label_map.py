"""Maps of labels in PNG files: VOC's palette, colours mapped back, forms that are refused, against Pillow."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from dataset_files import jpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import panoptic_png, png
from PIL import Image

from manifests import DatasetError
from manifests.masks import label_map_png, read_label_map, read_panoptic_map, voc_palette
from manifests.masks.label_map import decode_label_map

MAPS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(np.uint8, shape))


def test_the_palette_is_vocs() -> None:
    """The first colours as VOC's documentation lists them, and the void's."""
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert list(voc_palette()[:7]) == first
    assert voc_palette()[20] == (0, 64, 128) and voc_palette()[255] == (224, 224, 192)
    assert len(set(voc_palette())) == 256


@settings(deadline=None)
@given(MAPS)
def test_a_map_goes_through_pillow_and_back(labels: Any) -> None:
    """Pillow sees a palette's indices, the colours that anyone sees, and grey values."""
    data = label_map_png(labels)
    image = Image.open(io.BytesIO(data))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), labels)
    np.testing.assert_array_equal(read_label_map(data, "a.png"), labels)
    np.testing.assert_array_equal(read_label_map(png(np.asarray(image.convert("RGB"))), "a.png"), labels)
    np.testing.assert_array_equal(read_label_map(png(labels), "a.png"), labels)


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("mode", ["P", "L"])
def test_maps_of_few_bits(mode: str, bits: int) -> None:
    """Labels are the stored numbers, which Pillow spreads over 0 to 255 where they are grey."""
    labels = np.arange(1 << bits, dtype=np.uint8)[None]
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette([7] * 768)
        data = saved(image, bits=bits)
    else:
        data = grey_png(labels, bits)
    assert data[24] == bits
    np.testing.assert_array_equal(read_label_map(data, "a.png"), labels)


def grey_png(labels: Any, bits: int) -> bytes:
    """A grey PNG of few bits, which Pillow does not write: its palette's form, said to be grey."""
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes() for row in labels
    )
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_a_palette_in_another_order_is_mapped_by_its_colours() -> None:
    """Programs that shrink PNG files number the colours anew; one with colours of its own keeps its numbers."""
    labels = np.array([[0, 15, 255, 15]], np.uint8)
    shrunk = Image.open(io.BytesIO(label_map_png(labels))).convert("RGB").quantize(3)
    assert set(np.unique(np.asarray(shrunk))) == {0, 1, 2}
    np.testing.assert_array_equal(read_label_map(saved(shrunk), "a.png"), labels)
    other = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    other.putpalette([0, 0, 0, 1, 2, 3, 128, 0, 0])
    np.testing.assert_array_equal(read_label_map(saved(other), "a.png"), [[0, 1, 2]])


BLACK, RED, GREEN, VOID = (0, 0, 0), (128, 0, 0), (0, 128, 0), (224, 224, 192)  # VOC's labels 0, 1, 2 and 255


@pytest.mark.parametrize(
    ("palette", "indices", "labels"),
    [
        ((BLACK, RED, VOID), [0, 1, 2], [0, 1, 255]),  # as shrunk: an aeroplane with its rim
        ((VOID, GREEN, BLACK), [0, 1, 2], [255, 2, 0]),
        ((RED, VOID), [0, 1], [1, 255]),
        ((BLACK, GREEN), [0, 1], [0, 1]),  # one colour may be anybody's
        ((GREEN, BLACK), [0, 1], [0, 1]),
        ((BLACK, GREEN, GREEN), [0, 1, 2], [0, 1, 2]),
        ((BLACK, RED, GREEN), [0, 1, 2], [0, 1, 2]),  # VOC's own order
        ((BLACK, GREEN, RED, VOID), [0, 1, 3], [0, 1, 3]),  # nothing shrunk leaves a number out
        ((BLACK, GREEN, VOID, (9, 9, 9)), [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_which_palettes_are_taken_by_their_colours(palette: Any, indices: list[int], labels: list[int]) -> None:
    image = Image.fromarray(np.array([indices], np.uint8))
    image.putpalette([channel for colour in palette for channel in colour])
    found, by_colour = decode_label_map(saved(image), "a.png")
    assert (found.tolist(), by_colour) == ([labels], labels != indices)


@settings(deadline=None)
@given(arrays(np.int64, (3, 4), elements=st.integers(0, (1 << 24) - 1)))
def test_panoptic_ids(ids: Any) -> None:
    np.testing.assert_array_equal(read_panoptic_map(panoptic_png(ids), "a.png"), ids)


RGB = np.zeros((2, 3, 3), np.uint8)
WRONG = [
    (b"", "a.png: the file is empty"),
    (jpeg(), "is a JPEG picture, which changes labels where they meet, not PNG"),
    (b"GIF89a", "is not a PNG file"),
    (label_map_png(np.zeros((50, 50), np.uint8))[:-40], "is cut short or damaged"),
    (png(np.zeros((2, 3), np.uint16)), "has 16 bits per sample"),
    (png(np.full((2, 3, 3), 9, np.uint8)), r"has the colour \(9, 9, 9\), which VOC's colormap has not"),
    (png(np.arange(18, dtype=np.uint8).reshape(2, 3, 3)), r"colours \(0, 1, 2\), \(3, 4, 5\), \(6, 7, 8\) and 3 more"),
    (png(np.dstack([RGB, RGB[..., 0]])), "is transparent in parts"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS pointer"),
]


@pytest.mark.parametrize(("data", "match"), WRONG)
def test_what_is_no_map(data: bytes, match: str) -> None:
    with pytest.raises(DatasetError, match=match) as caught:
        read_label_map(data, "a.png")
    assert len(caught.value.problems) == 1


def test_a_panoptic_map_is_in_colour() -> None:
    with pytest.raises(DatasetError, match="has no colours, and a panoptic map's ids are R"):
        read_panoptic_map(png(RGB[..., 0]), "a.png")
    opaque = np.dstack([RGB, np.full((2, 3), 255, np.uint8)])
    assert not read_panoptic_map(png(opaque), "a.png").any()


def test_labels_that_no_palette_holds() -> None:
    with pytest.raises(DatasetError, match="has labels outside 0 to 255"):
        label_map_png(np.array([[256]]))
