"""COCO's forms, and every way a COCO file can be wrong."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import jpeg, put
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


def lay_out(root: Path, jsons: dict[str, str], pictures: Sequence[str]) -> Path:
    """Write JSON files, each with an object in the one picture it names (one of another's name has its own ids)."""
    put(root, {name: jpeg(seed=seed) for seed, name in enumerate((*jsons.values(), *pictures))})
    for i, (file, picture) in enumerate(jsons.items()):
        document = {
            "images": [{"id": i, "file_name": picture.rpartition("/")[2]}],
            "annotations": [ANNOTATION | {"id": i, "image_id": i}],
            "categories": [{"id": 5, "name": "dog"}],
        }
        put(root, {file: json.dumps(document)})
    return root


COCO_OWN = {
    "annotations/instances_train2017.json": "train2017/a.jpg",
    "annotations/instances_val2017.json": "val2017/b.jpg",
}
ROBOFLOW = {"train/_annotations.coco.json": "train/a.jpg", "valid/_annotations.coco.json": "valid/b.jpg"}


@pytest.mark.parametrize(
    ("jsons", "splits"),
    [
        (COCO_OWN, ["train", "val"]),
        (ROBOFLOW, ["train", "val"]),
        (
            {"train/_annotations.coco.json": "train/a.jpg", "valid/_annotations.COCO.json": "valid/b.jpg"},
            ["train", "val"],
        ),
        (
            {"annotations/instances_Train.json": "train/a.jpg", "annotations/instances_val.JSON": "val/b.jpg"},
            ["Train", "val"],
        ),
        (
            {
                "Annotations/Instances_train.json": "Images/train/a.jpg",
                "Annotations/Instances_val.json": "Images/val/b.jpg",
            },
            ["train", "val"],
        ),
        ({"annotations/train.json": "train/a.jpg", "annotations/val.json": "val/b.jpg"}, ["train", "val"]),
        (
            {
                "annotations/train2017.json": "images/train2017/a.jpg",
                "annotations/Test2017.json": "images/test2017/b.jpg",
            },
            ["train", "Test"],
        ),
        ({"annotations/train.json": "images/a.jpg", "annotations/valid.json": "images/b.jpg"}, ["train", "val"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_files_of_splits(tmp_path: Path, jsons: dict[str, str], splits: list[str]) -> None:
    extra = {"annotations/captions_train.json": "{}", "annotations/.instances_x.json": "{}"}
    dataset, folder, notes = read_coco(put(lay_out(tmp_path, jsons, []), extra))
    found = {
        image.split: (folder / image.file_name).relative_to(tmp_path.resolve()).as_posix() for image in dataset.images
    }
    assert found == dict(zip(splits, jsons.values(), strict=True))
    assert [len(image.boxes) for image in dataset.images] == [1, 1]
    assert notes == []


@pytest.mark.parametrize(
    ("jsons", "pictures", "said", "split"),
    [
        (ROBOFLOW, ["test/c.jpg", "test/d.jpg"], "2 in test/ (such as test/c.jpg)", "test"),
        (COCO_OWN, ["test2017/c.jpg"], "1 in test2017/ (such as test2017/c.jpg)", "test"),
        (
            COCO_OWN,
            ["images/test/x/c.jpg", "train2017/c.jpg"],
            "1 in images/test/x/, 1 in train2017/ (such as images/test/x/c.jpg)",
            "test",
        ),
        ({"train/_annotations.coco.json": "train/a.jpg"}, ["valid/c.jpg"], "1 in valid/ (such as valid/c.jpg)", "val"),
        (ROBOFLOW, ["trainval/c.jpg", "d.jpg"], "1 in the folder itself, 1 in trainval/ (such as d.jpg)", None),
        (
            {"instances.json": "images/a.jpg"},
            ["more/c.jpg", "more/d.jpg", "images/e.jpg"],
            "2 in more/, 1 in images/ (such as images/e.jpg)",
            None,
        ),
        ({"instances.json": "images/a.jpg"}, ["test/c.jpg"], "1 in test/ (such as test/c.jpg)", None),
        (
            {"instances.json": "images/a.jpg"},
            [f"{n}/c.jpg" for n in "pqrstu"],
            "1 in p/, 1 in q/, 1 in r/, 1 in s/, the others in 2 more folders (such as p/c.jpg)",
            None,
        ),
    ],
)
def test_pictures_that_no_json_names_are_counted_by_their_folder(
    tmp_path: Path, jsons: dict[str, str], pictures: list[str], said: str, split: str | None
) -> None:
    root = lay_out(tmp_path, jsons, pictures)
    dataset, _, notes = read_coco(root)
    what = (
        "1 picture that no JSON names is" if len(pictures) == 1 else f"{len(pictures)} pictures that no JSON names are"
    )
    hint = f"; if nobody has annotated them, take them as a split by --unannotated {split}" if split else ""
    assert [note for note in notes if "no JSON names" in note] == [f"{what} left out: {said}{hint}"]
    taken, left = len(jsons), len(pictures)
    assert len(dataset.images) == taken
    assert f"pictures: {taken + left} seen, {taken} taken, {left} left out" in notes
    if split is not None:  # what the line advises is done
        dataset = read_coco(root, ReadOptions(unannotated=(split,)))[0]
        there = [name for name in pictures if "train" not in name]
        assert [image.file_name for image in dataset.split(split)] == there
        assert not any(image.annotated for image in dataset.split(split))


def test_what_is_passed_over_outside_of_the_images_is_said(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "d", {"instances.json": "images/a.jpg"}, [])
    put(root, {"more/.x/b.jpg": b"", "__MACOSX/c.jpg": b"", "more/d.heic": b"", "images/e.heic": b""})
    (root / "pictures").symlink_to(root / "images")
    (tmp_path / "other").mkdir()
    (root / "linked").symlink_to(tmp_path / "other")
    notes = [note for note in read_coco(root)[2] if "split" not in note]
    convert = "convert to JPEG or PNG what is wanted of them"
    assert sorted(notes) == [
        "1 picture is hidden, or in a hidden folder, and passed over (more/.x/b.jpg)",
        f"1 picture is of a form that is not read (HEIC 1; such as e.heic); {convert}",
        f"1 picture is of a form that is not read (HEIC 1; such as more/d.heic); {convert}",
        "linked: is a link to a folder, which is not followed",
        "pictures: 4 seen, 1 taken, 3 left out",
    ]


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
    "image id": (
        {"images": [IMAGE | {"id": "img1"}, IMAGE | {"id": 3, "file_name": "b.jpg"}], "annotations": []},
        r"1 of 2 images have no whole number as id \(such as 'img1'\); number them",
    ),
    "category id": (
        {
            "categories": [{"id": "c1", "name": "cat"}, {"id": 5, "name": "dog"}],
            "annotations": [ANNOTATION | {"id": i, "category_id": "c1"} for i in range(4)],
        },
        r"1 of 2 categories have no whole number as id \(such as 'c1'\); .*as category_id of the annotations",
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
    "change", [{"bbox": [1, 2, 3]}, {"category_id": 1}, {"iscrowd": 2}, {"bbox": None, "image_id": "7"}]
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


@pytest.mark.parametrize("row_id", ["img1", "", None, 1.5, [1]])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_images_without_a_number_are_one_line(make_coco: Callable[..., Path], on_error: str, row_id: object) -> None:
    images = [{"id": row_id, "file_name": name} for name in ("a.jpg", "b.jpg")]
    objects = [ANNOTATION | {"id": i, "image_id": row_id} for i in range(5)]
    with pytest.raises(DatasetError) as caught:
        read_coco(make_coco(images=images, annotations=objects), ReadOptions(on_error=on_error))
    (line,) = caught.value.problems
    shown = "" if row_id is None else f" (such as {row_id!r})"
    assert line.startswith(f"instances.json: 2 of 2 images have no whole number as id{shown}; number them, and write")


@pytest.mark.parametrize("change", [{"id": None}, {"id": "x"}, {"id": 1.5}])
def test_annotations_need_no_ids(make_coco: Callable[..., Path], change: dict[str, Any]) -> None:
    root = make_coco(annotations=[ANNOTATION | change, ANNOTATION | change | {"image_id": 3}, ANNOTATION])
    dataset, _, notes = read_coco(root)
    assert {image.file_name: len(image.boxes) for image in dataset.images} == {"a.jpg": 2, "b.jpg": 1}
    (line,) = [note for note in notes if "annotations have" in note]
    assert line.startswith("instances.json: 2 of 3 annotations have no whole number as id")
    with pytest.raises(DatasetError, match="annotation entry 1: bbox 3 is not four numbers"):
        read_coco(make_coco_again(root, annotations=[ANNOTATION | change | {"bbox": 3}]))


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
