"""YOLO's layouts, and every way they can be wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manifests import DatasetError, ReadOptions, read_yolo
from manifests.readers.yolo import label_file

YAML = "train: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"


def test_boxes_are_fractions_of_the_image(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"a": "1 0.5 0.5 0.25 0.4\n0 0.05 0.05 0.1 0.1\n\n", "b": None}, classes="cat\ndog\n")
    dataset, folder, notes = read_yolo(root)
    a, b = dataset.images
    np.testing.assert_allclose(a.boxes, [[15, 9, 25, 21], [0, 0, 4, 3]], atol=1e-5)
    assert (dataset.classes, a.labels.tolist()) == (("cat", "dog"), [1, 0])
    assert b.boxes.shape == (0, 4)
    assert (folder / a.file_name).is_file()
    assert notes[0] == "1 image has no label file and is taken to show nothing (such as images/b.jpg)"
    assert notes[1].startswith("the source has no splits: ")


def test_labels_without_an_image_and_images_without_labels_are_noted(make_yolo: Callable[..., Path]) -> None:
    box = "0 .5 .5 .5 .5"
    root = make_yolo({"train/a": box, "train/b": box, "train/c": None, "val/d": None, "val/e": box}, YAML)
    assert (
        "2 images have no label file and are taken to show nothing (such as images/train/c.jpg)" in read_yolo(root)[2]
    )
    (root / "images/train/b.jpg").unlink()
    (root / "labels/val/classes.txt").write_text("cat\ndog")
    (root / "labels/val/._e.txt").write_bytes(b"of macOS")
    assert "1 label file has no image (such as labels/train/b.txt)" in read_yolo(root)[2]
    (root / "images/val/e.jpg").rename(root / "images/val/f.jpg")
    assert "2 label files have no image (such as labels/train/b.txt)" in read_yolo(root)[2]


def test_only_labels_of_no_image_at_all_are_without_one(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"a": "0 .5 .5 .5 .5", "b": "0 .5 .5 .5 .5"}, "train: list.txt\nnames: [cat]")
    (root / "list.txt").write_text("images/a.jpg\n")
    left_out = [
        "1 picture that no annotation or list names is left out (such as {}/b.jpg)",
        "pictures: 2 seen, 1 taken, 1 left out",
    ]
    assert read_yolo(root)[2] == [line.format("images") for line in left_out]
    shutil.move(root / "images", root / "all")  # labels beside the images, and a list among them
    for file in [*(root / "labels").iterdir(), root / "list.txt"]:
        shutil.move(file, root / "all")
    (root / "data.yaml").write_text("train: all/list.txt\nnames: [cat]")
    (root / "all/list.txt").write_text("all/a.jpg\n")
    (root / "all/README.txt").write_text("by hand")
    assert read_yolo(root)[2] == [line.format("all") for line in left_out]


@pytest.mark.parametrize("names", ["{0: cat, 1: dog}", "[cat, dog]"])
def test_data_yaml(make_yolo: Callable[..., Path], names: str) -> None:
    root = make_yolo(
        {"train/a": "0 .5 .5 .5 .5", "val/b": "1 .5 .5 .5 .5"},
        YAML.split("names", maxsplit=1)[0] + f"names: {names}\nnc: 2",
    )
    dataset, _, _ = read_yolo(root)
    assert [(i.file_name, i.split) for i in dataset.images] == [
        ("images/train/a.jpg", "train"),
        ("images/val/b.jpg", "val"),
    ]
    assert dataset.classes == ("cat", "dog")
    assert read_yolo(root / "data.yaml")[0] == dataset


def test_split_folders_without_a_description(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"train/a": "0 .5 .5 .5 .5", "test/b": "0 .5 .5 .5 .5"}, classes="cat")
    assert read_yolo(root)[0].splits == ("test", "train")


def test_exporters_paths_and_list_files(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"a": "0 .5 .5 .5 .5", "b": "0 .5 .5 .5 .5"})
    (root / "train").mkdir()
    shutil.move(root / "images", root / "train" / "images")
    shutil.move(root / "labels", root / "train" / "labels")
    (root / "data.yaml").write_text("train: ../train/images\nnames: [cat]")
    assert [len(i.boxes) for i in read_yolo(root)[0].images] == [1, 1]
    (root / "data.yaml").write_text("path: ..\ntrain: list.txt\nnames: [cat]")
    (root / "list.txt").write_text(f"./train/images/a.jpg\n{root.resolve()}/train/images/b.jpg\n")
    dataset, _, notes = read_yolo(root)
    assert [i.file_name for i in dataset.images] == ["train/images/a.jpg", "train/images/b.jpg"]
    assert "data.yaml: path '..' is not a folder below" in notes[0]


def test_polygons(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"a": "0 0.25 0.5 0.5 0.9 0.75 0.1"}, classes="cat")
    image = read_yolo(root)[0].images[0]
    np.testing.assert_allclose(image.boxes, [[10, 3, 30, 27]], atol=1e-5)
    np.testing.assert_allclose(image.details[0]["segmentation"], [[10, 15, 20, 27, 30, 3]])


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.jpg", "labels/a.txt"),
        ("images/train/a.b.png", "labels/train/a.b.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
        ("all/a.jpg", "all/a.txt"),
        ("Train/IMAGES/a.jpg", "Train/labels/a.txt"),
    ],
)
def test_label_file(image: str, label: str) -> None:
    assert label_file(image) == label


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("0 .5 .5 .5", "it has 4 numbers"),
        ("0 .5 .5 .5 .5 .9", "it has 6 numbers"),
        ("2 .5 .5 .5 .5", r"class number '2' is not one of 0\.\.1"),
        ("-1 .5 .5 .5 .5", "class number '-1'"),
        ("cat .5 .5 .5 .5", "class number 'cat'"),
        ("0 .5 .5 x .5", "is not all numbers"),
        ("0 .5 .5 nan .5", "is not finite"),
        ("0 .5 .5 0 .5", "is empty or inverted"),
        ("0 .5 .5 -.5 .5", "is empty or inverted"),
        ("0 1 .5 .5 .5", "leaves the 40 x 30 image by 10 px"),
        ("0 2 .5 .5 .5", "leaves the 40 x 30 image by 50 px"),
        ("0 inf .5 .5 .5", "is not finite"),
        ("0 20 15 5 6", "YOLO's are fractions of the image's width and height; if these are pixels, divide them"),
        ("0 0 0 20 0 20 15", "YOLO's are fractions of the image's width and height"),
    ],
)
def test_bad_lines(make_yolo: Callable[..., Path], line: str, match: str) -> None:
    root = make_yolo({"a": f"0 .5 .5 .5 .5\n{line}\n"}, classes="cat\ndog")
    with pytest.raises(DatasetError, match=rf"^labels/a\.txt: line 2: .*{match}.*; "):
        read_yolo(root)
    assert len(read_yolo(root, ReadOptions(on_error="skip"))[0].images[0].boxes) == 1


@pytest.mark.parametrize(
    "line", ["2 .5 .5 .5 .5", "0 .5 .5 .5", "a cat", "\0\1\ufffd\x02", "0 .5 .5 0 .5", "0 3 3 .1 .1"]
)
def test_skip_leaves_out_an_image_that_lost_all_of_its_objects(make_yolo: Callable[..., Path], line: str) -> None:
    root = make_yolo({"a": line, "b": f"{line}\n0 .5 .5 .5 .5", "c": "", "d": f"{line}\n{line}"}, classes="cat\ndog")
    dataset, _, notes = read_yolo(root, ReadOptions(on_error="skip"))
    assert [(i.name, len(i.boxes)) for i in dataset.images] == [("b", 1), ("c", 0)]
    assert "left out: labels/a.txt: the whole image images/a.jpg: its only object cannot be used" in notes
    assert "kept: labels/b.txt: the image images/b.jpg with 1 of its 2 objects" in notes
    assert "left out: labels/d.txt: the whole image images/d.jpg: none of its 2 objects can be used" in notes


@pytest.mark.parametrize("line", ["2 .5 .5 .5 .5", "0 20 15 5 6", "0 .5 .5"])
def test_one_cause_in_many_files_is_summed_up_after_three(make_yolo: Callable[..., Path], line: str) -> None:
    good, described = "0 .5 .5 .5 .5", "train: images\nnames: [cat, dog]"
    labels = dict.fromkeys("abcdef", f"{line}\n{line}") | {"y": f"{good}\n7 1 1 1 1", "z": good}
    root = make_yolo(labels, described)
    with pytest.raises(DatasetError) as caught:
        read_yolo(root)
    problems = caught.value.problems
    assert [problem.split(": ")[0:2] for problem in problems[:3]] == [
        ["labels/a.txt", "line 1"],
        ["labels/a.txt", "line 2"],
        ["labels/b.txt", "line 1"],
    ]
    assert problems[2].endswith("; correct or remove it (and 9 more like this)")
    assert [problem.split(": ")[0] for problem in problems[3:]] == ["labels/y.txt"]
    _, _, notes = read_yolo(root, ReadOptions(on_error="skip"))
    assert [note for note in notes if note.startswith("left out: ")][:4] == [f"left out: {line}" for line in problems]
    whole = "the whole image images/c.jpg: none of its 2 objects can be used (and 3 more like this)"
    assert f"left out: labels/c.txt: {whole}" in notes


def test_a_byte_order_mark_is_no_part_of_the_first_label(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"a": "\ufeff0 .5 .5 .5 .5"}, classes="cat")
    assert read_yolo(root)[0].images[0].labels.tolist() == [0]


def test_skip_leaves_out_an_image_whose_label_file_cannot_be_read(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"a": None, "b": "0 .5 .5 .5 .5"}, classes="cat")
    (root / "labels" / "a.txt").mkdir()
    dataset, _, notes = read_yolo(root, ReadOptions(on_error="skip"))
    assert [i.name for i in dataset.images] == ["b"]
    assert "left out: labels/a.txt: the whole image images/a.jpg: its label file cannot be read" in notes


@pytest.mark.parametrize(
    ("yaml", "match"),
    [
        ("{", "not well-formed YAML"),
        ("- a", "is not a mapping"),
        ("names: [a]", "names no train, val or test images"),
        ("train: images\n", "names is not a list of class names"),
        ("train: images\nnames: [a, a]", "a class twice"),
        ("train: images\nnames: {0: a, 2: b}", "does not number its classes"),
        ("train: images\nnames:\n  0: a\n  1: b\n  1: c", r"^data\.yaml: line 5: has the key '1' twice; name it once$"),
        ("train: images\nnames: [a]\nnc: 2", "nc is 2 but there are 1 names"),
        ("train: 3\nnames: [a]", "train: there is no '3' below"),
        ("train: {a: b}\nnames: [a]", "train is not a path"),
        ("train: nowhere\nnames: [a]", "train: there is no 'nowhere' below"),
        ("train: /etc\nnames: [a]", "train: there is no '/etc' below"),
        ("train: images\nnames: !!python/object/apply:os.system ['true']", "not well-formed YAML"),
    ],
)
def test_bad_description(make_yolo: Callable[..., Path], yaml: str, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        read_yolo(make_yolo({"a": "0 .5 .5 .5 .5"}, yaml))


@pytest.mark.parametrize("end", ["", "\n", "\n\n \n", "\r\n\r\n"])
def test_blank_lines_after_the_last_class_are_nothing(make_yolo: Callable[..., Path], end: str) -> None:
    root = make_yolo({"a": "1 .5 .5 .5 .5"}, classes=f"dog\ncat{end}")
    assert read_yolo(root)[0].classes == ("dog", "cat")


@pytest.mark.parametrize("file", ["classes.txt", "labels/classes.txt", "obj.names", "our.names", "described.names"])
@pytest.mark.parametrize(("text", "line"), [("dog\n\ncat\n", 2), ("\ndog\ncat", 1), ("dog\r\ncat\r\n \t\r\nbird", 3)])
def test_a_blank_line_before_a_class_is_refused(
    make_yolo: Callable[..., Path], file: str, text: str, line: int
) -> None:
    root = make_yolo({"a": "1 .5 .5 .5 .5"})
    (root / file).write_bytes(text.encode())
    path = root
    if file == "described.names":
        path = root / "obj.data"
        path.write_text("train = images\nnames = described.names")
    with pytest.raises(DatasetError, match=rf"^{Path(file).name}: line {line} is blank, .*; remove the line, or name"):
        read_yolo(path)


@pytest.mark.parametrize("folder", ["labels/test", "labels/train/deep", "labels/cam 1", "test/labels"])
def test_labels_where_no_picture_lies_at_all_are_counted(make_yolo: Callable[..., Path], folder: str) -> None:
    root = make_yolo({"train/a": "0 .5 .5 .5 .5"}, classes="cat")
    (root / folder).mkdir(parents=True)
    for i in range(4):
        (root / folder / f"{i}.txt").write_text("0 .5 .5 .5 .5")
    (root / "docs").mkdir()
    (root / "docs/notes.txt").write_text("no label")
    assert f"4 label files have no image (such as {folder}/0.txt)" in read_yolo(root)[2]


@pytest.mark.parametrize(("own", "other"), [("train", "test"), ("obj_train_data", "obj_Test_data")])
def test_labels_beside_no_picture_are_counted(make_yolo: Callable[..., Path], own: str, other: str) -> None:
    root = make_yolo({"a": "0 .5 .5 .5 .5"}, f"train: {own}\nnames: [cat]")
    (root / "images").rename(root / own)
    (root / "labels/a.txt").rename(root / own / "a.txt")
    for folder in (other, "docs"):
        (root / folder).mkdir()
        (root / folder / "b.txt").write_text("0 .5 .5 .5 .5")
    assert f"1 label file has no image (such as {other}/b.txt)" in read_yolo(root)[2]


def test_list_files_cannot_leave_the_folder(make_yolo: Callable[..., Path]) -> None:
    root = make_yolo({"a": "0 .5 .5 .5 .5"}, "train: list.txt\nnames: [cat]")
    (root / "list.txt").write_text("images/a.jpg\n../../etc/passwd\n/etc/passwd\n")
    with pytest.raises(DatasetError) as caught:
        read_yolo(root)
    assert [line.split(": '")[0] for line in caught.value.problems] == ["list.txt: line 2", "list.txt: line 3"]


def test_no_class_names_or_images(make_yolo: Callable[..., Path], tmp_path: Path) -> None:
    root = make_yolo({"a": "0 .5 .5 .5 .5"})
    with pytest.raises(DatasetError, match=r"no data\.yaml and no classes\.txt; .* by --classes"):
        read_yolo(root)
    assert read_yolo(root, ReadOptions(classes=("cat",)))[0].classes == ("cat",)
    (tmp_path / "classes.txt").write_text("cat")
    with pytest.raises(DatasetError, match=r"no data\.yaml and no images/"):
        read_yolo(tmp_path)


@pytest.mark.parametrize("name", ["x" * 3000 + "/a.jpg", "\ud800.jpg"])
def test_names_that_no_file_can_have(make_yolo: Callable[..., Path], name: str) -> None:
    described = json.dumps({"train": "list.txt", "val": name, "path": name, "names": ["cat"]})
    root = make_yolo({"a": ""}, described)
    (root / "list.txt").write_bytes(f"images/{name}\n".encode("utf-8", "replace"))
    with pytest.raises(DatasetError):
        read_yolo(root)


def test_files_that_link_out_of_the_dataset_are_refused(make_yolo: Callable[..., Path], tmp_path: Path) -> None:
    root = make_yolo({"a": "0 0.5 0.5 0.4 0.4"}, "train: images\nnames: [cat]\n")
    for name in ("labels/a.txt", "data.yaml"):
        (root / name).rename(tmp_path / "secret")
        (root / name).symlink_to(tmp_path / "secret")
        with pytest.raises(DatasetError, match=f"{name}: is a link that leaves"):
            read_yolo(root)
        (root / name).unlink()
        (tmp_path / "secret").rename(root / name)
