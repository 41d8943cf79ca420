"""Datasets as people's tools lay them out: what each form gives, in every reader."""

import json
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from dataset_files import jpeg, put, voc_object, voc_xml

from manifests import Dataset, DatasetError, ReadOptions, import_dataset, read_coco, read_folders, read_voc, read_yolo
from manifests.manifest_json import dataset_to_json

CUP = voc_xml(voc_object("cup", (1, 1, 10, 10)))
LINE = "0 .5 .5 .5 .5\n"
NFC, NFD = "étude", unicodedata.normalize("NFD", "étude")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def names(dataset: Dataset) -> list[str]:
    return [image.file_name for image in dataset.images]


def splits(dataset: Dataset) -> dict[str, str]:
    return {image.file_name: image.split for image in dataset.images}


def devkit(root: Path, ids: str = "abc", lists: Mapping[str, str | bytes] | None = None, suffix: str = "jpg") -> Path:
    put(root, {f"JPEGImages/{i}.{suffix}": jpeg(seed=n) for n, i in enumerate(ids)})
    put(root, {f"Annotations/{i}.xml": CUP for i in ids})
    return put(root, {f"ImageSets/Main/{name}": text for name, text in (lists or {}).items()})


# --- VOC ---

LISTS: dict[str, str | bytes] = {
    "plain": "a\nb\n",
    "extension": "a.jpg\nb.JPG\n",
    "another extension": "a.png\nb.xml\n",
    "quotes": "\"a\"\n'b'\n",
    "spaces around": "  a \n\tb\t\n",
    "byte-order mark": "\ufeffa\nb\n",
    "utf-16": "a\nb\n".encode("utf-16"),
    "windows": "a\r\nb\r\n",
    "old mac": "a\rb",
    "folders": "JPEGImages/a.jpg\n/home/u/VOC/JPEGImages/b.jpg\n",
    "backslashes": "C:\\data\\JPEGImages\\a.jpg\n.\\b.jpg\n",
    "dot": "./a\n././b.jpg\n",
    "case": "A\nB.Jpg\n",
}


@pytest.mark.parametrize("form", LISTS)
def test_voc_lists(tmp_path: Path, form: str) -> None:
    dataset, _, _ = read_voc(devkit(tmp_path, lists={"train.txt": LISTS[form], "TEST.TXT": "c"}))
    assert splits(dataset) == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "TEST"}


def test_voc_names_with_spaces_and_accents(tmp_path: Path) -> None:
    put(tmp_path, {f"JPEGImages/{i}.jpg": jpeg() for i in ("my photo 1", "my  photo 2", NFD)})
    put(tmp_path, {f"Annotations/{i}.xml": CUP for i in ("my photo 1", "my photo 2", NFC)})
    put(tmp_path, {"ImageSets/Main/train.txt": f'my photo 1\n"my photo 2"\n{NFC}\n'})
    assert sorted(splits(read_voc(tmp_path)[0]).values()) == ["train"] * 3


def test_voc_lists_of_single_classes_alone(tmp_path: Path) -> None:
    lists = {"cup_train.txt": "a.jpg 1\nb.jpg -1\n", "my_cup_train.txt": "a 0\n", "cup_val.txt": "c.jpg\t1\n"}
    dataset, _, notes = read_voc(devkit(tmp_path, lists=lists))
    assert splits(dataset) == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "val"}
    assert any(note.startswith("ImageSets/Main has lists of single classes only") for note in notes)


def test_voc_lists_that_are_not_read_are_named(tmp_path: Path) -> None:
    lists = {"train.txt": "a", "cup_test.txt": "b 1", "../all.txt": "a"}
    notes = read_voc(devkit(tmp_path, lists=lists))[2]
    assert any(note.startswith("ImageSets/Main/cup_test.txt: is the list of one class") for note in notes)
    assert any(note.startswith("ImageSets/all.txt: is not read") for note in notes)


# Folders of a dataset of three pictures, and where its lists of train and test are.
LIST_PLACES: dict[str, tuple[str, str, str]] = {
    "VOC": ("JPEGImages", "Annotations", "ImageSets/Main/"),
    "lower case": ("jpegimages", "annotations", "imagesets/main/"),
    "some in another case": ("JPEGImages", "ANNOTATIONS", "Imagesets/MAIN/"),
    "a devkit in another case": ("vocdevkit/voc2007/JPEGimages", "vocdevkit/voc2007/annotations", "vocdevkit/voc2007/"),
    "beside folders of other names": ("images", "annotations", "imageSets/Main/"),
    "no Main": ("JPEGImages", "Annotations", "ImageSets/"),
    "no Main, beside folders of other names": ("images", "Annotations", "imagesets/"),
    "the devkit's folder": ("JPEGImages", "Annotations", ""),
    "the folder above the devkit": ("VOC2007/JPEGImages", "VOC2007/Annotations", ""),
    "the dataset's folder": ("images", "xml", ""),
}


