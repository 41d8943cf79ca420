"""Records, and the manifest's JSON: round trips, pycocotools, and a clear word on every violation."""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_arrays import as_boxes, as_labels
from pycocotools.coco import COCO

from cache import StoreFullError
from manifests import Dataset, DatasetError, ImageRecord, load_dataset, save_dataset
from manifests.dataset import MaskSource, Segment
from manifests.manifest_json import dataset_from_json, dataset_to_json


def record(**changes: Any) -> ImageRecord:
    values: dict[str, Any] = {
        "id": 4,
        "file_name": "sub/a.jpg",
        "width": 640,
        "height": 480,
        "sha256": "0" * 64,
        "split": "train",
        "splits": ("train", "trainval"),
        "boxes": np.array([[473.07, 395.93, 511.72, 424.6], [0, 0, 640, 480]]),
        "labels": [1, 0],
        "difficult": [True, False],
        "truncated": [False, True],
        "crowd": [False, True],
        "details": (
            {"occluded": 1, "pose": "Left"},
            {"segmentation": {"counts": "x", "size": [480, 640]}, "area": 9.5},
        ),
    }
    return ImageRecord(**(values | changes))


def dataset(**changes: Any) -> Dataset:
    bare = ImageRecord(9, "b.jpg", 10, 20, "f" * 64, "test", as_boxes([]), as_labels([]))
    return Dataset(
        **({"name": "d", "classes": ("cat", "dog"), "images": (record(), bare), "category_ids": (3, 8)} | changes)
    )


def test_record_fills_in_what_is_not_given() -> None:
    bare = ImageRecord(1, "x/y.jpeg", 3, 2, "0" * 64, "all", as_boxes([[0, 0, 1, 1]]), as_labels([0]))
    assert bare.name == "y"
    assert bare.splits == ("all",)
    assert bare.boxes.dtype == np.float32
    assert bare.labels.dtype == np.int64
    assert [bare.difficult.tolist(), bare.truncated.tolist(), bare.crowd.tolist()] == [[False]] * 3
    assert bare.areas.tolist() == [1.0]
    with pytest.raises(ValueError, match="2 labels"):
        ImageRecord(1, "x", 3, 2, "0" * 64, "all", as_boxes([[0, 0, 1, 1]]), as_labels([0, 1]))


def test_save_and_load(tmp_path: Path) -> None:
    before = dataset()
    save_dataset(before, tmp_path / "new" / "m.json")
    after = load_dataset(tmp_path / "new" / "m.json")
    assert after == before
    assert after.images[0].areas[1] == 9.5
    assert os.listdir(tmp_path / "new") == ["m.json"]  # noqa: PTH208
    save_dataset(after, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "new" / "m.json").read_bytes()


SOURCES = (
    MaskSource("voc", "SegmentationClass/a.png", "1" * 64, "SegmentationObject/a.png", "2" * 64),
    MaskSource("class_map", "a.png", "3" * 64, void=None, shift=1),
    MaskSource("sbd", object_map="inst/a.mat", object_sha256="4" * 64),
    MaskSource(
        "panoptic", object_map="a.png", object_sha256="5" * 64, segments=(Segment(7, 3), Segment(70_000, 9, void=True))
    ),
    MaskSource("coco"),
)


@pytest.mark.parametrize("masks", SOURCES, ids=lambda masks: masks.kind)
def test_masks_are_saved_and_loaded(masks: MaskSource, tmp_path: Path) -> None:
    """A manifest with masks is of version 4; without any it has the bytes that it always had."""
    before = dataset(images=(record(masks=masks, details=({"mask": 2}, {})),))
    save_dataset(before, tmp_path / "m.json")
    assert load_dataset(tmp_path / "m.json") == before
    assert json.loads((tmp_path / "m.json").read_text())["info"]["manifest_version"] == 4
    plain = json.loads(dataset_to_json(dataset()))
    assert plain["info"]["manifest_version"] == 1 and not any("masks" in image for image in plain["images"])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"class_map": "../a.png"}, r"mask '\.\./a.png': the file name leaves the dataset's folder"),
        ({"class_sha256": None}, "mask 'SegmentationClass/a.png': it has no digest"),
        ({"kind": "mat"}, r"images\.0\.masks\.kind: "),
        ({"segments": [{"id": 0, "category_id": 3}]}, r"segments\.0\.id: "),
        ({"depth": 3}, r"images\.0\.masks\.depth: "),
    ],
)
def test_masks_that_are_wrong(changes: dict[str, Any], match: str) -> None:
    document = json.loads(dataset_to_json(dataset(images=(record(masks=SOURCES[0]),))))
    document["images"][0]["masks"] |= changes
    with pytest.raises(DatasetError, match=match):
        dataset_from_json(json.dumps(document).encode(), "m.json")


