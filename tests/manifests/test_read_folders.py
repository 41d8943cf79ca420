"""Class folders, on disk and inside a zip archive: layouts, choices, damaged files, and what is refused."""

import io
import os
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manifests import (
    Dataset,
    DatasetError,
    ImageSource,
    ReadOptions,
    decode_image,
    import_dataset,
    load_dataset,
    read_folders,
    refresh,
)
from manifests.describe import contact_sheet, describe
from manifests.files import MAX_MEMBER_BYTES, Archive
from manifests.select import check_files


def jpeg(width: int = 4, height: int = 4, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


TREE = {
    "train/dog/1.jpg": jpeg(40, 30, seed=1),
    "train/cat/1.jpg": jpeg(20, 50, seed=2),
    "train/cat/deep/er/2.jpg": jpeg(8, 8, seed=3),
    "test/cat/9.jpg": jpeg(12, 9, seed=4),
    "test/dog/9.jpg": jpeg(9, 12, seed=5),
}


def as_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def as_zip(root: Path, files: Mapping[str, bytes]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return root / "data.zip"


FORMS = pytest.mark.parametrize("form", [as_folder, as_zip])


def shown(dataset: Dataset) -> set[tuple[str, str, str]]:
    """(file, split, class) of every picture."""
    return {(i.file_name, i.split, dataset.classes[i.category]) for i in dataset.images}  # type: ignore[index]


@FORMS
def test_splits_classes_and_pixels_are_those_of_the_tree(form: Callable[..., Any], tmp_path: Path) -> None:
    beside = {"README.md": b"text", "train/cat/._1.jpg": b"macOS", "__MACOSX/train/cat/1.jpg": b"macOS"}
    dataset, root, notes = read_folders(form(tmp_path / "x", TREE | beside))
    assert dataset.classes == ("cat", "dog")
    assert notes == []
    assert shown(dataset) == {(name, *name.split("/")[:2]) for name in TREE}
    assert not dataset.has_boxes
    source = ImageSource(root)
    for record in dataset.images:
        expected = decode_image(TREE[record.file_name], "x")
        assert (record.height, record.width) == expected.shape[:2]
        np.testing.assert_array_equal(source.read(record), expected)


@FORMS
def test_manifest_keeps_classes_and_a_second_reading_gives_the_same(form: Callable[..., Any], tmp_path: Path) -> None:
    path = form(tmp_path / "x", TREE)
    made = import_dataset("folders", path, "pets", ReadOptions(), tmp_path / "artifacts")
    folder = tmp_path / "artifacts/datasets/pets"
    assert load_dataset(folder / "manifest.json") == made.dataset == read_folders(path, name="pets")[0]
    assert refresh("pets", tmp_path / "artifacts").dataset == made.dataset
    again = pickle.loads(pickle.dumps(ImageSource.registered(folder)))  # as it goes to another process
    np.testing.assert_array_equal(again.read(made.dataset.images[0]), decode_image(TREE["test/cat/9.jpg"], "x"))
    assert "pictures     test  train  all\ncat             1      2    3" in describe(made.dataset)
    assert len(contact_sheet(made.dataset, again)) > 1000


@FORMS
def test_outer_folders_are_passed_and_splits_drawn_where_there_are_none(
    form: Callable[..., Any], tmp_path: Path
) -> None:
    flat = {f"all/pets/{label}/{i}.jpg": jpeg(seed=i) for label in ("a", "b") for i in range(20)}
    dataset, _, notes = read_folders(form(tmp_path / "x", flat), ReadOptions(fractions={"train": 0.5, "test": 0.5}))
    assert dataset.classes == ("a", "b")
    assert set(dataset.splits) == {"train", "test"}
    assert any("drawn by seed 0" in note for note in notes)
    wrapped, _, _ = read_folders(form(tmp_path / "y", {f"outer/{name}": data for name, data in TREE.items()}))
    assert {s[1:] for s in shown(wrapped)} == {tuple(name.split("/")[:2]) for name in TREE}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    flat = {f"{label}/{i}.jpg": jpeg(seed=i) for label in ("bus", "train") for i in range(4)}
    dataset, _, notes = read_folders(as_folder(tmp_path / "x", flat))
    assert dataset.classes == ("bus", "train")
    assert any("drawn by seed 0" in note for note in notes)
    with pytest.raises(DatasetError, match="is in no class folder"):  # splits without classes
        read_folders(as_folder(tmp_path / "y", {"train/1.jpg": jpeg(seed=1), "test/2.jpg": jpeg(seed=2)}))


@FORMS
def test_a_source_that_is_gone_is_one_line(form: Callable[..., Any], tmp_path: Path) -> None:
    path = form(tmp_path / "x", TREE)
    dataset, _, _ = read_folders(path)
    opened = ImageSource(path)
    path.rename(tmp_path / "elsewhere")
    for source in (opened, ImageSource(path)):
        with pytest.raises(DatasetError) as error:
            check_files(dataset.images, source, 2)
        assert error.value.problems == [f"{path}: the images are not there any more; restore them, or import again"]


def test_choice_is_of_so_many_per_class_and_split_and_by_the_seed(tmp_path: Path) -> None:
    picture = jpeg(4, 4)
    files = {f"{s}/{c}/{i}.jpg": picture for s in ("train", "test") for c in "abc" for i in range(9)} | {
        "train/d/0.jpg": picture
    }
    path = as_zip(tmp_path, files)
    first, _, notes = read_folders(path, ReadOptions(per_class=4))
    assert Counter((i.split, i.category) for i in first.images) == {
        **{(s, c): 4 for s in ("train", "test") for c in range(3)},
        ("train", 3): 1,
    }
    assert [n for n in notes if "pictures taken" in n] == [
        "25 of 55 pictures taken: at most 4 of each class and split, drawn by seed 0"
    ]
    names = {i.file_name for i in first.images}
    assert names == {i.file_name for i in read_folders(path, ReadOptions(per_class=4))[0].images}
    assert names != {i.file_name for i in read_folders(path, ReadOptions(per_class=4, seed=1))[0].images}
    fewer = {i.file_name for i in read_folders(path, ReadOptions(per_class=3))[0].images}
    assert fewer < names  # a larger choice holds the smaller one


@FORMS
def test_damaged_and_misplaced_files_are_all_named_or_skipped(form: Callable[..., Any], tmp_path: Path) -> None:
    bad = {
        "train/cat/broken.jpg": TREE["train/cat/1.jpg"][:60],
        "train/cat/empty.png": b"",
        "loose.jpg": jpeg(),
        "train/loose.jpg": jpeg(),
        "extra/cat/1.jpg": jpeg(),
    }
    path = form(tmp_path / "x", TREE | bad)
    with pytest.raises(DatasetError) as error:
        read_folders(path)
    assert [next(name for name in bad if line.startswith(name + ":")) for line in error.value.problems] == sorted(bad)
    dataset, _, notes = read_folders(path, ReadOptions(on_error="skip"))
    assert {i.file_name for i in dataset.images} == set(TREE)
    assert sum(note.startswith("left out: ") for note in notes) == len(bad)


def test_wrong_classes_and_empty_trees_say_so(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "x", TREE)
    with pytest.raises(DatasetError, match="class folder 'dog' is not among the classes"):
        read_folders(path, ReadOptions(classes=("cat",)))
    with pytest.raises(DatasetError, match="class 'cow' has no folder with pictures"):
        read_folders(path, ReadOptions(classes=("cat", "cow", "dog")))
    assert read_folders(path, ReadOptions(classes=("dog", "cat")))[0].classes == ("dog", "cat")
    pascal = as_folder(tmp_path / "VOC", {f"JPEGImages/{i}.jpg": jpeg(seed=i) for i in range(3)})
    with pytest.raises(DatasetError, match=r"one class only, 'JPEGImages'; .*for images with boxes"):
        read_folders(pascal)
    with pytest.raises(DatasetError, match="has no images"):
        read_folders(as_folder(tmp_path / "none", {"a.txt": b""}))
    (tmp_path / "not.zip").write_bytes(b"PK\x05\x06 no archive")
    with pytest.raises(DatasetError, match=r"not\.zip: is not a readable zip archive"):
        read_folders(tmp_path / "not.zip")


@pytest.mark.parametrize("name", ["../out/cat/1.jpg", "/etc/cat/1.jpg", "train/cat/../../../1.jpg", "train//cat/1.jpg"])
def test_names_that_leave_the_archive_are_refused(name: str, tmp_path: Path) -> None:
    path = as_zip(tmp_path, TREE | {name: jpeg()})
    with pytest.raises(DatasetError) as error:
        read_folders(path)
    assert len(error.value.problems) == 1
    assert error.value.problems[0].startswith(f"{name}: the file name ")


def test_a_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    path = as_folder(tmp_path / "x", TREE)
    (path / "train/cat/link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DatasetError, match=r"^train/cat/link\.jpg: is a link that leaves"):
        read_folders(path)


def test_a_class_folder_that_is_a_link_or_cannot_be_listed_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_folder(tmp_path / "x", TREE)
    (path / "train/cow").symlink_to(path / "train/cat")
    listed = os.scandir

    def scandir(folder: str) -> Any:
        if str(folder).endswith("test/dog"):
            raise PermissionError(13, "Permission denied", folder)
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError) as error:
        read_folders(path)
    assert sorted(error.value.problems) == [
        "test/dog: cannot be listed (Permission denied); check the folder and its permissions",
        "train/cow: is a link to a folder; move the folder itself there, or remove the link",
    ]
    dataset, _, notes = read_folders(path, ReadOptions(on_error="skip"))
    assert len(dataset.images) == len(TREE) - 1
    assert sum(note.startswith("left out: ") for note in notes) == 2


def test_a_member_that_unpacks_to_far_too_much_takes_no_memory(tmp_path: Path) -> None:
    path = as_zip(tmp_path, TREE)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("train/cat/bomb.bmp", "w") as member:
        for _ in range(MAX_MEMBER_BYTES // 2**24 + 1):
            member.write(bytes(2**24))
    with pytest.raises(DatasetError, match=r"^train/cat/bomb\.bmp: unpacks to \d+ bytes, more than"):
        read_folders(path)


def test_a_member_that_unpacks_to_more_than_it_states_takes_no_memory(tmp_path: Path) -> None:
    path = as_zip(tmp_path, TREE | {"train/cat/bomb.bmp": bytes(2**24)})
    data = bytearray(path.read_bytes())
    size_at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"train/cat/bomb.bmp")) + 24
    data[size_at : size_at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=r"train/cat/bomb\.bmp: cannot be read from .*CRC"):
            Archive(path).read("train/cat/bomb.bmp")
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_unpacks_without_a_limit_is_refused(method: int, tmp_path: Path) -> None:
    path = as_zip(tmp_path, TREE)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("train/cat/other.jpg", jpeg())
    with pytest.raises(DatasetError) as error:
        read_folders(path)
    assert error.value.problems == [
        f"train/cat/other.jpg: is compressed by zip's method {method}; make data.zip anew with deflate, or unpack it "
        "and give the folder"
    ]


def test_a_fork_reads_by_a_file_of_its_own(tmp_path: Path) -> None:
    path = as_zip(tmp_path, TREE)
    code = """
import os, sys
from pathlib import Path
from manifests.files import Archive
archive = Archive(Path(sys.argv[1]))
first, last = archive.names()[0], archive.names()[-1]
archive.read(first)
place = os.lseek(archive._opened.fp.fileno(), 0, os.SEEK_CUR)
if not (child := os.fork()):
    archive.read(last)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert os.lseek(archive._opened.fp.fileno(), 0, os.SEEK_CUR) == place
"""
    subprocess.run([sys.executable, "-c", code, path], check=True)  # of its own: pytest has threads


def test_a_closed_archive_lets_go_of_its_file_and_opens_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(as_zip(tmp_path, TREE))
    opened: list[zipfile.ZipFile] = []
    make = zipfile.ZipFile

    def noting(path: Path) -> zipfile.ZipFile:
        opened.append(make(path))
        return opened[-1]

    monkeypatch.setattr("manifests.files.zipfile.ZipFile", noting)
    archive.close()
    for number in (1, 2):
        assert archive.read("test/dog/9.jpg") == TREE["test/dog/9.jpg"]
        assert len(opened) == number
        archive.close()
        assert opened[-1].fp is None
    read_folders(archive.path)
    assert len(opened) > 2 and opened[2].fp is None


def test_a_flipped_byte_in_the_archive_is_noticed(tmp_path: Path) -> None:
    path = as_zip(tmp_path, TREE)
    dataset, root, _ = read_folders(path)
    record = next(i for i in dataset.images if i.file_name == "train/dog/1.jpg")
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo(record.file_name).header_offset + 60
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train/dog/1\.jpg: cannot be read from .*data\.zip"):
        ImageSource(root).read(record)


_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8
)
_PLAIN = _NAMES.filter(lambda n: not n.startswith(".") and n == n.strip() and n != "__MACOSX")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(_PLAIN, st.integers(1, 3), min_size=2, max_size=4))
def test_any_class_names_are_read_sorted_from_an_archive(counts: dict[str, int]) -> None:
    files = {f"train/{label}/{i}.png": jpeg(4, 4, seed=i) for label, n in counts.items() for i in range(n)}
    with tempfile.TemporaryDirectory() as folder:
        dataset, _, _ = read_folders(as_zip(Path(folder), files))
    assert dataset.classes == tuple(sorted(counts))
    assert Counter(dataset.classes[i.category] for i in dataset.images) == counts  # type: ignore[index]
    assert [i.file_name for i in dataset.images] == sorted(files)


def test_an_entry_without_a_name_is_told(tmp_path: Path) -> None:
    path = as_zip(tmp_path, TREE)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"")
    with pytest.raises(DatasetError, match=r"\.zip: has an entry without a name; replace the archive"):
        read_folders(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_an_archive_with_any_damage_is_read_or_refused_in_words(seed: int, flips: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = as_zip(Path(folder), TREE)
        data = np.frombuffer(path.read_bytes(), np.uint8).copy()
        data[rng.integers(0, len(data), flips)] ^= rng.integers(1, 256, flips).astype(np.uint8)
        path.write_bytes(data.tobytes())
        try:
            dataset, _, _ = read_folders(path, ReadOptions(on_error="skip"))
        except DatasetError as error:
            assert error.problems
        else:
            assert len(dataset.images) <= len(TREE)