def three(root: Path, images: str, annotations: str) -> Path:
    put(root, {f"{images}/{i}.jpg": jpeg(seed=n) for n, i in enumerate("abc")})
    return put(root, {f"{annotations}/{i}.xml": CUP for i in "abc"})


def in_lists(root: Path) -> dict[str, str]:
    dataset, _, notes = read_voc(root)
    assert not any("drawn by seed" in note or "not read" in note for note in notes)
    return {PurePosixPath(name).name: split for name, split in splits(dataset).items()}


@pytest.mark.parametrize("form", LIST_PLACES)
def test_voc_lists_of_every_place_are_read(tmp_path: Path, form: str) -> None:
    images, annotations, at = LIST_PLACES[form]
    root = three(tmp_path, images, annotations)
    put(root, {f"{at}train.txt": "a\nb\n", f"{at}test.txt": "c\n"})
    assert in_lists(root) == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "test"}


@pytest.mark.parametrize("at", ["ImageSets/Main/", "imagesets/main/", "ImageSets/", ""])
def test_voc_lists_beside_folders_that_are_named_are_read(tmp_path: Path, at: str) -> None:
    root = put(three(tmp_path, "p", "q"), {f"{at}train.txt": "a\nb\n", f"{at}test.txt": "c\n"})
    options = ReadOptions(images=str(root / "p"), annotations=str(root / "q"))
    dataset, _, notes = read_voc(None, options)
    assert splits(dataset) == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "test"}
    assert notes == [f"the splits are those of {at}test.txt, {at}train.txt"]
    put(root, {f"{at}train.txt": "x\ny\na\n", f"{at}test.txt": "z"})  # of another dataset
    dataset, _, notes = read_voc(None, options)
    shown = f"{at}test.txt: is not read (2 such lists: {at}test.txt, {at}train.txt)"
    assert any(note.startswith(shown) for note in notes)
    assert any("drawn by seed" in note for note in notes)
    assert len(dataset.images) == 3


@pytest.mark.parametrize(
    ("lists", "unread"),
    [
        ({"train.txt": "step 1 loss 2\nstep 2 loss 1\n"}, ["train.txt"]),
        ({"train.txt": b"\xff\xfe\xfa"}, ["train.txt"]),
        ({"cup_train.txt": "a 1\nb -1\n"}, ["cup_train.txt"]),
        ({"2007_test.txt": "a\nb\n", "test.txt": "nothing"}, ["2007_test.txt", "test.txt"]),
        ({"ImageSets/mine.txt": "a\nb\n"}, ["ImageSets/mine.txt"]),
        ({"ImageSets/Segmentation/train.txt": "a\nb\n"}, ["ImageSets/Segmentation/train.txt"]),
        ({"lists/train.txt": "a\nb\n"}, ["lists/train.txt"]),
        ({"notes/train.txt": "of another kind\n", "README.txt": "a", "latest.txt": "a"}, []),
        ({".lists/train.txt": "a", ".train.txt": "a", "._train.txt": "a"}, []),
    ],
)
def test_voc_lists_that_are_not_plain_are_noted(
    tmp_path: Path, lists: dict[str, str | bytes], unread: list[str]
) -> None:
    dataset, _, notes = read_voc(put(devkit(tmp_path), lists))
    more = f": {', '.join(unread)}" if len(unread) > 1 else ""
    lines = [f"{n}: is not read ({len(unread)} such lists{more}); VOC's lists are in ImageSets/Main" for n in unread]
    assert [note for note in notes if "not read" in note] == lines[:1]
    assert any("drawn by seed" in note for note in notes)
    assert len(dataset.images) == 3


def test_voc_lists_of_its_own_place_go_before_others(tmp_path: Path) -> None:
    root = devkit(tmp_path, lists={"train.txt": "a\nb", "test.txt": "c"})
    put(root, {"train.txt": "c", "ImageSets/Segmentation/train.txt": "c", "ImageSets/Layout/val.txt": "c"})
    dataset, _, notes = read_voc(root)
    assert splits(dataset) == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "test"}
    assert notes == ["train.txt: is not read (1 such lists); VOC's lists are in ImageSets/Main"]


def test_voc_folders_of_splits_go_before_lists_at_the_top(tmp_path: Path) -> None:
    put(tmp_path, {"train/a.jpg": jpeg(seed=1), "train/a.xml": CUP, "test/b.jpg": jpeg(seed=2), "test/b.xml": CUP})
    dataset, _, notes = read_voc(put(tmp_path, {"train.txt": "b\n"}))
    assert splits(dataset) == {"train/a.jpg": "train", "test/b.jpg": "test"}
    assert any(note.startswith("train.txt: is not read") for note in notes)


