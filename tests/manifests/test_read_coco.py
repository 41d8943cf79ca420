"""COCO's forms, and every way a COCO file can be wrong."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from manifests import Dataset, DatasetError, ReadOptions, import_dataset, read_coco, registered_names, save_dataset

ANNOTATION = {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 10, 20], "iscrowd": 0}
IMAGE = {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30}


@pytest.mark.parametrize("given", ["folder", "file"])
def test_ids_crowd_and_segmentation_are_kept(make_coco: Callable[..., Path], given: str) -> None:
    root = make_coco()
    dataset, images, _ = read_coco(root if given == "folder" else root / "instances.json")
    assert images == (root / "images").resolve()
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (2, 5))
    a, b = dataset.image("a"), dataset.image("b")
    assert (a.id, b.id) == (7, 3)
    assert a.boxes.tolist() == [[1.5, 2.25, 12, 22.25]]
    assert a.labels.tolist() == [1]
    assert a.areas.tolist() == [12.5]
    assert a.details[0]["segmentation"] == [[1.5, 2.25, 12, 2.25, 12, 22.25]]
    assert b.crowd.tolist() == [True]
    assert b.details[0]["segmentation"] == {"counts": [0, 1200], "size": [30, 40]}


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools under numpy 2
def test_round_trip_through_pycocotools(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    root = make_coco()
    save_dataset(read_coco(root)[0], tmp_path / "m.json")
    with contextlib.redirect_stdout(io.StringIO()):
        ours, theirs = COCO(str(tmp_path / "m.json")), COCO(str(root / "instances.json"))
    assert sorted(ours.getCatIds()) == sorted(theirs.getCatIds())
    assert sorted(ours.getImgIds()) == sorted(theirs.getImgIds())
    for image_id in theirs.getImgIds():
        (mine,), (other,) = (c.loadAnns(c.getAnnIds(imgIds=[image_id], iscrowd=None)) for c in (ours, theirs))
        for key in ("bbox", "area", "iscrowd", "category_id", "segmentation"):
            assert mine[key] == other[key], key
        np.testing.assert_array_equal(ours.annToMask(mine), theirs.annToMask(other))


def test_our_own_manifest_keeps_its_splits(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    root = make_coco()
    images = [IMAGE | {"split": "val", "splits": ["trainval", "val"]}]
    images.append(IMAGE | {"id": 3, "file_name": "b.jpg", "split": "test", "splits": ["test"]})
    before = read_coco(make_coco_again(root, images=images))[0]
    assert before.splits == ("test", "trainval", "val")
    save_dataset(before, root / "instances.json")
    after, _, notes = read_coco(root)
    assert Dataset("d", after.classes, after.images, after.category_ids) == Dataset(
        "d", before.classes, before.images, before.category_ids
    )
    assert notes == []


def make_coco_again(root: Path, **parts: Any) -> Path:
    document = json.loads((root / "instances.json").read_text()) | parts
    (root / "instances.json").write_text(json.dumps(document))
    return root


def test_one_file_per_split_as_coco_lays_them_out(make_coco: Callable[..., Path]) -> None:
    root = make_coco()
    (root / "annotations").mkdir()
    for number, (name, image_id, file_name) in enumerate((("train2017", 7, "a.jpg"), ("val2017", 3, "b.jpg"))):
        (root / name).mkdir()
        shutil.move(root / "images" / file_name, root / name / file_name)
        document = {
            "images": [{"id": image_id, "file_name": file_name, "width": 40, "height": 30}],
            "annotations": [ANNOTATION | {"id": number, "image_id": image_id}],
            "categories": [{"id": 5, "name": "dog"}],
        }
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(document))
    dataset, folder, _ = read_coco(root)
    assert folder == root.resolve()
    assert [(i.id, i.file_name, i.split) for i in dataset.images] == [
        (7, "train2017/a.jpg", "train"),
        (3, "val2017/b.jpg", "val"),
    ]


def test_one_folder_per_split_with_repeating_ids(make_coco: Callable[..., Path]) -> None:
    root = make_coco()
    (root / "instances.json").unlink()
    for name, file_name in (("train", "a.jpg"), ("valid", "b.jpg")):
        (root / name).mkdir()
        shutil.move(root / "images" / file_name, root / name / file_name)
        document = {
            "images": [{"id": 0, "file_name": file_name}],
            "annotations": [ANNOTATION | {"image_id": 0}],
            "categories": [{"id": 5, "name": "dog"}],
        }
        (root / name / "_annotations.coco.json").write_text(json.dumps(document))
    dataset, _, notes = read_coco(root)
    assert [(i.id, i.file_name, i.split) for i in dataset.images] == [
        (1, "train/a.jpg", "train"),
        (2, "valid/b.jpg", "val"),
    ]
    assert notes == ["image ids repeat from file to file, so the images are numbered anew"]
    document["categories"][0]["id"] = 6
    (root / "valid" / "_annotations.coco.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match="do not agree on ids and names"):
        read_coco(root)


def test_images_elsewhere(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    root = make_coco()
    shutil.move(root / "images", tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"its images \(such as 'a.jpg'\) are not beside it"):
        read_coco(root)
    dataset, folder, _ = read_coco(root, ReadOptions(images=str(tmp_path / "elsewhere")))
    assert (folder / dataset.images[0].file_name).is_file()
    with pytest.raises(DatasetError, match="no such image folder"):
        read_coco(root, ReadOptions(images=str(tmp_path / "nowhere")))


def test_class_list(make_coco: Callable[..., Path]) -> None:
    root = make_coco()
    dataset, _, _ = read_coco(root, ReadOptions(classes=("dog", "cat")))
    assert (dataset.classes, dataset.category_ids) == (("dog", "cat"), (5, 2))
    assert dataset.image("a").labels.tolist() == [0]
    with pytest.raises(DatasetError, match="classes: cow not among the source's categories; there are cat, dog"):
        read_coco(root, ReadOptions(classes=("cow",)))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "bbox": ({"annotations": [ANNOTATION | {"bbox": [1, 2, 3]}]}, "annotation 1: bbox .* is not four numbers"),
    "bbox text": ({"annotations": [ANNOTATION | {"bbox": [1, 2, 3, "4"]}]}, "is not four numbers"),
    "bbox nan": ({"annotations": [ANNOTATION | {"bbox": [1, 2, float("nan"), 4]}]}, "is not four numbers|not finite"),
    "empty": ({"annotations": [ANNOTATION | {"bbox": [1, 2, 0, 4]}]}, r"bbox \[1, 2, 0, 4\] is empty or inverted"),
    "inverted": ({"annotations": [ANNOTATION | {"bbox": [9, 2, -4, 4]}]}, "is empty or inverted"),
    "outside": ({"annotations": [ANNOTATION | {"bbox": [30, 2, 13, 4]}]}, "leaves the 40 x 30 image by 3 px"),
    "category": ({"annotations": [ANNOTATION | {"category_id": 1}]}, "category_id 1 is not among the categories"),
    "image_id": ({"annotations": [ANNOTATION | {"image_id": 1}]}, "image_id 1 is not among the images"),
    "image_id list": ({"annotations": [ANNOTATION | {"image_id": [1]}]}, "annotation 1: "),
    "crowd": ({"annotations": [ANNOTATION | {"iscrowd": 2}]}, "iscrowd is 2, not 0 or 1"),
    "annotation id twice": ({"annotations": [ANNOTATION, ANNOTATION]}, "annotation 1: its id occurs more than once"),
    "annotation id": (
        {"annotations": [ANNOTATION | {"id": None}]},
        "annotations entry 1 is no object with an integer id",
    ),
    "no object": ({"annotations": [3]}, "annotations entry 1 is no object"),
    "image id twice": (
        {"images": [IMAGE, IMAGE | {"file_name": "b.jpg"}], "annotations": []},
        r"image 7 \(b.jpg\): image id 7 is already that of a.jpg",
    ),
    "file name twice": ({"images": [IMAGE, IMAGE | {"id": 8}], "annotations": []}, "'a.jpg' occurs more than once"),
    "size": (
        {"images": [IMAGE | {"width": 41}, IMAGE | {"id": 3, "file_name": "b.jpg"}], "annotations": []},
        "says 41 x 30 but the image a.jpg is 40 x 30",
    ),
    "no file name": ({"images": [IMAGE, {"id": 4}], "annotations": []}, "image 4 has no file_name"),
    "missing": (
        {"images": [IMAGE, IMAGE | {"id": 8, "file_name": "z.jpg"}], "annotations": []},
        "z.jpg: there is no such",
    ),
    "traversal": (
        {"images": [IMAGE, IMAGE | {"id": 8, "file_name": "../../etc/passwd"}], "annotations": []},
        r"leaves the dataset's folder by '\.\.'",
    ),
    "absolute": (
        {"images": [IMAGE, IMAGE | {"id": 8, "file_name": "/etc/passwd"}], "annotations": []},
        "/etc/passwd: the file name is an absolute path",
    ),
    "zero byte": ({"images": [IMAGE, IMAGE | {"id": 8, "file_name": "a\0b"}], "annotations": []}, "zero byte"),
}
FATAL: dict[str, tuple[dict[str, Any], str]] = {
    "category twice": ({"categories": [{"id": 5, "name": "dog"}] * 2}, "category 5 'dog' occurs more than once"),
    "category name twice": (
        {"categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "dog"}]},
        "category 2 'dog' occurs more than once",
    ),
    "category name": ({"categories": [{"id": 5}]}, "category 5 has no name"),
    "no annotations": ({"annotations": None}, "has no list annotations"),
    "no images": ({"images": [], "annotations": []}, "the dataset has no images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_entries(make_coco: Callable[..., Path], case: str) -> None:
    parts, match = BAD[case]
    if "annotations" in parts:  # one good object beside the bad one, as a dataset without any is refused as such
        image_id = 3 if any(i["id"] == 3 for i in parts.get("images", [{"id": 3}])) else 7
        good = ANNOTATION | {"id": 99, "image_id": image_id}
        parts = parts | {"annotations": [*parts["annotations"], good]}
    root = make_coco(**parts)
    with pytest.raises(DatasetError, match=match) as caught:
        read_coco(root)
    known = [line for line in caught.value.problems if "image_id 3" not in line]
    assert len(known) == 1
    assert "; " in known[0]
    _, _, notes = read_coco(root, ReadOptions(on_error="skip"))
    assert {f"left out: {line}" for line in caught.value.problems} <= set(notes)


@pytest.mark.parametrize(
    "change", [{"bbox": [1, 2, 3]}, {"category_id": 1}, {"iscrowd": 2}, {"id": None}, {"bbox": None, "image_id": "7"}]
)
def test_skip_leaves_out_an_image_of_which_no_object_can_be_read(
    make_coco: Callable[..., Path], change: dict[str, Any]
) -> None:
    lost = ANNOTATION | {"id": 9} | change
    options = ReadOptions(on_error="skip")
    other = ANNOTATION | {"id": 99, "image_id": 3}
    dataset, _, notes = read_coco(make_coco(annotations=[lost, other]), options)
    assert [(image.file_name, len(image.boxes)) for image in dataset.images] == [("b.jpg", 1)]
    left_out = "left out: instances.json: image 7 (a.jpg): the whole image a.jpg: its only object cannot be used"
    assert left_out in notes


def test_skip_says_which_image_lost_some_of_its_objects(make_coco: Callable[..., Path]) -> None:
    root = make_coco(annotations=[ANNOTATION, ANNOTATION | {"id": 9, "category_id": 1}])
    dataset, _, notes = read_coco(root, ReadOptions(on_error="skip"))
    assert [len(image.boxes) for image in dataset.images] == [1, 0]
    assert "kept: instances.json: image 7 (a.jpg): the image a.jpg with 1 of its 2 objects" in notes


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("case", FATAL)
def test_bad_files(make_coco: Callable[..., Path], case: str, on_error: str) -> None:
    parts, match = FATAL[case]
    with pytest.raises(DatasetError, match=match):
        read_coco(make_coco(**parts), ReadOptions(on_error=on_error))


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\0"])
def test_json_that_is_none(make_coco: Callable[..., Path], text: str) -> None:
    root = make_coco()
    (root / "instances.json").write_text(text)
    with pytest.raises(
        DatasetError, match=r"instances\.json: (is not well-formed JSON|has no list images, )"
    ) as caught:
        read_coco(root)
    assert len(caught.value.problems) == 1


def test_no_or_several_files(make_coco: Callable[..., Path]) -> None:
    root = make_coco()
    (root / "instances.json").rename(root / "x.json")
    assert len(read_coco(root)[0].images) == 2
    shutil.copy(root / "x.json", root / "y.json")
    with pytest.raises(DatasetError, match=r"several JSON files; give the path of one: x\.json, y\.json"):
        read_coco(root)
    with pytest.raises(DatasetError, match="is not a COCO JSON file"):
        read_coco(root / "images")


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        ("images", {"file_name": "\ud800.jpg"}, "half a surrogate pair"),
        ("images", {"split": "\ud800", "splits": ["\ud800"]}, "half a surrogate pair"),
        ("categories", {"name": "\udfff"}, "half a surrogate pair"),
        ("annotations", {"segmentation": [[float("nan"), 1, 2, 3, 4, 5]]}, "annotation .*holds NaN or infinity"),
    ],
)
def test_what_no_manifest_can_hold_registers_nothing(
    make_coco: Callable[..., Path], tmp_path: Path, row: str, change: dict[str, Any], message: str
) -> None:
    root = make_coco()
    document = json.loads((root / "instances.json").read_text())
    for image in document["images"]:
        image |= {"split": "train", "splits": ["train"]}
    document[row][0] |= change
    (root / "instances.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=message):
        import_dataset("coco", root, "d", ReadOptions(), tmp_path / "artifacts")
    assert registered_names(tmp_path / "artifacts") == []
