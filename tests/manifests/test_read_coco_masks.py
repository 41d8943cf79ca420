"""COCO's polygons and run lengths as masks: against pycocotools, with crowds, and where they do not fit."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from manifests import Dataset, DatasetError, ImageSource, ReadOptions, import_dataset, read_coco
from manifests.masks import Masks, read_masks

SQUARE = [2, 2, 20, 2, 20, 20, 2, 20]


def row(number: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    box = {"bbox": [2, 2, 18, 18], "area": 300, "iscrowd": 0}
    return {"id": number, "image_id": 7, "category_id": 5, **box, "segmentation": segmentation} | more


def imported(root: Path, project: Path) -> tuple[list[Masks], Dataset, list[str]]:
    found = import_dataset("coco", root, "one", ReadOptions(segmentation=True), project / "artifacts")
    source = ImageSource.registered(project / "artifacts/datasets/one")
    masks = [read_masks(source, image, found.dataset.category_ids) for image in found.dataset.images]
    return masks, found.dataset, list(found.source.notes)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools under numpy 2
def test_masks_are_those_of_pycocotools(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    rows = [
        row(1, [SQUARE, [25.5, 3.25, 38, 3, 30, 28.75]]),
        row(2, {"counts": [100, 200, 900], "size": [30, 40]}, category_id=2),
        row(3, [[5, 5, 15, 5, 15, 15]]),
    ]
    root = make_coco(annotations=rows)
    masks, data, notes = imported(root, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(root / "instances.json"))
    shown = next(one for one, image in zip(masks, data.images, strict=True) if image.id == 7)
    np.testing.assert_array_equal(shown.objects, [theirs.annToMask(theirs.anns[i]) for i in (1, 2, 3)])
    assert [data.classes[label] for label in shown.classes] == ["dog", "cat", "dog"]
    # the smaller one on top
    assert data.classes[shown.class_map()[6, 9] - 1] == "dog"
    assert not any("segmentation" in note for note in notes)


def test_crowds_are_void_where_no_object_is(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    crowd = {"counts": [0, 600, 600], "size": [30, 40]}
    masks, data, _ = imported(make_coco(annotations=[row(1, [SQUARE]), row(2, crowd, iscrowd=1)]), tmp_path)
    (shown,) = (one for one, image in zip(masks, data.images, strict=True) if image.id == 7)
    left = np.zeros((30, 40), bool)
    left[:, :20] = True
    np.testing.assert_array_equal(shown.void, left & ~shown.objects[0])
    assert shown.rows.tolist() == [0]


def test_an_object_without_segmentation_is_counted(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    masks, _, notes = imported(make_coco(annotations=[row(1, None), row(2, [SQUARE])]), tmp_path)
    assert [one.rows.tolist() for one in masks if len(one.rows)] == [[1]]
    assert "1 objects have no segmentation, so that their pixels are background" in notes


@pytest.mark.parametrize(
    ("segmentation", "match"),
    [
        ({"counts": [0, 600, 600], "size": [40, 30]}, "its RLE is of a 30 x 40 image, but the image is 40 x 30"),
        ({"counts": [0, 600], "size": [30, 40]}, "its RLE's runs cover 600 pixels, but the image has 1200"),
        ({"counts": [-(10**30), 1200], "size": [30, 40]}, "its RLE has a run that is no length"),
        ([[1, 2, 3]], "its polygon has 3 numbers"),
        ("nothing", "neither RLE nor a list of polygons"),
    ],
)
def test_segmentations_that_do_not_fit(make_coco: Callable[..., Path], segmentation: Any, match: str) -> None:
    """One line each that names the annotation; without --segmentation they are kept, unread."""
    root = make_coco(annotations=[row(1, segmentation), row(2, [SQUARE], image_id=3)])
    with pytest.raises(DatasetError, match=match) as caught:
        read_coco(root, ReadOptions(segmentation=True))
    assert len(caught.value.problems) == 1 and "annotation 1" in caught.value.problems[0]
    data, _, _ = read_coco(root, ReadOptions(segmentation=True, on_error="skip"))
    assert sum(len(image.boxes) for image in data.images) == 1
    assert sum(len(image.boxes) for image in read_coco(root)[0].images) == 2


def test_an_image_with_a_mask_that_cannot_be_drawn_is_left_out(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    """Kept, it would say that this object's pixels are background; without --segmentation nothing is left out."""
    wrong = {"counts": [0, 600], "size": [30, 40]}
    root = make_coco(annotations=[row(1, wrong), row(2, [SQUARE]), row(3, [SQUARE], image_id=3)])
    data, _, notes = read_coco(root, ReadOptions(segmentation=True, on_error="skip"))
    assert [image.id for image in data.images] == [3]
    told = "(a.jpg): the whole image a.jpg: the masks of 1 of its 2 objects cannot be used"
    assert f"left out: instances.json: image 7 {told}" in notes
    assert "pictures: 2 seen, 1 taken, 1 left out" in notes
    data, _, _ = read_coco(root, ReadOptions(on_error="skip"))
    assert sum(len(image.boxes) for image in data.images) == 3


def test_masks_drawn_before_an_exif_turn_are_a_problem(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    """Boxes are turned with the picture, but of masks nothing would be left; objects without one are turned."""
    root = make_coco(annotations=[row(1, [SQUARE]), row(2, [SQUARE], image_id=3)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(root / "images/a.jpg", exif=exif)
    with pytest.raises(DatasetError, match=r"\(a.jpg\): its masks were drawn before the EXIF turn of a.jpg") as caught:
        read_coco(root, ReadOptions(segmentation=True))
    assert len(caught.value.problems) == 1
    data, _, notes = read_coco(root, ReadOptions(segmentation=True, on_error="skip"))
    assert [image.id for image in data.images] == [3]
    assert not any("their boxes were turned" in note for note in notes)
    assert len(read_coco(root)[0].images) == 2
    bare = json.loads((root / "instances.json").read_text())
    del bare["annotations"][0]["segmentation"]
    (root / "instances.json").write_text(json.dumps(bare))
    data, _, notes = read_coco(root, ReadOptions(segmentation=True))
    assert data.image("a").boxes.tolist() == [[10, 2, 28, 20]]
    assert "1 objects have no segmentation, so that their pixels are background" in notes