def test_voc_pictures_outside_a_devkit_are_counted(tmp_path: Path) -> None:
    root = devkit(tmp_path / "VOCdevkit/VOC2007", lists={"train.txt": "a\nb", "test.txt": "c"})
    assert read_voc(tmp_path)[2] == []
    masks = ("SegmentationClass/a.png", "SegmentationObject/a.png")
    put(root, dict.fromkeys((*masks, ".old/9.jpg", "more/.9.jpg", "__MACOSX/9.jpg"), jpeg(seed=9)))
    assert read_voc(root)[2] == []
    put(root, {"more/9.jpg": jpeg(seed=9), "more/9.xml": CUP})
    assert read_voc(root)[2] == [
        "1 picture is outside JPEGImages/ and left out (such as more/9.jpg); move there what is wanted"
    ]
    put(tmp_path, {"8.heic": b"", "VOCdevkit/VOC2007/Annotations/a.jpg": jpeg()})
    assert read_voc(tmp_path)[2] == [
        "3 pictures are outside JPEGImages/ and left out (such as 8.heic); move there what is wanted"
    ]


def test_voc_pictures_outside_folders_that_are_named_are_counted(tmp_path: Path) -> None:
    root = put(three(tmp_path, "p", "q"), {"ImageSets/Main/train.txt": "a\nb\nc", "q/x.jpg": jpeg(seed=9)})
    options = ReadOptions(images=str(root / "p"), annotations=str(root / "q"))
    line = "is outside p/ and left out (such as {}x.jpg); move there what is wanted"
    assert f"1 picture {line.format('')}" in read_voc(None, options)[2]
    assert f"1 picture {line.format('q/')}" in read_voc(root, options)[2]


def test_voc_a_line_that_may_be_two_images_is_a_problem(tmp_path: Path) -> None:
    ids = ("cam1/f", "cam2/f")
    with pytest.raises(DatasetError, match=r"train\.txt line 1: 'f' is not one image id"):
        read_voc(devkit(tmp_path, ids, {"train.txt": "f"}))  # type: ignore[arg-type]


VOC_LAYOUTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "sub-folders": ({"JPEGImages/x/a.jpg": "Annotations/x/a.xml", "JPEGImages/y/a.jpg": "Annotations/y/a.xml"}, []),
    "capitals": ({"JPEGImages/a.JPG": "Annotations/a.XML"}, []),
    "case": ({"JPEGImages/IMG_a.JPG": "Annotations/img_a.xml"}, []),
    "unicode": ({f"JPEGImages/{NFC}.jpg": f"Annotations/{NFD}.xml"}, []),
    "jfif, jpe": ({"JPEGImages/a.jfif": "Annotations/a.xml", "JPEGImages/b.jpe": "Annotations/b.xml"}, []),
    "whole name": ({"JPEGImages/a.jpg": "Annotations/a.jpg.xml"}, []),
    "labelImg": ({"a.jpg": "a.xml", "b.jpg": "b.xml"}, []),
    "labelImg, folders": ({"x/a.jpg": "x/a.xml", "y/a.jpg": "y/a.xml"}, []),
    "Roboflow": ({"train/a.jpg": "train/a.xml", "valid/b.jpg": "valid/b.xml"}, ["train", "valid"]),
    "Kaggle": ({"images/a.png": "annotations/a.xml"}, []),
    "Oxford pets": ({"images/a.jpg": "annotations/xmls/a.xml"}, []),
    "split outside": (
        {"train/images/a.jpg": "train/annotations/a.xml", "test/images/a.jpg": "test/annotations/a.xml"},
        ["test", "train"],
    ),
    "split inside": (
        {"images/train/a.jpg": "annotations/train/a.xml", "images/test/a.jpg": "annotations/test/a.xml"},
        ["test", "train"],
    ),
}


@pytest.mark.parametrize("layout", VOC_LAYOUTS)
def test_voc_layouts(tmp_path: Path, layout: str) -> None:
    pairs, expected = VOC_LAYOUTS[layout]
    put(tmp_path, {name: jpeg(seed=n) for n, name in enumerate(pairs)} | dict.fromkeys(pairs.values(), CUP))
    dataset, root, _ = read_voc(tmp_path)
    assert sorted((root / name).relative_to(tmp_path).as_posix() for name in names(dataset)) == sorted(pairs)
    assert all(len(image.boxes) == 1 for image in dataset.images)
    if expected:
        assert list(dataset.splits) == expected


@pytest.mark.parametrize("stated", ["{}", "C:\\Users\\me\\{}", "/home/u/{}", "{}.png"])
def test_voc_folders_of_any_names_and_annotations_of_any_names(tmp_path: Path, stated: str) -> None:
    put(tmp_path / "p", {f"{i}.jpg": jpeg(seed=n) for n, i in enumerate("ab")})
    xml = {f"x_{i}.xml": CUP.replace("x.jpg", stated.format(f"{i}.jpg").replace(".jpg.png", ".png")) for i in "ab"}
    put(tmp_path / "q", xml)
    options = ReadOptions(images=str(tmp_path / "p"), annotations=str(tmp_path / "q"))
    dataset, root, notes = read_voc(None, options)
    assert (names(dataset), root) == (["a.jpg", "b.jpg"], tmp_path / "p")
    assert any(note.startswith("2 annotations have no picture of their name") for note in notes)
    done = import_dataset("voc", tmp_path / "p", "n", options, tmp_path / "artifacts")
    assert ReadOptions.from_json(done.source.options) == options
    put(tmp_path / "q", {"x_c.xml": xml["x_a.xml"]})
    with pytest.raises(DatasetError, match=r"x_c\.xml: names the picture a\.jpg, as x_a\.xml does"):
        read_voc(None, options)


