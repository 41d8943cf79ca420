"""The real datasets beside the checkout."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from manifests import DatasetError, ReadOptions, import_dataset, read_voc
from manifests.describe import describe

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
