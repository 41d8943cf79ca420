"""Reading ILSVRC's detection data, in both layouts."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_files import jpeg
from ilsvrc_tree import LAYOUTS, Shown, Tree, save_meta, write_tree
from PIL import Image

from manifests import DatasetError, ImageSource, ReadOptions, import_dataset, load_dataset, save_dataset
from manifests.readers.ilsvrc import read_ilsvrc
from manifests.readers.ilsvrc_layout import read_classes
from manifests.select import select

GOLDEN = Path(__file__).parents[2] / "../shared/golden/ilsvrc"
BOX = (1, 1, 20, 20)


def cmyk() -> bytes:
    buffer = io.BytesIO()
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def tree() -> Tree:
    """Make train pictures a (both classes), b (cat, in part), c (negative of cat), d (no XML), e (blacklisted)."""
    return Tree(
        ("cat", "dog"),
        {
            "train": {
                "n1_a": Shown(jpeg(seed=1), [("cat", BOX), ("dog", (5, 5, 40, 30))]),
                "n1_b": Shown(cmyk(), [("cat", BOX)]),
                "n1_c": Shown(jpeg(seed=3), None),
                "n1_d": Shown(jpeg(seed=4), None),
                "n1_e": Shown(jpeg(seed=10), [("cat", BOX)]),
            },
            "val": {
                "val_1": Shown(jpeg(seed=5), [("dog", BOX)]),
                "val_2": Shown(jpeg(seed=6), []),
                "val_3": Shown(jpeg(seed=7), None),
                "val_4": Shown(jpeg(seed=8), [("dog", BOX), ("cat", BOX)]),
            },
            "test": {"test_1": Shown(jpeg(seed=9), None)},
        },
        {"cat": {"n1_a": 1, "n1_b": 0, "n1_c": -1, "n1_d": 1, "n1_e": 1}, "dog": {"n1_a": 1, "n1_b": -1, "n1_e": -1}},
        {"val1": ["val_1", "val_3"], "val2": ["val_2", "val_4"]},
        "4 n00000002\n",
        ["n1_e", "n1_absent"],
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_that_there_is(tmp_path: Path, layout: str) -> None:
    dataset, root, notes = read_ilsvrc(write_tree(tmp_path / "tree", layout, tree()))
    assert dataset.classes == ("cat", "dog") and dataset.category_ids == (1, 2)
    assert {split: [image.name for image in dataset.split(split)] for split in dataset.splits} == {
        "test": ["test_1"],
        "train": ["n1_a", "n1_b"],
        "val": ["val_1", "val_2", "val_3", "val_4"],
        "val1": ["val_1", "val_3"],
        "val2": ["val_2", "val_4"],
    }
    assert {image.name: image.exhaustive for image in dataset.images if not image.exhaustive} == {
        "n1_a": False,
        "n1_b": False,
    }
    assert [image.name for image in dataset.images if not image.annotated] == ["test_1"]
    assert {image.name: image.unscored for image in dataset.images if image.unscored} == {"val_4": (1,)}
    a = dataset.image("n1_a")
    assert a.labels.tolist() == [0, 1]
    assert a.boxes.tolist() == [[0, 0, 20, 20], [4, 4, 40, 30]]
    pixels = ImageSource(root).read(dataset.image("n1_b"))
    assert np.abs(pixels.astype(int) - pixels[0, 0]).max() < 3  # one colour, of the inverted four
    text = "\n".join(notes)
    assert "1 train images that show none of the class" in text
    assert "1 train images without an object are left out" in text
    assert "2 of 4 images beside train have no object" in text
    assert "split test: its 1 images are taken as nobody's having annotated them" in text
    assert "1 train images that train_blacklist.txt lists are left out" in text
    assert ("train_posall.txt: is not read: it joins the classes' own lists" in text) == (layout == "2013")
    assert "pictures: 10 seen, 7 taken, 3 left out" in text


@pytest.mark.parametrize("union", ["train_all", "train_partall", "train_negall", "train_neg_all"])
def test_a_union_of_lists_is_no_split_and_another_name_is(tmp_path: Path, union: str) -> None:
    root = write_tree(tmp_path / "tree", "2014", tree())
    for name in (union, "train_small"):
        (root / f"ImageSets/DET/{name}.txt").write_text("n00000001/n1_a 1\n")
    dataset, _, notes = read_ilsvrc(root)
    assert dataset.splits == ("test", "train", "train_small", "val", "val1", "val2")
    assert f"{union}.txt: is not read: it joins the classes' own lists, train_*K.txt" in notes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_blacklist_of_train_takes_nothing_out_of_another_split(tmp_path: Path, layout: str) -> None:
    made = tree()
    root = write_tree(tmp_path / "tree", layout, replace(made, lists={**made.lists, "mine": ["n1_e", "n1_b"]}))
    dataset, _, notes = read_ilsvrc(root)
    assert [image.name for image in dataset.split("train")] == ["n1_a", "n1_b"]
    assert [image.name for image in dataset.split("mine")] == ["n1_b", "n1_e"]
    assert not any(image.exhaustive for image in dataset.split("mine"))
    assert not any("train_blacklist" in note for note in notes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_train_picture_in_a_list_of_ones_own_is_annotated_in_part(tmp_path: Path, layout: str) -> None:
    """Whether a class has it as positive, as negative alone, or nothing but the blacklist names it."""
    made = tree()
    mine = ["n1_b", "n1_c", "n1_e", "val_1"]
    dataset, _, _ = read_ilsvrc(
        write_tree(tmp_path / "tree", layout, replace(made, lists={**made.lists, "mine": mine}))
    )
    assert [(image.name, image.exhaustive) for image in dataset.split("mine")] == [
        ("n1_b", False),
        ("n1_c", False),
        ("n1_e", False),
        ("val_1", True),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_blacklist_that_takes_nothing_out_is_told(tmp_path: Path, layout: str) -> None:
    root = write_tree(tmp_path / "tree", layout, replace(tree(), blacklist="4 n00000002\n99 n00000001\n"))
    dataset, _, notes = read_ilsvrc(root)
    assert {image.name: image.unscored for image in dataset.images if image.unscored} == {"val_4": (1,)}
    told = "the blacklist of val: {} of its 2 images (such as {}) are not known, and are scored whole: {}"
    assert told.format(1, 99, "val.txt gives no image that number") in notes
    (val,) = root.rglob("val.txt")
    val.unlink()
    dataset, _, notes = read_ilsvrc(root)
    assert not any(image.unscored for image in dataset.images)
    assert any(note.startswith(told.format(2, 4, "there is no val.txt")) for note in notes)


def test_a_second_blacklist_is_told(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", "2014", tree())
    (first,) = root.rglob("*det_validation_blacklist*.txt")
    (first.parent / "z_det_validation_blacklist.txt").write_text("1 n00000001\n")
    notes = read_ilsvrc(root)[2]
    assert (
        f"z_det_validation_blacklist.txt: is not read: {first.name} is there, too; keep the one that is meant" in notes
    )


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("val.txt", "val_1 1\nval_2 1\n", "val.txt: line 2: val_2 has the number 1, as val_1 has; correct it"),
        ("val.txt", "val_1 1\nval_1 2\n", "val.txt: line 2: val_1 stands there a second time; remove one of the lines"),
        ("train_1.txt", "n1_a 1\nn1_b 2\n", "train_1.txt: line 2: n1_b has none of 1 (all annotated), 0 (in part)"),
        ("train_1.txt", "n1_a\n", "train_1.txt: line 1: n1_a has none of 1 (all annotated), 0 (in part)"),
        ("train_3.txt", "n1_a 1\n", "train_3.txt: meta_det.mat has classes 1 to 2 alone; take it out, or correct"),
    ],
)
def test_lists_that_say_two_things_or_none(tmp_path: Path, file: str, text: str, expected: str) -> None:
    root = write_tree(tmp_path / "tree", "2014", tree())
    (root / "ImageSets/DET" / file).write_text(text)
    with pytest.raises(DatasetError) as error:
        read_ilsvrc(root)
    assert any(line.startswith(expected) for line in error.value.problems)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_manifest_keeps_it(tmp_path: Path, layout: str) -> None:
    dataset = read_ilsvrc(write_tree(tmp_path / "tree", layout, tree()))[0]
    save_dataset(dataset, tmp_path / "manifest.json")
    assert load_dataset(tmp_path / "manifest.json") == dataset
    assert '"manifest_version": 4' in (tmp_path / "manifest.json").read_text()
    for old, new in (('"unscored": [2]', '"unscored": [7]'),):
        (tmp_path / "other.json").write_text((tmp_path / "manifest.json").read_text().replace(old, new))
        with pytest.raises(DatasetError, match="unscored category_id 7 is not in categories"):
            load_dataset(tmp_path / "other.json")


def test_chosen_classes_keep_what_is_not_scored(tmp_path: Path) -> None:
    dataset = read_ilsvrc(write_tree(tmp_path / "tree", "2014", tree()))[0]
    chosen = select(dataset, "train", "val2", ["dog"])
    assert {image.name: image.unscored for image in chosen.images if image.unscored} == {"val_4": (0,)}
    assert select(dataset, "train", "val2", ["cat"]).image("val_4").unscored == ()
    assert [image.exhaustive for image in chosen.split("train")] == [False, False]


def test_the_devkit_may_lie_elsewhere(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", "2014", tree())
    (root / "devkit").rename(tmp_path / "kit")
    with pytest.raises(DatasetError, match=r"has no meta_det.mat, nor has a devkit in it; name .* by --devkit"):
        read_ilsvrc(root)
    registered = import_dataset("ilsvrc", root, "mine", ReadOptions(devkit=str(tmp_path / "kit")), tmp_path / "out")
    assert len(registered.dataset.images) == 7


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_unknown_wnid_is_one_line(tmp_path: Path, layout: str) -> None:
    made = tree()
    many = {f"x_{i}": Shown(jpeg(seed=i), [("n77777777", BOX), ("cat", BOX)]) for i in range(5)}
    root = write_tree(tmp_path / "tree", layout, replace(made, pictures={**made.pictures, "val": many}, blacklist=""))
    for extra in root.rglob("val?.txt"):
        extra.unlink()
    with pytest.raises(DatasetError) as caught:
        read_ilsvrc(root)
    assert len(caught.value.problems) == 3
    assert "WNID 'n77777777' is not among the classes of meta_det.mat" in caught.value.problems[0]
    assert "(and 2 more like this)" in caught.value.problems[-1]
    dataset = read_ilsvrc(root, ReadOptions(on_error="skip"))[0]
    assert [len(image.boxes) for image in dataset.split("val")] == [1] * 5


def test_lists_that_name_absent_pictures(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", "2014", tree())
    with (root / "ImageSets/DET/val.txt").open("a") as file:
        file.write("val_9 5\nval_10 6 7\n")
    with pytest.raises(DatasetError) as caught:
        read_ilsvrc(root)
    assert sorted(caught.value.problems) == [
        "val.txt: line 5: there is no picture val_9.JPEG; add it, or remove the line",
        "val.txt: line 6: 'val_10 6 7' is not an image and a number; correct it",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [("4 n00000009", "'4 n00000009' is not a number of val and a WNID"), ("x n00000001", "'x n00000001'")],
)
def test_a_blacklist_of_another_form(tmp_path: Path, lines: str, expected: str) -> None:
    with pytest.raises(DatasetError, match=expected):
        read_ilsvrc(write_tree(tmp_path / "tree", "2013", replace(tree(), blacklist=lines)))


def test_what_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read_ilsvrc(tmp_path / "none")
    root = write_tree(tmp_path / "tree", "2014", tree())
    (root / "Annotations/DET/val/val_1.xml").write_text("<annotation")
    with pytest.raises(DatasetError, match=r"val_1\.xml: is not well-formed XML"):
        read_ilsvrc(root)
    for file in (root / "ImageSets/DET").iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match="holds no lists of images"):
        read_ilsvrc(root)
    (root / "ImageSets/DET").rmdir()
    shutil.rmtree(root / "devkit/data/det_lists")
    with pytest.raises(DatasetError, match=r"has no ImageSets/DET/ .*, and .* no det_lists/"):
        read_ilsvrc(root)


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", "2014", tree())
    (root / "Data/DET/val/more").mkdir()
    (root / "Data/DET/val/more/val_1.JPEG").write_bytes(jpeg())
    with pytest.raises(DatasetError, match=r"val_1\.JPEG has the same name|has the same name, and the lists mean one"):
        read_ilsvrc(root)


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file" + b"\0" * 200, b"\x89HDF\r\n", bytes(range(256)) * 9])
def test_a_damaged_meta_det(tmp_path: Path, data: bytes) -> None:
    root = write_tree(tmp_path / "tree", "2014", tree())
    (root / "devkit/data/meta_det.mat").write_bytes(data)
    with pytest.raises(DatasetError, match=r"meta_det\.mat: .*; copy it from the devkit again"):
        read_ilsvrc(root)


def test_classes_are_the_first_200(tmp_path: Path) -> None:
    save_meta(tmp_path / "meta_det.mat", [f"class {i}" for i in range(200)])
    classes = read_classes(tmp_path / "meta_det.mat")
    assert len(classes) == 200
    assert classes["n00000200"] == (200, "class 199")
    save_meta(tmp_path / "meta_det.mat", ["a", "a"])
    with pytest.raises(DatasetError, match="two of one id or name"):
        read_classes(tmp_path / "meta_det.mat")


@pytest.mark.shared
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is not beside the checkout")
def test_the_authors_lists_are_splits(tmp_path: Path) -> None:
    texts = {name: (GOLDEN / f"{name}.txt").read_text() for name in ("val1", "val2")}
    names = {name: [line.split()[0] for line in text.splitlines()] for name, text in texts.items()}
    assert {name: len(set(members)) for name, members in names.items()} == {"val1": 9887, "val2": 9917}
    assert not set(names["val1"]) & set(names["val2"])
    few = [names["val1"][0], names["val1"][-1], names["val2"][0]]
    shown = {name: Shown(jpeg(seed=i), [("cat", BOX)]) for i, name in enumerate(few)}
    root = write_tree(tmp_path / "tree", "2013", Tree(("cat",), {"val": shown}))
    for name, text in texts.items():
        (root / "ILSVRC2013_devkit/data/det_lists" / f"{name}.txt").write_text(text)
    dataset, _, notes = read_ilsvrc(root, ReadOptions(on_error="skip"))
    assert [len(dataset.split(name)) for name in ("val1", "val2")] == [2, 1]
    assert any(f"(and {9887 + 9917 - 3 - 3} more like this)" in note for note in notes)