@pytest.mark.parametrize(
    ("path", "options", "match"),
    [
        (None, {}, "PATH is missing"),
        (None, {"images": "."}, "--annotations: is missing"),
        (None, {"images": ".", "annotations": "nowhere"}, r"no such folder; correct --annotations"),
    ],
)
def test_voc_folders_that_are_missing(path: None, options: dict[str, Any], match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        read_voc(path, ReadOptions(**options))


@pytest.mark.parametrize("beside", ["a.xml", "a.txt", "a.json", "Thumbs.db", ".DS_Store", "._a.jpg", "._b.xml"])
def test_voc_files_beside_pictures_are_none(tmp_path: Path, beside: str) -> None:
    root = devkit(tmp_path)
    put(root, {f"JPEGImages/{beside}": "x", f"Annotations/{'a.txt' if beside == 'a.xml' else beside}": "x"})
    assert names(read_voc(root)[0]) == ["a.jpg", "b.jpg", "c.jpg"]


def test_voc_annotations_set_aside_are_noted(tmp_path: Path) -> None:
    notes = read_voc(put(devkit(tmp_path), {"Annotations/old/a.xml": CUP}))[2]
    assert "1 annotations in sub-folders have no image and are left out (such as Annotations/old/a.xml)" in notes


OBJECT = voc_object("cup", (1, 1, 10, 10))
XML_FORMS = {
    "wrapper": f"<annotation><objects>{OBJECT}</objects></annotation>",
    "namespace": f'<annotation xmlns="http://x">{OBJECT}</annotation>',
    "prefix": f'<v:annotation xmlns:v="http://x">{OBJECT.replace("<", "<v:").replace("<v:/", "</v:")}</v:annotation>',
    "capital": CUP.replace("object", "Object").replace("bndbox", "BndBox").replace("name>", "Name>"),
    "upper case": f"<ANNOTATION>{OBJECT.upper().replace('CUP', 'cup')}</ANNOTATION>",
    "another root": f"<doc><outputs>{OBJECT}</outputs></doc>",
    "blank first line": "\n  " + CUP,
    "flags": f"<annotation>{voc_object('cup', (1, 1, 9, 9), '<difficult>Unspecified</difficult>')}</annotation>",
    "negative size": CUP.replace("<width>40", "<width>-1"),
}


@pytest.mark.parametrize("form", XML_FORMS)
def test_voc_xml_forms(tmp_path: Path, form: str) -> None:
    dataset, _, _ = read_voc(put(devkit(tmp_path, "a"), {"Annotations/a.xml": XML_FORMS[form]}))
    assert dataset.classes == ("cup",)
    assert [len(image.boxes) for image in dataset.images] == [1]


DOG = voc_object("dog", (5, 5, 20, 20))


@pytest.mark.parametrize(
    "objects",
    [
        f"{OBJECT}{DOG}",
        f"{OBJECT}<objects>{DOG}</objects>",
        f"<objects>{OBJECT}</objects>{DOG}",
        f"<objects>{OBJECT}</objects><objects>{DOG}</objects>",
        f"{OBJECT}<outputs><objects>{DOG}</objects></outputs>",
        f"{OBJECT}{DOG[:-9]}<part><object><name>leg</name></object></part></object>",
        f"{OBJECT}<source><object>none</object></source>{DOG}",
    ],
)
def test_voc_objects_of_the_root_and_of_wrappers_are_all_taken(tmp_path: Path, objects: str) -> None:
    (image,) = read_voc(put(devkit(tmp_path, "a"), {"Annotations/a.xml": voc_xml(objects)}))[0].images
    assert image.boxes.tolist() == [[0, 0, 10, 10], [4, 4, 20, 20]]
    assert image.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("xml", "match"),
    [
        ("<annotation><robndbox><cx>1</cx></robndbox></annotation>", "it has <robndbox> but no <object>"),
        ("<annotations><image><box xtl='1'/></image></annotations>", "it has <box> but no <object>"),
        ("<html><body/></html>", "its root is <html>"),
        ("<annotation><object><name>cup</name><polygon/></object></annotation>", "object 1: it has no bndbox"),
        ("<a>" * 5000 + "</a>" * 5000, "its root is <a>"),
    ],
)
def test_voc_xml_of_another_form_is_not_an_empty_one(tmp_path: Path, xml: str, match: str) -> None:
    with pytest.raises(DatasetError, match=rf"Annotations/a\.xml: {match}"):
        read_voc(put(devkit(tmp_path), {"Annotations/a.xml": xml}))


# --- YOLO ---


