"""MATLAB's files of version 5 as scipy writes and reads them: every kind of number, structs among other things."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from mask_files import sbd_mat
from scipy.io import loadmat, savemat

from manifests import DatasetError
from manifests.masks.mat_file import read_sbd
from manifests.masks.mat_v5 import read_numbers, read_struct, read_structs, read_text

TYPES = st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "bool"])
ARRAYS = TYPES.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5)))


def saved(values: dict[str, Any], compress: bool) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, values, do_compression=compress)
    return buffer.getvalue()


@settings(deadline=None)
@given(ARRAYS, ARRAYS, st.booleans())
def test_numbers_are_those_that_scipy_reads(first: Any, second: Any, compress: bool) -> None:
    other = {"before": np.arange(5), "text": "abc", "cell": np.array([1, "x"], object)}
    data = saved({**other, "one": {"a": first, "longer_name": second, "text": "b"}, "after": np.eye(2)}, compress)
    theirs = loadmat(io.BytesIO(data))["one"]
    fields = read_struct(data, "one")
    assert list(fields) == ["a", "longer_name", "text"]
    for name in ("a", "longer_name"):
        np.testing.assert_array_equal(read_numbers(fields[name], "<"), theirs[name].item())


ROWS = st.lists(
    st.tuples(
        st.integers(-(2**31), 2**31 - 1),
        st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"]), max_size=9),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(ROWS, st.booleans())
def test_an_array_of_structs_with_texts_is_what_scipy_reads(rows: list[tuple[int, str]], compress: bool) -> None:
    data = saved({"other": 1, "all": np.array(rows, [("number", object), ("text", object)])}, compress)
    found = read_structs(data, "all")
    theirs = np.atleast_1d(loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False)["all"])
    assert [int(read_numbers(one["number"], "<").item()) for one in found] == [int(one.number) for one in theirs]
    texts = [read_text(one["text"], "<") for one in found]
    # scipy gives an empty array for an empty text
    assert texts == ["" if not isinstance(one.text, str) else one.text for one in theirs]
    with pytest.raises(ValueError, match="is no text"):
        read_text(found[0]["number"], "<")


def test_both_versions_and_byte_orders() -> None:
    """A file of a big-endian machine is the same, its words turned."""
    labels = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    for data in (
        sbd_mat(labels, [7, 15]),
        sbd_mat(labels, [7, 15], compress=False),
        sbd_mat(labels, [7, 15], version="7.3"),
    ):
        numbers, categories = read_sbd(data, "a.mat")
        np.testing.assert_array_equal(numbers, labels)
        assert categories.tolist() == [7, 15]
    assert read_sbd(big_endian(labels, [7, 15]), "a.mat")[1].tolist() == [7, 15]


def big_endian(labels: Any, categories: list[int]) -> bytes:
    """GTinst written by hand, high bytes first, in one compressed element."""

    def element(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body)) + body + bytes(-len(body) % 8)

    def matrix(array_class: int, shape: tuple[int, ...], name: bytes, rest: bytes) -> bytes:
        head = (
            element(6, struct.pack(">II", array_class, 0)) + element(5, struct.pack(">ii", *shape)) + element(1, name)
        )
        return element(14, head + rest)

    fields = [
        matrix(9, labels.shape, b"", element(2, labels.tobytes(order="F"))),
        matrix(6, (len(categories), 1), b"", element(4, np.array(categories, ">u2").tobytes())),
    ]
    names = b"Segmentation".ljust(16, b"\0") + b"Categories".ljust(16, b"\0")
    width = struct.pack(">HHi", 4, 5, 16)  # a small element: its size and type in one word
    whole = zlib.compress(matrix(2, (1, 1), b"GTinst", width + element(1, names) + b"".join(fields)))
    return b"MATLAB 5.0".ljust(124) + b"\1\0MI" + struct.pack(">II", 15, len(whole)) + whole


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"GTcls": {"Segmentation": np.eye(2)}}, "has no GTinst; is it a file of SBD's inst/?"),
        ({"GTinst": {"Segmentation": np.eye(2)}}, "has no GTinst.Categories"),
        ({"GTinst": np.eye(2)}, "has no GTinst;"),
        ({"GTinst": {"Segmentation": "text", "Categories": np.eye(1)}}, "class 4 is not one of plain numbers"),
        ({"GTinst": {"Segmentation": np.eye(2) * 1j, "Categories": np.eye(1)}}, "complex numbers"),
        ({"GTinst": {"Segmentation": np.eye(2) / 2, "Categories": np.eye(1)}}, "numbers that are not whole"),
        ({"GTinst": {"Segmentation": np.eye(2) * np.nan, "Categories": np.eye(1)}}, "numbers that are not whole"),
        (
            {"GTinst": np.array([(1, 2), (1, 2)], [("Segmentation", object), ("Categories", object)])},
            "has 2 parts, not 1",
        ),
    ],
)
def test_what_is_not_of_sbd(values: dict[str, Any], match: str) -> None:
    for compress in (False, True):
        with pytest.raises(DatasetError, match=match) as caught:
            read_sbd(saved(values, compress), "a.mat")
        assert len(caught.value.problems) == 1


def test_a_file_that_unpacks_to_far_too_much_is_refused_in_little_memory() -> None:
    head = sbd_mat(np.zeros((2, 2), np.uint8), [])[:128]
    bomb = zlib.compress(bytes(1 << 28), 9)
    with pytest.raises(DatasetError, match="unpacks to far too much"):
        read_sbd(head + struct.pack("<II", 15, len(bomb)) + bomb, "a.mat")


@settings(deadline=None, max_examples=300)
@given(st.data(), st.sampled_from(["5", "5 plain", "7.3"]))
def test_damaged_files_give_clear_errors_only(data: st.DataObject, form: str) -> None:
    labels = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    content = bytearray(sbd_mat(labels, [7, 15], version=form.split(maxsplit=1)[0], compress=form == "5"))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_sbd(bytes(content[: data.draw(st.integers(1, len(content)))]), "a.mat")
    except DatasetError as error:
        assert len(error.problems) == 1
