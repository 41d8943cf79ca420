"""COCO's panoptic form: things, stuff, crowds and small things; what is wrong with it; counting and drawing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import jpeg, put
from mask_files import panoptic_png

from manifests import Dataset, DatasetError, ImageSource, ReadOptions, import_dataset
from manifests.describe import contact_sheet, describe
from manifests.masks import Masks, read_masks

# Ids of: 5 a cat, 6 a small dog, 7 a crowd of dogs, 70000 sky; 0 is in no segment.
IDS = np.array(
    [
        [5, 5, 5, 70_000, 70_000, 0],
        [5, 5, 5, 70_000, 6, 0],
        [5, 5, 5, 70_000, 6, 7],
        [70_000, 70_000, 70_000, 70_000, 70_000, 7],
    ]
)
CATEGORIES = [
    {"id": 17, "name": "cat", "isthing": 1},
    {"id": 18, "name": "dog", "isthing": 1},
    {"id": 187, "name": "sky", "isthing": 0},
]
SEGMENTS = [
    {"id": 5, "category_id": 17, "iscrowd": 0},
    {"id": 70_000, "category_id": 187, "iscrowd": 0},
    {"id": 6, "category_id": 18},
    {"id": 7, "category_id": 18, "iscrowd": 1},
]


def document(**parts: Any) -> str:
    own = {
        "images": [{"id": 4, "file_name": "a.jpg", "width": 6, "height": 4}],
        "annotations": [{"image_id": 4, "file_name": "a.png", "segments_info": SEGMENTS}],
        "categories": CATEGORIES,
    }
    return json.dumps(own | parts)


def write(root: Path, text: str | None = None, ids: Any = IDS) -> Path:
    files: dict[str, bytes | str] = {"panoptic.json": document() if text is None else text, "images/a.jpg": jpeg(6, 4)}
    return put(root, {**files, "masks/a.png": panoptic_png(ids)})


def imported(root: Path, project: Path, **options: Any) -> tuple[Masks, Dataset, list[str]]:
    found = import_dataset("panoptic", root, "one", ReadOptions(**options), project / "artifacts")
    source = ImageSource.registered(project / "artifacts/datasets/one")
    masks = read_masks(source, found.dataset.images[0], found.dataset.category_ids)
    return masks, found.dataset, list(found.source.notes)


@pytest.mark.parametrize(
    ("options", "shown", "void", "difficult"),
    [
        ({}, {"cat": 5, "dog": 6}, {0, 7}, [0, 0, 0]),
        ({"stuff": "void"}, {"cat": 5, "dog": 6}, {0, 7, 70_000}, [0, 0, 0]),
        ({"stuff": "class"}, {"cat": 5, "sky": 70_000, "dog": 6}, {0, 7}, [0, 0, 0, 0]),
        ({"min_pixels": 3}, {"cat": 5}, {0, 6, 7}, [0, 1, 0]),
    ],
)
def test_things_stuff_and_crowds(
    options: dict[str, Any], shown: Mapping[str, int], void: set[int], difficult: list[int], tmp_path: Path
) -> None:
    masks, data, notes = imported(write(tmp_path / "data"), tmp_path, **options)
    assert [data.classes[label] for label in masks.classes] == list(shown)
    np.testing.assert_array_equal(masks.objects, [i == IDS for i in shown.values()])
    np.testing.assert_array_equal(masks.void, np.isin(IDS, list(void)))
    (image,) = data.images
    assert (image.id, image.difficult.tolist()) == (4, [bool(one) for one in difficult])
    assert image.crowd.tolist() == [False] * (len(difficult) - 1) + [True]
    assert image.boxes[[0, -2, -1]].tolist() == [[0, 0, 3, 3], [4, 1, 5, 3], [5, 2, 6, 4]]
    assert ("stuff" in "".join(notes)) == (options.get("stuff") != "class")
    assert ("fewer than 3 pixels are void" in "".join(notes)) == ("min_pixels" in options)


def test_two_files_are_splits(tmp_path: Path) -> None:
    """COCO's own folders: annotations/panoptic_train2017.json and the folder of its name, images/train2017."""
    files: dict[str, bytes | str] = {}
    for number, split in enumerate(("train2017", "val2017")):
        files[f"annotations/panoptic_{split}.json"] = document()
        files[f"annotations/panoptic_{split}/a.png"] = panoptic_png(IDS)
        files[f"{split}/a.jpg"] = jpeg(6, 4, seed=number)
    masks, data, _ = imported(put(tmp_path / "coco", files), tmp_path)
    assert [(image.file_name, image.splits) for image in data.images] == [
        ("train2017/a.jpg", ("train",)),
        ("val2017/a.jpg", ("val",)),
    ]
    assert len(masks.objects) == 2