YOLO_LAYOUTS: dict[str, dict[str, str]] = {
    "images and labels": {"images/a.jpg": "labels/a.txt", "classes.txt": "cup"},
    "splits": {"images/train/a.jpg": "labels/train/a.txt", "classes.txt": "cup"},
    "splits outside": {"train/images/a.jpg": "train/labels/a.txt", "classes.txt": "cup"},
    "Roboflow": {"train/images/a.jpg": "train/labels/a.txt", "data.yaml": "train: ../train/images\nnames: [cup]"},
    "labelImg": {"a.jpg": "a.txt", "classes.txt": "cup"},
    "labelImg, splits": {"train/a.jpg": "train/a.txt", "classes.txt": "cup"},
    "CVAT 1.1": {
        "obj_train_data/a.jpg": "obj_train_data/a.txt",
        "obj.data": "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        "obj.names": "cup\n",
        "train.txt": "data/obj_train_data/a.jpg\n",
    },
    "lists alone": {
        "obj_train_data/a.jpg": "obj_train_data/a.txt",
        "obj.names": "cup",
        "Train.txt": "data/obj_train_data/a.jpg",
    },
    "capitals": {"images/A.JPG": "labels/a.TXT", "Classes.txt": "cup"},
    "capitals of folders": {"Images/a.JPG": "Labels/a.txt", "classes.txt": "cup"},
    "capitals of one folder": {"images/a.jpg": "LABELS/a.txt", "LABELS/Classes.txt": "cup"},
    "capitals, splits": {"IMAGES/Train/a.jpg": "labels/train/a.txt", "classes.txt": "cup"},
    "capitals, splits outside": {"Train/Images/a.jpg": "Train/Labels/a.txt", "classes.txt": "cup"},
    "capitals, YAML": {"Images/Train/a.jpg": "Labels/Train/a.txt", "data.yaml": "train: images/train\nnames: [cup]"},
    "capitals, another .data": {"Images/a.jpg": "Labels/a.txt", "classes.txt": "cup", "x.data": "\0\1"},
    "comment in a list": {
        "images/a.jpg": "labels/a.txt",
        "images/b.jpg": "",
        "data.yaml": "train: list.txt\nnames: [cup]",
        "list.txt": "# comment\nimages/a.jpg\n#images/b.jpg\n # images/b.jpg\n#\n",
    },
    "file called like a comment": {
        "images/#1.jpg": "labels/#1.txt",
        "data.yaml": "train: list.txt\nnames: [cup]",
        "list.txt": "# all of them\n#1.JPG",
    },
    "folder called like a comment": {
        "#1/a.jpg": "#1/a.txt",
        "data.yaml": "train: list.txt\nnames: [cup]",
        "list.txt": "#1/a.jpg\n#2/a.png.jpg",
    },
    "unicode": {f"images/{NFC}.jpg": f"labels/{NFD}.txt", "classes.txt": "cup"},
    "Colab's path": {"images/a.jpg": "labels/a.txt", "data.yaml": "train: /content/set/images\nnames: [cup]"},
    "Windows' path": {
        "train/images/a.jpg": "train/labels/a.txt",
        "data.yaml": "train: D:\\set\\Train\\images\nnames: [cup]",
    },
    "YAML, capitals": {"images/a.jpg": "labels/a.txt", "Data.YAML": "train: images\nval: null\ntest:\nnames: [cup]"},
    "named split": {"2007/a.jpg": "2007/a.txt", "data.yaml": "train: 2007\nnames: [cup]"},
    "utf-16": {"images/a.jpg": "labels/a.txt", "classes.txt": "\ufeffcup"},
    "notebook": {
        "images/a.jpg": "labels/a.txt",
        "classes.txt": "cup",
        "images/.ipynb_checkpoints/a-checkpoint.jpg": "",
    },
    "macOS": {
        "images/a.jpg": "labels/a.txt",
        "data.yaml": "train: images\nnames: [cup]",
        "._data.yaml": "x",
        "images/._a.jpg": "",
    },
    "another .data": {"images/a.jpg": "labels/a.txt", "classes.txt": "cup", "x.data": "\0\1"},
}


@pytest.mark.parametrize("layout", YOLO_LAYOUTS)
def test_yolo_layouts(tmp_path: Path, layout: str) -> None:
    files = YOLO_LAYOUTS[layout]
    (picture, label), *rest = files.items()
    contents: dict[str, str | bytes] = {picture: jpeg(), label: LINE, **dict(rest)}
    put(tmp_path, contents)
    if layout == "utf-16":
        (tmp_path / "classes.txt").write_bytes("cup".encode("utf-16"))
    dataset, _, _ = read_yolo(tmp_path)
    assert (names(dataset), dataset.classes) == ([picture], ("cup",))
    assert len(dataset.images[0].boxes) == 1


