"""No picture leaves a dataset in silence: pictures seen are pictures taken and pictures counted as left out."""

import json
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_files import jpeg, put, voc_object, voc_xml
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import Dataset, DatasetError, ReadOptions, read_coco, read_folders, read_voc, read_yolo
from manifests.listing import Listing, list_pictures, sort_names

FOLDERS = (
    *("", "train/", "test/", "cam 1/", "train/deep/", "__MACOSX/"),
    *(".ipynb_checkpoints/", ".ipynb_checkpoints/cat/", "train/.hidden/", "train/.hidden/deep/er/"),
)
FILES = ("a.jpg", "b.JPG", "c.jfif", "d.jpe", "e.png", ".f.jpg", "._a.jpg", "g.HEIC", "h.avif", "a.txt", "README.md")
GOOD = [jpeg(seed=seed) for seed in range(4)]
BAD = [b"", b"no picture", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", GOOD[0][:200]]
BYTES = {f"good {i}": data for i, data in enumerate(GOOD)} | {f"bad {i}": data for i, data in enumerate(BAD)}

Tree = dict[str, tuple[str, bool]]
trees = st.dictionaries(
    st.builds(str.__add__, st.sampled_from(FOLDERS), st.sampled_from(FILES)),
    st.tuples(st.sampled_from(sorted(BYTES)), st.booleans()),  # the file's bytes, and whether it is annotated
    max_size=12,
)


def is_seen(name: str) -> bool:
    """What a person calls a picture of the folder, by its name; written down apart from the program's own rule."""
    parts = name.split("/")
    suffixes = ("jpg", "jpe", "jfif", "png", "heic", "avif")
    return name.lower().endswith(suffixes) and not parts[-1].startswith("._") and "__MACOSX" not in parts


def voc(root: Path, tree: Tree, listed: bool) -> tuple[Dataset, Path, list[str]]:
    put(root, {f"JPEGImages/{name}": BYTES[data] for name, (data, _) in tree.items()})
    put(root, {"Annotations/z.xml": voc_xml(voc_object("cat", (1, 1, 9, 9))), "JPEGImages/z.jpg": GOOD[3]})
    named = [name.rpartition(".")[0] for name, (_, annotated) in tree.items() if annotated]
    put(root, {f"Annotations/{name}.xml": voc_xml(voc_object("cat", (1, 1, 9, 9))) for name in named})
    if listed:
        put(root, {"ImageSets/Main/train.txt": "\n".join(["z", *named[:3]])})
    return read_voc(root, ReadOptions(on_error="skip"))


def beside(root: Path, tree: Tree, listed: bool) -> tuple[Dataset, Path, list[str]]:
    put(root, {name: BYTES[data] for name, (data, _) in tree.items()})
    put(root, {"z.xml": voc_xml(voc_object("cat", (1, 1, 9, 9))), "z.jpg": GOOD[3]})
    named = [name.rpartition(".")[0] for name, (_, annotated) in tree.items() if annotated]
    put(root, {f"{name}.xml": voc_xml(voc_object("cat", (1, 1, 9, 9))) for name in named})
    return read_voc(root, ReadOptions(on_error="skip"))


def yolo(root: Path, tree: Tree, listed: bool) -> tuple[Dataset, Path, list[str]]:
    put(root, {f"images/{name}": BYTES[data] for name, (data, _) in tree.items()})
    put(root, {"images/z.jpg": GOOD[3], "labels/z.txt": "0 .5 .5 .5 .5", "classes.txt": "cat"})
    named = [name for name, (_, annotated) in tree.items() if annotated]
    put(root, {f"labels/{name.rpartition('.')[0]}.txt": "0 .5 .5 .5 .5" for name in named})
    if listed:
        put(root, {"data.yaml": "train: list.txt\nnames: [cat]"})
        put(root, {"list.txt": "\n".join(["images/z.jpg", *(f"./images/{name}" for name in named[:3])])})
    return read_yolo(root, ReadOptions(on_error="skip"))


def coco(root: Path, tree: Tree, listed: bool) -> tuple[Dataset, Path, list[str]]:
    put(root, {f"images/{name}": BYTES[data] for name, (data, _) in tree.items()} | {"images/z.jpg": GOOD[3]})
    names = ["z.jpg", *(name for name, (_, annotated) in tree.items() if annotated)]
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in range(len(names))]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    put(root, {"instances.json": json.dumps(document)})
    return read_coco(root, ReadOptions(on_error="skip"))