def broken(change: Callable[[dict[str, Any]], None]) -> str:
    parsed = json.loads(document())
    change(parsed)
    return json.dumps(parsed)


def of_segment(**values: Any) -> str:
    return broken(lambda d: d["annotations"][0]["segments_info"][0].update(values))


WRONG = [
    (document(annotations={}), "has no list annotations; is it COCO's panoptic form"),
    (document(annotations=[{"image_id": 4, "bbox": [1, 2, 3, 4]}]), "no segments_info; for boxes .* use `import coco`"),
    (document(annotations=[]), r"image 4 \(a.jpg\) has no annotation; add it or remove the image"),
    (of_segment(category_id=3), "category_id 3 of a segment is not among the categories"),
    (of_segment(id=6), "segment id 6 is not a number of its own"),
    (of_segment(id=0), "segment id 0 is not a number of its own"),
    (of_segment(iscrowd="maybe"), "iscrowd of a segment is 'maybe', not 0 or 1"),
    (of_segment(id=55), "masks/a.png: has the id 5, which its segments_info lacks"),
    (
        broken(lambda d: d["annotations"][0].update(file_name="../a.png")),
        r"mask's file_name is '\.\./a.png'; correct it",
    ),
    (broken(lambda d: d["annotations"][0].update(file_name="b.png")), "masks/b.png: there is no such file"),
    (broken(lambda d: d["annotations"].append(d["annotations"][0])), "image_id 4 is that of another annotation, too"),
    (broken(lambda d: d["categories"].append(CATEGORIES[0])), "category 17 'cat': has no id and name of its own"),
    (broken(lambda d: d["images"][0].pop("file_name")), "an image has no id or file_name"),
    (document(categories=[*CATEGORIES, {"id": 20, "name": "cat"}]), "a name occurs more than once"),
]


@pytest.mark.parametrize(("text", "match"), WRONG)
def test_files_that_are_wrong(text: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=match) as caught:
        imported(write(tmp_path / "data", text), tmp_path)
    assert len(caught.value.problems) == 1


def test_masks_that_are_missing_or_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"masks/a.png: is 6 x 2 but its image a.jpg is 6 x 4"):
        imported(write(tmp_path / "data", ids=np.vstack([IDS[1:3]])), tmp_path)
    (tmp_path / "data/masks/a.png").unlink()
    (tmp_path / "data/masks").rmdir()
    with pytest.raises(
        DatasetError, match=r"there is no folder panoptic/ or masks/ beside it; name that .* by --masks"
    ):
        imported(tmp_path / "data", tmp_path)


def test_pixels_are_counted_and_masks_drawn(tmp_path: Path) -> None:
    _, data, _ = imported(write(tmp_path / "data"), tmp_path, stuff="class")
    source = ImageSource.registered(tmp_path / "artifacts/datasets/one")
    rows = {
        line.split()[0]: line.split()[-3:]
        for line in describe(data, source).split("pixels")[1].splitlines()[1:]
        if line
    }
    assert {name: rows[name][0] for name in ("cat", "dog", "sky", "void")} == {
        **{"cat": "9", "dog": "2"},
        **{"sky": str((IDS == 70_000).sum()), "void": str(np.isin(IDS, [0, 7]).sum())},
    }
    assert rows["cat"][1:] == ["37.50%", "1"]
    assert "pixels" not in describe(data)
    plain = ImageSource(source.root, masks=source.masks)
    assert contact_sheet(data, plain, n=1) != contact_sheet(without_masks(data), plain, n=1)


def without_masks(data: Dataset) -> Dataset:
    return replace(data, images=tuple(replace(image, masks=None) for image in data.images))