@pytest.mark.parametrize("form", [form for form in LISTS if form not in ("folders", "backslashes")])
def test_yolo_lists(tmp_path: Path, form: str) -> None:
    listed = LISTS[form]
    text = listed if isinstance(listed, bytes) else listed.encode()
    put(tmp_path, {f"images/{i}.jpg": jpeg(seed=n) for n, i in enumerate("ab")})
    put(tmp_path, {"labels/a.txt": LINE, "data.yaml": "train: list.txt\nnames: [cup]", "list.txt": text})
    assert names(read_yolo(tmp_path)[0]) == ["images/a.jpg", "images/b.jpg"]


@pytest.mark.parametrize(
    "line",
    ["images/my a.jpg", '"images/my a.jpg"', "images\\my a.jpg", "/x/y/images/MY A.jpg", "my a", "data/my a.jpg"],
)
def test_yolo_list_lines(tmp_path: Path, line: str) -> None:
    put(tmp_path, {"images/my a.jpg": jpeg(), "labels/my a.txt": LINE})
    put(tmp_path, {"data.yaml": "train: list.txt\nnames: [cup]", "list.txt": line})
    assert names(read_yolo(tmp_path)[0]) == ["images/my a.jpg"]


def test_yolo_pictures_beside_folders_are_taken_or_told(tmp_path: Path) -> None:
    put(
        tmp_path, {f"images/{i}.jpg": jpeg(seed=n) for n, i in enumerate("abc")} | {"images/unsure/d.jpg": jpeg(seed=9)}
    )
    put(tmp_path, {"labels/a.txt": LINE, "classes.txt": "cup"})
    dataset, _, notes = read_yolo(tmp_path)
    assert len(dataset.images) == 4
    assert any(note.startswith("images/ holds 3 pictures beside folders") for note in notes)
    put(tmp_path, {"labels/train/d.txt": LINE})
    (tmp_path / "images/unsure").rename(tmp_path / "images/train")
    dataset, _, notes = read_yolo(tmp_path)
    assert names(dataset) == ["images/train/d.jpg"]
    assert "pictures: 4 seen, 1 taken, 3 left out" in notes


def test_yolo_lists_beside_images_are_named_where_they_are_not_read(tmp_path: Path) -> None:
    put(tmp_path, {"images/a.jpg": jpeg(), "labels/a.txt": LINE, "classes.txt": "cup", "train.txt": "images/a.jpg"})
    assert "train.txt: is not read, as there is an images/; a data.yaml can name it" in read_yolo(tmp_path)[2]


YAML_NAMES = {
    "[yes, no]": ("yes", "no"),
    "[on, off, yes]": ("on", "off", "yes"),
    "[007, 1_5, 12:30]": ("007", "1_5", "12:30"),
    "[0.5, 1.0, 1e3]": ("0.5", "1.0", "1e3"),
    "[null, ~, 2024-01-02]": ("null", "~", "2024-01-02"),
    "{0: mask, 1: no}": ("mask", "no"),
    "{'1': helmet, '0': mask}": ("mask", "helmet"),
    "\n- 'hot  dog'\n- \"a: b\"": ("hot  dog", "a: b"),
}