def coco_by_split(root: Path, tree: Tree, listed: bool) -> tuple[Dataset, Path, list[str]]:
    """Files of train/ and valid/; the tree's pictures beside these have no JSON."""
    put(root, {name: BYTES[data] for name, (data, _) in tree.items()})
    named = [name.removeprefix("train/") for name, (_, yes) in tree.items() if yes and name.startswith("train/")]
    for split, names in (("train", ["z.jpg", *named]), ("valid", ["z.jpg"])):
        images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
        annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in range(len(names))]
        document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
        put(root, {f"{split}/z.jpg": GOOD[3], f"{split}/_annotations.coco.json": json.dumps(document)})
    return read_coco(root, ReadOptions(on_error="skip", unannotated=("test",) if listed else ()))


def folders(root: Path, tree: Tree, listed: bool) -> tuple[Dataset, Path, list[str]]:
    put(root, {name: BYTES[data] for name, (data, _) in tree.items()})
    put(root, {"cam 1/z.jpg": GOOD[3], "cam 2/z.jpg": GOOD[2]})
    return read_folders(root, ReadOptions(on_error="skip", per_class=2 if listed else None))


@pytest.mark.parametrize("layout", [voc, beside, yolo, coco, coco_by_split, folders])
@settings(deadline=None, max_examples=40)
@given(tree=trees, listed=st.booleans())
def test_seen_is_taken_and_left_out(
    layout: Callable[..., tuple[Dataset, Path, list[str]]], tree: Tree, listed: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            dataset, images, notes = layout(root, tree, listed)
        except DatasetError:
            return  # nothing is taken, and all that is wrong is told
        there = {p.relative_to(images).as_posix() for p in images.rglob("*") if p.is_file()}
        taken = {image.file_name for image in dataset.images}
        seen = {name for name in there if is_seen(name)} | taken  # a list may name what nobody would look for
    tallies = [note for note in notes if note.startswith("pictures: ")]
    if seen == taken:
        assert tallies == []
    else:
        left_out = len(seen) - len(taken)
        assert tallies == [f"pictures: {len(seen)} seen, {len(taken)} taken, {left_out} left out"]
        assert sum(map(counted, notes)) >= left_out


def counted(note: str) -> int:
    """How many pictures a note speaks of."""
    more = re.search(r"\(and (\d+) more like this\)$", note)
    number = re.match(r"(?:left out: )?(\d+) ", note)
    if note.startswith("pictures: "):
        return 0
    if taken := re.match(r"(\d+) of (\d+) pictures taken", note):
        return int(taken[2]) - int(taken[1])
    return (int(number[1]) if number else 1) + (int(more[1]) if more else 0)


def test_a_listing_sorts_names_of_folders_and_archives_alike(tmp_path: Path) -> None:
    names = [f"{folder}{name}" for folder in FOLDERS for name in FILES]
    put(tmp_path / "x", dict.fromkeys(names, b""))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
        listed = sort_names(archive.namelist())
    assert list_pictures(tmp_path / "x") == listed
    visible = ("", "train/", "test/", "cam 1/", "train/deep/")
    assert set(listed.pictures) == {f"{at}{name}" for at in visible for name in FILES[:5]}
    assert set(listed.unread) == {f"{at}{name}" for at in visible for name in ("g.HEIC", "h.avif")}
    assert set(listed.others) == {f"{at}{name}" for at in visible for name in ("a.txt", "README.md")}
    assert listed.seen == set(filter(is_seen, names))


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    put(
        tmp_path / "x",
        dict.fromkeys(("a.jpg", "b.heic", "sub/c.HEIC", "d.avif", ".e.png", ".ipynb_checkpoints/a.jpg"), b""),
    )
    (tmp_path / "x/loop").symlink_to(tmp_path / "x")
    assert list_pictures(tmp_path / "x").passed_over == [
        "3 pictures are of a form that is not read (AVIF 1, HEIC 2; such as b.heic); convert to JPEG or PNG what is "
        "wanted of them",
        "2 pictures are hidden, or in a hidden folder, and passed over (.e.png)",
        "loop: is a link to a folder, which is not followed",
    ]


def test_links_in_hidden_folders_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, {"x/.hid/deep/er/y.jpg": b"", "out/z.jpg": b""})
    for link in ("x/.hid/loop", "x/.hid/deep/loop"):
        (tmp_path / link).symlink_to(tmp_path / "x")
    (tmp_path / "x/.hid/deep/z.jpg").symlink_to(tmp_path / "out/z.jpg")
    (tmp_path / "x/.linked").symlink_to(tmp_path / "out")
    assert list_pictures(tmp_path / "x").hidden == (".hid/deep/er/y.jpg",)


def test_listings_are_moved_and_joined() -> None:
    one, other = (
        Listing(("a.jpg",), (), ("x.txt",), ()),
        Listing(("a.jpg", "b.jpg"), ("c.heic",), (), (), ("l",), (("d", "no"),)),
    )
    assert Listing.joined([one.under("."), other.under("s")]) == Listing(
        ("a.jpg", "s/a.jpg", "s/b.jpg"), ("s/c.heic",), ("x.txt",), (), ("s/l",), (("s/d", "no"),)
    )
