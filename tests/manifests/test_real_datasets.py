"""The real datasets beside the checkout."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from manifests import DatasetError, ImageSource, ReadOptions, import_dataset, read_coco, read_voc
from manifests.describe import describe
from manifests.masks import read_masks

DATA = Path(__file__).parents[2] / "../shared/data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real data (../shared/data) is not beside the checkout"),
]


def test_raccoon(tmp_path: Path) -> None:
    done = import_dataset("voc", DATA / "raccoon", "raccoon", ReadOptions(), tmp_path)
    assert {split: len(done.dataset.split(split)) for split in done.dataset.splits} == {"test": 50, "train": 150}
    assert sum(len(image.boxes) for image in done.dataset.images) == 217
    assert sum("same picture" in note for note in done.source.notes) == 4


def test_bccd(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_voc(DATA / "bccd")
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "Annotations/BloodImage_00338.xml",
        "Annotations/BloodImage_00343.xml",
    ]
    dataset = import_dataset("voc", DATA / "bccd", "bccd", ReadOptions(on_error="skip"), tmp_path).dataset
    counts = {split: len(dataset.split(split)) for split in dataset.splits}
    assert counts == {"test": 72, "train": 205, "trainval": 292, "val": 87}
    rows = [line.split() for line in describe(dataset).splitlines()]
    assert next(row for row in rows if row[:1] == ["RBC"])[5] == "4153"


def test_coco128(tmp_path: Path) -> None:
    done = import_dataset("coco", DATA / "coco128", "coco128", ReadOptions(), tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO(str(tmp_path / "datasets/coco128/manifest.json"))
        theirs = COCO(str(DATA / "coco128/instances.json"))
    assert ours.getCatIds() == theirs.getCatIds()
    assert sorted(ours.getImgIds()) == sorted(theirs.getImgIds())

    def rows(coco: COCO) -> list[tuple[Any, ...]]:
        return sorted(
            (a["image_id"], a["category_id"], *(round(v, 3) for v in a["bbox"]), a["area"], a["iscrowd"])
            for a in coco.anns.values()
        )

    assert rows(ours) == rows(theirs)
    assert "drawn by seed 0" in done.source.notes[0]


def test_coco128_panoptic(tmp_path: Path) -> None:
    """The panoptic masks of 100 of its images beside its own boxes: nearly every thing is where COCO's box says."""
    options = ReadOptions(images=str(DATA / "coco128/images"))
    data = import_dataset("panoptic", DATA / "coco128_panoptic", "masks", options, tmp_path / "artifacts").dataset
    boxes = {image.id: image.boxes for image in read_coco(DATA / "coco128")[0].images}
    near = [
        iou(one.boxes[~one.crowd], boxes[one.id]).max(axis=1)
        for one in data.images
        if len(boxes[one.id]) and len(one.boxes)
    ]
    assert len(data.images) == 100 and len(np.concatenate(near)) > 600
    assert (np.concatenate(near) > 0.9).mean() > 0.9
    source = ImageSource.registered(tmp_path / "artifacts/datasets/masks")
    image = data.images[0]
    masks = read_masks(source, image, data.category_ids)
    assert masks.rows.tolist() == list(range(len(image.boxes)))
    for mask, box in zip(masks.objects, image.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def iou(a: Any, b: Any) -> Any:
    """IoU of every two boxes, [n, m]."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    both = sides.clip(0).prod(axis=2)
    areas = [(c[:, 2:] - c[:, :2]).prod(axis=1) for c in (a, b)]
    return both / (areas[0][:, None] + areas[1][None] - both)