@pytest.mark.parametrize("written", YAML_NAMES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_yolo_class_names_are_as_written(tmp_path: Path, written: str, encoding: str) -> None:
    classes = YAML_NAMES[written]
    put(tmp_path, {"images/a.jpg": jpeg(), "labels/a.txt": LINE})
    put(tmp_path, {"data.yaml": f"train: images\nnc: {len(classes)}\nnames: {written}".encode(encoding)})
    assert read_yolo(tmp_path)[0].classes == classes


@pytest.mark.parametrize("names_text", ["[a, '']", "{0: a, 1: ' '}", "{0: a, 00: b}", "cup", "[[a]]"])
def test_yolo_class_names_that_are_none(tmp_path: Path, names_text: str) -> None:
    put(tmp_path, {"images/a.jpg": jpeg(), "data.yaml": f"train: images\nnames: {names_text}"})
    with pytest.raises(DatasetError, match=r"data\.yaml: names "):
        read_yolo(tmp_path)


@pytest.mark.parametrize("encoding", ["cp950", "latin-1", "cp1252"])
def test_yolo_classes_in_no_unicode_are_refused(tmp_path: Path, encoding: str) -> None:
    put(tmp_path, {"images/a.jpg": jpeg(), "classes.txt": ("名" if encoding == "cp950" else "café").encode(encoding)})
    with pytest.raises(DatasetError, match=r"^classes\.txt: is not UTF-8 text"):
        read_yolo(tmp_path)


@pytest.mark.parametrize("number", ["0", "0.0", "0.000000e+00", "00"])
def test_yolo_class_numbers(tmp_path: Path, number: str) -> None:
    put(tmp_path, {"images/a.jpg": jpeg(), "labels/a.txt": f"{number} 5e-1 .5 0.5 0.5", "classes.txt": "cup"})
    assert len(read_yolo(tmp_path)[0].images[0].boxes) == 1


def test_yolo_decimal_commas_are_named(tmp_path: Path) -> None:
    put(tmp_path, {"images/a.jpg": jpeg(), "labels/a.txt": "0 0,5 0,5 0,1 0,1", "classes.txt": "cup"})
    with pytest.raises(DatasetError, match="write decimal points, not commas"):
        read_yolo(tmp_path)


# --- COCO ---


def coco(root: Path, **changes: Any) -> Path:
    """Two pictures with an object each; keywords change every image, annotation or category."""
    rows: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": i, "file_name": f"{n}.jpg"} for i, n in ((1, "a"), (2, "b"))],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cup"}],
    }
    for key, change in changes.items():
        rows[key] = [row | (change(row) if callable(change) else change) for row in rows[key]]
    put(root, {f"images/{n}.jpg": jpeg(seed=i) for i, n in enumerate("ab")})
    return put(root, {"instances.json": json.dumps(rows)})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"images": {"width": 0, "height": 0}},
        {"images": {"width": -1, "height": -1}},
        {"images": {"width": None, "height": "wide"}},
        {"annotations": {"iscrowd": None}},
        {"annotations": {"iscrowd": "0", "truncated": 0.0, "difficult": False}},
        {"images": lambda row: {"id": str(row["id"])}},
        {"annotations": lambda row: {k: str(row[k]) for k in ("id", "image_id", "category_id")}},
        {key: lambda row: {"id": float(row["id"])} for key in ("images", "annotations", "categories")},
        {"annotations": lambda row: {"image_id": float(row["image_id"]), "category_id": 1.0}},
        {"categories": {"id": "1"}},
    ],
)
def test_coco_fields(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = read_coco(coco(tmp_path / "plain"), name="x")[0]
    assert dataset_to_json(read_coco(coco(tmp_path / "changed", **changes), name="x")[0]) == dataset_to_json(plain)


def test_coco_ids_as_texts_are_one_note(tmp_path: Path) -> None:
    root = coco(tmp_path, images=lambda row: {"id": str(row["id"])})
    assert sum("ids as texts" in note for note in read_coco(root)[2]) <= 3


@pytest.mark.parametrize(
    "form",
    [
        *("./{}.jpg", "images\\{}.jpg", "images/{}.jpg", "images//{}.jpg", "{}.JPG", "{}.png", " {}.jpg ", "{}"),
        *("C:\\x\\{}.jpg", "/home/u/images/{}.jpg", "other/{}.jpg"),
    ],
)
def test_coco_file_names(tmp_path: Path, form: str) -> None:
    root = coco(tmp_path, images=lambda row: {"file_name": form.format(row["file_name"][0])})
    dataset, images, _ = read_coco(root)
    assert [(images / name).relative_to(tmp_path).as_posix() for name in names(dataset)] == [
        "images/a.jpg",
        "images/b.jpg",
    ]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("https://x.org/a.jpg", "is an address on the web"),
        ("../images/a.jpg", r"leaves the dataset's folder by '\.\.'"),
        ("c.jpg", "there is no such file"),
    ],
)
def test_coco_file_names_that_are_refused(tmp_path: Path, name: str, match: str) -> None:
    root = coco(tmp_path, images=lambda row: {"file_name": "b.jpg" if row["id"] == 2 else name})
    with pytest.raises(DatasetError, match=match):
        read_coco(root)


@pytest.mark.parametrize(("name", "label"), [(7, "7"), (1.5, "1.5"), (" cup", " cup"), ("hot  dog", "hot  dog")])
def test_coco_class_names(tmp_path: Path, name: float | str, label: str) -> None:
    dataset = read_coco(coco(tmp_path, categories={"name": name}))[0]
    assert dataset.classes == (label,)


@pytest.mark.parametrize("above", ["none", "", None])
@pytest.mark.parametrize("group", ["tableware", "cup"])
def test_coco_roboflows_group_is_no_class(tmp_path: Path, group: str, above: str | None) -> None:
    root = coco(tmp_path, categories={"supercategory": group})
    document = json.loads((root / "instances.json").read_text())
    document["categories"].insert(0, {"id": 0, "name": group, "supercategory": above})
    put(root, {"instances.json": json.dumps(document)})
    dataset, _, notes = read_coco(root)
    assert (dataset.classes, dataset.category_ids) == (("cup",), (1,))
    assert f"category 0 {group!r} is a group of others without an object of its own, and is left out" in notes
    if group != "cup":
        assert read_coco(root, ReadOptions(classes=(group, "cup")))[0].classes == (group, "cup")
    document["annotations"][0]["category_id"] = 0
    put(root, {"instances.json": json.dumps(document)})
    if group == "cup":
        with pytest.raises(DatasetError, match="category name 'cup' occurs more than once"):
            read_coco(root)
    else:
        assert read_coco(root)[0].classes == (group, "cup")


# --- all of them ---


def _voc(root: Path, broken: Mapping[str, str | bytes]) -> Any:
    return read_voc(put(devkit(root), broken))