def test_the_hidden_share_is_saved_and_loaded(tmp_path: Path) -> None:
    boxes, labels = np.array([[0, 0, 5, 5], [1, 1, 9, 9]], np.float32), np.array([0, 0])
    image = ImageRecord(1, "1.jpg", 9, 9, "0" * 64, "test", boxes, labels, details=({"hidden": 0.25}, {}))
    save_dataset(Dataset("d", ("a",), (image,)), tmp_path / "m.json")
    document = json.loads((tmp_path / "m.json").read_text())
    assert document["info"]["manifest_version"] == 4
    assert document["annotations"][0]["hidden"] == 0.25 and "hidden" not in document["annotations"][1]
    assert load_dataset(tmp_path / "m.json").images == (image,)
    document["annotations"][0]["hidden"] = 1.5
    with pytest.raises(DatasetError, match=r"hidden: Input should be less than or equal to 1"):
        dataset_from_json(json.dumps(document).encode(), "m.json")


def test_pycocotools_reads_it(tmp_path: Path) -> None:
    save_dataset(dataset(), tmp_path / "m.json")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "m.json"))
    assert coco.getImgIds() == [4, 9]
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {3: "cat", 8: "dog"}
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=[4]))
    assert first["bbox"] == [473.07, 395.93, 38.65, 28.67]
    assert (first["category_id"], first["difficult"], first["iscrowd"], first["pose"]) == (8, 1, 0, "Left")
    assert (second["category_id"], second["iscrowd"], second["area"], second["truncated"]) == (3, 1, 9.5, 1)


coordinate = st.floats(0, 5000, width=32)


@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=8))
@settings(max_examples=150, deadline=None)
def test_boxes_survive_to_the_last_bit(corners: list[tuple[float, ...]]) -> None:
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners if a != c and b != d]
    boxes = np.array(ordered, np.float32).reshape(-1, 4)
    image = ImageRecord(1, "a.jpg", 5000, 5000, "0" * 64, "train", boxes, as_labels([0] * len(boxes)))
    before = Dataset("d", ("cat",), (image,))
    data = dataset_to_json(before)
    after = dataset_from_json(data, "m.json")
    np.testing.assert_array_equal(after.images[0].boxes, boxes)
    assert dataset_to_json(after) == data


def test_split_uses_every_split_an_image_is_in() -> None:
    d = dataset()
    assert d.splits == ("test", "train", "trainval")
    assert [image.id for image in d.split("trainval")] == [4]
    with pytest.raises(DatasetError, match=r"no split 'val'; choose one of: test, train, trainval"):
        d.split("val")


def test_image_by_id_and_name() -> None:
    d = dataset()
    assert d.image(9).file_name == d.image("b").file_name == d.image("b.jpg").file_name == "b.jpg"
    assert d.image("a.jpg").file_name == d.image("sub/a.jpg").file_name == "sub/a.jpg"
    with pytest.raises(DatasetError, match="no image 5"):
        d.image(5)
    twin = record(id=5, file_name="other/a.png")
    with pytest.raises(DatasetError, match=r"ambiguous; choose one of: sub/a.jpg, other/a.png"):
        dataset(images=(record(), twin)).image("a")


def test_a_file_s_own_name_is_enough_where_one_image_has_it() -> None:
    first, second, third = (
        record(id=i, file_name=name) for i, name in enumerate(("sub/a.jpg", "other/a.jpg", "sub/a.png"))
    )
    assert dataset(images=(first, third)).image("a.jpg") == first
    assert dataset(images=(first, third)).image("a.png") == third
    with pytest.raises(DatasetError, match=r"'a.jpg' is ambiguous; choose one of: sub/a.jpg, other/a.jpg$"):
        dataset(images=(first, second)).image("a.jpg")
    whole = record(id=7, file_name="a.jpg")
    assert dataset(images=(first, whole)).image("a.jpg") == whole


