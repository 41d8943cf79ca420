"""Boxes from a file: what is taken, and that everything wrong is named in one report."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_arrays import as_boxes, as_labels

from cache.errors import StageError
from manifests import ImageRecord
from stages.proposals.file import read_proposal_file


def record(i: int, name: str, width: int = 100, height: int = 80) -> ImageRecord:
    return ImageRecord(i, f"sub/{name}.jpg", width, height, "0" * 64, "train", as_boxes([]), as_labels([]))


IMAGES = (record(11, "cat"), record(12, "dog"), record(13, "000012"))
BOXES = np.array([[0, 0, 10, 20], [5.5, 6, 100, 80]])


def write(path: Path, arrays: Mapping[str, Any]) -> Path:
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        np.savez(path, **arrays)
    return path


GOOD = {
    "boxes/cat": BOXES,
    "scores/cat": np.array([0.1, 0.9]),
    "boxes/12": BOXES.astype(int),
    "boxes/000012": BOXES[:0],
}


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_names_ids_scores_and_empty_entries(tmp_path: Path, suffix: str) -> None:
    found = read_proposal_file(write(tmp_path / f"p{suffix}", GOOD), IMAGES)
    assert found[11].boxes.tolist() == BOXES[::-1].tolist()
    assert found[12].boxes.tolist() == [[0, 0, 10, 20], [5, 6, 100, 80]]
    assert found[13].boxes.shape == (0, 4)
    assert all(one.boxes.dtype == np.float32 and one.regions is None for one in found.values())


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_all_problems_are_in_one_report(tmp_path: Path, suffix: str) -> None:
    bad = {
        "boxes/cat": np.array([[0, 0, 10, 20], [np.nan, 0, 1, 1], [9, 9, 9, 20], [0, 0, 101, 20]]),
        "boxes/dog": np.zeros((3, 5)),
        "boxes/12": BOXES,
        "boxes/bird": BOXES,
        "scores/bird": np.zeros(2),
        "scores/fish": np.zeros(2),
        "masks/cat": BOXES,
    }
    with pytest.raises(StageError) as error:
        read_proposal_file(write(tmp_path / f"p{suffix}", bad), IMAGES)
    lines = str(error.value).splitlines()
    assert all(line.startswith(str(tmp_path)) for line in lines)
    for part in (
        "1 boxes not finite, first in row 1",
        "1 boxes inverted or empty",
        "1 boxes outside the 100 x 80 image, first in row 3",
        "'boxes/bird' names no image",
        "'boxes/dog' and 'boxes/12' are the same image",
        "'scores/fish' has no 'boxes/fish'",
        "'masks/cat' is neither",
        "image '000012' (id 13) has no entry",
    ):
        assert sum(part in line for line in lines) == 1, part
    assert len(lines) == 6


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes/cat": np.zeros((3, 5))}, r"shape \[3, 5\], not \[n, 4\]"),
        ({"boxes/cat": np.zeros(4)}, r"shape \[4\]"),
        ({"boxes/cat": np.zeros((2, 4), bool)}, "boxes are bool"),
        ({"scores/cat": np.zeros(3)}, r"scores have shape \[3\], not \[2\]"),
        ({"scores/cat": np.array([1, np.inf])}, "a score is not finite"),
        ({"scores/cat": np.array([b"a", b"b"])}, "scores are"),
    ],
)
def test_one_wrong_entry(tmp_path: Path, suffix: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        read_proposal_file(write(tmp_path / f"p{suffix}", GOOD | change), IMAGES)


def test_images_of_a_split_that_is_not_used_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "p.npz", GOOD | {"boxes/of the val split": BOXES * 1000})
    notes: list[str] = []
    assert set(read_proposal_file(path, IMAGES, notes.append)) == {11, 12, 13}
    assert notes == ["1 entries of the proposal file name no image of this run, e.g. 'boxes/of the val split'"]


def test_an_entry_that_could_be_two_images(tmp_path: Path) -> None:
    images = (record(11, "12"), record(12, "dog"))
    with pytest.raises(StageError, match=r"'boxes/12' could be sub/12\.jpg or sub/dog\.jpg; use ids"):
        read_proposal_file(write(tmp_path / "p.npz", {"boxes/12": BOXES}), images)


def test_rounding_outside_is_cut(tmp_path: Path) -> None:
    boxes = np.array([[-0.004, 0, 100.004, 80]])
    found = read_proposal_file(write(tmp_path / "p.npz", {"boxes/11": boxes}), IMAGES[:1])
    assert found[11].boxes.tolist() == [[0, 0, 100, 80]]


def test_not_a_proposal_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("boxes")
    with pytest.raises(StageError, match="neither HDF5 nor npz"):
        read_proposal_file(tmp_path / "p.txt", IMAGES)
    with pytest.raises(StageError, match="no such file"):
        read_proposal_file(tmp_path / "missing.h5", IMAGES)


def test_pickles_and_foreign_members_are_refused(tmp_path: Path) -> None:
    objects = np.empty((2, 4), object)
    objects[:] = 1
    with pytest.raises(StageError, match="boxes are object, not numbers"):
        read_proposal_file(write(tmp_path / "o.npz", GOOD | {"boxes/cat": objects}), IMAGES)
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(StageError, match=r"'readme\.txt' is not an array"):
        read_proposal_file(tmp_path / "z.npz", IMAGES)


def test_a_header_that_promises_too_much_is_not_read(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 4)})
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("boxes/cat.npy", header.getvalue())
    with pytest.raises(StageError, match="1000000000000 boxes, more than"):
        read_proposal_file(tmp_path / "b.npz", IMAGES[:1])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("boxes/cat", (10**12, 4), "f8", chunks=(1024, 4))
    with pytest.raises(StageError, match="1000000000000 boxes, more than"):
        read_proposal_file(tmp_path / "b.h5", IMAGES[:1])


def test_links_out_of_an_hdf5_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", {"boxes/cat": BOXES})
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file.create_group("boxes")["cat"] = h5py.ExternalLink("other.h5", "/boxes/cat")
    with pytest.raises(StageError, match="'boxes/cat' is a link, not an array"):
        read_proposal_file(tmp_path / "link.h5", IMAGES[:1])
    layout = h5py.VirtualLayout((2, 4), "f8")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "boxes/cat", (2, 4))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("boxes/cat", layout)
    with pytest.raises(StageError, match="keeps its values in another file"):
        read_proposal_file(tmp_path / "virtual.h5", IMAGES[:1])


@settings(deadline=None, max_examples=60)
@given(data=st.data(), suffix=st.sampled_from([".h5", ".npz"]))
def test_damaged_files_give_clear_errors_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(write(folder / f"p{suffix}", GOOD).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    path = folder / f"d{suffix}"
    path.write_bytes(content[:cut])
    try:
        found = read_proposal_file(path, IMAGES)
    except StageError:
        return
    assert set(found) == {11, 12, 13}