@pytest.mark.parametrize(
    ("reader", "files"),
    [
        (read_voc, {"Annotations/a.xml": LFS, "JPEGImages/a.jpg": jpeg()}),
        (read_voc, {"Annotations/a.xml": CUP, "JPEGImages/a.jpg": LFS}),
        (read_voc, {"Annotations/a.xml": CUP, "JPEGImages/a.jpg": jpeg(), "ImageSets/Main/train.txt": LFS}),
        (read_yolo, {"images/a.jpg": jpeg(), "labels/a.txt": LFS, "classes.txt": "cup"}),
        (read_yolo, {"images/a.jpg": jpeg(), "labels/a.txt": LINE, "classes.txt": LFS}),
        (read_yolo, {"images/a.jpg": jpeg(), "labels/a.txt": LINE, "data.yaml": LFS}),
        (read_coco, {"instances.json": LFS}),
        (read_folders, {"cat/a.jpg": LFS, "dog/a.jpg": jpeg()}),
    ],
)
def test_git_lfs_pointers_are_named(tmp_path: Path, reader: Callable[..., Any], files: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="is a Git LFS pointer, not the file itself; run `git lfs pull`"):
        reader(put(tmp_path, files))


def test_many_pointers_are_three_lines(tmp_path: Path) -> None:
    root = devkit(tmp_path, "abcdefgh")
    put(root, {f"JPEGImages/{i}.jpg": LFS for i in "abcdefgh"})
    with pytest.raises(DatasetError) as caught:
        read_voc(root)
    assert len(caught.value.problems) == 3
    assert caught.value.problems[2].endswith("(and 5 more like this)")


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    ("reader", "files"),
    [
        (read_voc, {"Annotations/a.xml": voc_xml(""), "JPEGImages/a.jpg": jpeg()}),
        (read_yolo, {"images/a.jpg": jpeg(), "classes.txt": "cup"}),
        (read_yolo, {"images/a.jpg": jpeg(), "labels/other.txt": LINE, "classes.txt": "cup"}),
        (
            read_coco,
            {"images/a.jpg": jpeg()}
            | {"x.json": '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}'},
        ),
    ],
)
def test_a_dataset_without_any_object_is_refused(
    tmp_path: Path, reader: Callable[..., Any], files: dict[str, Any], on_error: str
) -> None:
    with pytest.raises(DatasetError, match="no object was found for any of its 1 images"):
        reader(put(tmp_path, files), ReadOptions(on_error=on_error))


def test_refusals_say_whether_skip_would_pass_over_them(tmp_path: Path) -> None:
    root = put(devkit(tmp_path), {"JPEGImages/a.jpg": b""})
    with pytest.raises(DatasetError) as caught:
        read_voc(root)
    hint = "--on-error skip leaves out just what this line names, and imports the rest"
    assert str(caught.value).splitlines() == [*caught.value.problems, hint]
    assert len(read_voc(root, ReadOptions(on_error="skip"))[0].images) == 2
    put(root, {"ImageSets/Main/train.txt": b"\xff"})
    with pytest.raises(DatasetError) as caught:
        read_voc(root)
    assert caught.value.hint == "--on-error skip would pass over 1 of these lines; the other 1 stop it as well"
    (root / "ImageSets/Main/train.txt").unlink()
    put(root, {f"JPEGImages/{i}.jpg": b"" for i in "abc"})
    with pytest.raises(DatasetError) as caught:
        read_voc(root)
    assert caught.value.hint == ""  # nothing would be left


def test_classes_that_hardly_differ_and_those_without_an_object_are_named(tmp_path: Path) -> None:
    root = devkit(tmp_path)
    put(
        root,
        {
            f"Annotations/{i}.xml": CUP.replace("cup", label)
            for i, label in zip("abc", ("Dog", "dog", "d  og"), strict=True)
        },
    )
    dataset, _, notes = read_voc(root, ReadOptions(classes=("Dog", "dog", "d  og", "cat")))
    assert dataset.classes == ("Dog", "dog", "d  og", "cat")
    assert "classes 'Dog', 'dog' differ in case, spaces or Unicode form only; they are kept as 2" in notes
    assert "1 class has no object ('cat'); manifest.classes can leave out what is not meant" in notes
    with pytest.raises(DatasetError) as caught:
        read_voc(root, ReadOptions(classes=("Dog", "dog", " d og")))
    assert any(
        "class 'd  og' is unknown; add it to the classes (Dog, dog, ' d og')" in p for p in caught.value.problems
    )


def test_dvcs_links_say_how_to_get_the_files(tmp_path: Path) -> None:
    root = devkit(tmp_path / "set")
    cache = put(tmp_path, {".dvc/cache/files/md5/00/11": (root / "JPEGImages/a.jpg").read_bytes()})
    (root / "JPEGImages/a.jpg").unlink()
    (root / "JPEGImages/a.jpg").symlink_to(cache / ".dvc/cache/files/md5/00/11")
    with pytest.raises(DatasetError, match=r"a\.jpg: is a link that leaves .*; it is DVC's: run `dvc unprotect`"):
        read_voc(root)