def broken(**edits: Any) -> bytes:
    """The manifest with values replaced: key ``images.0.width`` style, ``...`` deletes."""
    document = json.loads(dataset_to_json(dataset()))
    for key, value in edits.items():
        *path, last = [int(part) if part.isdigit() else part for part in key.split("__")]
        target = document
        for part in path:
            target = target[part]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "document: "),
        (broken(images__0__width=0), r"images\.0\.width: .*greater than or equal to 1"),
        (broken(images__0__width="640"), r"images\.0\.width: .*valid integer"),
        (broken(images__0__sha256=...), r"images\.0\.sha256: Field required"),
        (broken(images__0__sha256="A" * 64), r"images\.0\.sha256"),
        (broken(images__0__licence=1), r"images\.0\.licence: Extra inputs"),
        (broken(images__1__id=4), "image id 4 occurs more than once"),
        (broken(images__1__file_name="sub/a.jpg"), "file name 'sub/a.jpg' occurs more than once"),
        (broken(images__1__file_name="../a.jpg"), r"leaves the dataset's folder by '\.\.'"),
        (broken(images__1__file_name="/etc/passwd"), "is an absolute path"),
        (broken(images__1__file_name="C:/a.jpg"), "is an absolute path"),
        (broken(images__1__file_name="a\\b.jpg"), "backslash"),
        (broken(images__1__file_name=""), "file name is empty"),
        (broken(images__1__split="val"), "split 'val' is not in splits"),
        (broken(images__1__splits=[]), r"images\.1\.splits"),
        (broken(annotations__0__id=2), "annotation id 2 occurs more than once"),
        (broken(annotations__0__image_id=77), "annotation 1: image_id 77 is not in images"),
        (broken(annotations__0__category_id=1), "annotation 1: category_id 1 is not in categories"),
        (broken(annotations__0__bbox=[1, 2, 3]), r"annotations\.0\.bbox"),
        (broken(annotations__0__bbox=[1, 2, 3, float("nan")]), r"annotations\.0\.bbox\.3"),
        (broken(annotations__0__bbox=[1, 2, 0, 3]), "annotation 1: bbox .* is empty or not inside"),
        (broken(annotations__0__bbox=[1, 2, 640, 3]), "annotation 1: bbox .* is empty or not inside"),
        (broken(annotations__0__iscrowd=2), r"annotations\.0\.iscrowd"),
        (broken(annotations__0__difficult=True), r"annotations\.0\.difficult"),
        (broken(categories__0__id=8), "category id 8 occurs more than once"),
        (broken(categories__0__name="dog"), "category name 'dog' occurs more than once"),
        (broken(info__manifest_version=5), "newer version"),
        (
            broken(images__0__annotated=False, images__1__annotated=False),
            "annotation 1: its image .* is said not to be",
        ),
        (broken(images__0__annotated=0), r"images\.0\.annotated: .*valid boolean"),
        (broken(images__0__category_id=3), r"image 9 'b\.jpg': category_id None is not in categories"),
        (broken(images__0__category_id=3, images__1__category_id=3), "some images have a category_id, and there are"),
        (broken(info=...), "info: Field required"),
        (broken(info=3), "info: "),
    ],
)
def test_violations_of_the_schema(data: bytes, match: str) -> None:
    with pytest.raises(DatasetError, match=match) as caught:
        dataset_from_json(data, "m.json")
    assert all(line.startswith("m.json: ") for line in caught.value.problems)


def test_all_violations_at_once_but_not_without_end() -> None:
    with pytest.raises(DatasetError) as caught:
        dataset_from_json(
            broken(annotations__0__category_id=1, images__1__split="val", categories__0__name="dog"), "m.json"
        )
    assert len(caught.value.problems) == 3
    wrong = json.loads(broken())
    wrong["images"] = [{}] * 500
    with pytest.raises(DatasetError, match="and 3450 more problems") as caught:
        dataset_from_json(json.dumps(wrong).encode(), "m.json")
    assert len(caught.value.problems) == 51


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        load_dataset(tmp_path / "m.json")


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_dataset(dataset(), tmp_path / "m.json")
    before = (tmp_path / "m.json").read_bytes()

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StoreFullError, match=r"No space left on device while writing m\.json"):
        save_dataset(dataset(name="other"), tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_manifest_and_the_folders_above_it_get_the_umasks_permissions(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        save_dataset(dataset(), tmp_path / "a/b/m.json")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/m.json")]
    assert modes == [0o777 & ~umask, 0o777 & ~umask, 0o666 & ~umask]
