"""The tables' numbers by hand, and the contact sheet's pixels."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from plain_arrays import as_boxes, as_labels

from manifests import Dataset, DatasetError, ImageRecord, ImageSource, ReadOptions, import_dataset
from manifests.describe import class_colour, contact_sheet, describe, drawn, sheet


def test_counts_and_sizes() -> None:
    def image(
        number: int, splits: tuple[str, ...], boxes: Sequence[Sequence[float]], labels: list[int], **flags: Any
    ) -> ImageRecord:
        name = f"{number}.jpg"
        shown = as_boxes(boxes), as_labels(labels)
        return ImageRecord(number, name, 100 * number, 50, "0" * 64, splits[0], *shown, splits=splits, **flags)

    square = [[0, 0, side, side] for side in (31, 32, 96)]
    dataset = Dataset(
        "d",
        ("cat", "dog", "cow"),
        (
            image(1, ("train", "trainval"), square, [0, 0, 1], difficult=[True, False, False]),
            image(2, ("val", "trainval"), square[:1], [1], crowd=[True], truncated=[True]),
            image(3, ("test",), [], []),
        ),
    )
    rows = [line.split() for line in describe(dataset).splitlines()]
    assert ["objects", "test", "train", "trainval", "val", "all", "difficult", "truncated", "crowd"] in rows
    assert ["cat", "0", "2", "2", "0", "2", "1", "0", "0"] in rows
    assert ["dog", "0", "1", "2", "1", "2", "0", "1", "1"] in rows
    assert ["all", "classes", "0", "3", "4", "1", "4", "1", "1", "1"] in rows
    assert ["images", "1", "1", "2", "1", "3"] in rows
    assert ["cat", "31", "31", "32", "32", "32", "1", "1", "0"] in rows  # 31.5 rounds to even
    assert ["cow", "-", "-", "-", "-", "-", "0", "0", "0"] in rows
    assert "image width 100 to 300 px (median 200), height 50 to 50 px (median 50)" in describe(dataset)


def test_contact_sheet_draws_boxes_in_class_colours(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    dataset = import_dataset("voc", make_voc(), "d", ReadOptions(), tmp_path).dataset
    png = contact_sheet(dataset, ImageSource.registered(tmp_path / "datasets/d"), n=5)
    page = np.asarray(Image.open(io.BytesIO(png)))
    assert page.shape[1] == 2 * 326 + 6
    for index in (0, 1):
        assert (page == class_colour(index)).all(axis=2).sum() > 500
    assert class_colour(0) != class_colour(1)
    with pytest.raises(DatasetError, match="no images to show"):
        contact_sheet(dataset, ImageSource(tmp_path), n=0)


def test_a_caption_stands_right_below_its_picture() -> None:
    """Whatever shapes the pictures of a row and those of the next one have."""
    cells = [Image.new("RGB", size, "red") for size in ((320, 100), (50, 200), (320, 30))]
    page = np.asarray(Image.open(io.BytesIO(sheet(((cell, "a name") for cell in cells), 2)))).astype(int)
    assert page.shape == (6 + 200 + 17 + 6 + 30 + 17 + 6, 2 * 326 + 6, 3)
    red = (page == (255, 0, 0)).all(axis=2)
    for bottom, left, size in ((206, 6, (320, 100)), (206, 332 + 135, (50, 200)), (259, 6, (320, 30))):
        assert red[bottom - size[1] : bottom, left : left + size[0]].all()
        caption = page[bottom : bottom + 17, left - left % 326 : left - left % 326 + 60]
        assert (caption.max(axis=2) < 100).any()
    assert red.sum() == sum(cell.width * cell.height for cell in cells)


def test_a_plain_picture_is_hidden_by_nothing_but_thin_outlines(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    dataset = import_dataset("voc", make_voc(), "d", ReadOptions(), tmp_path).dataset
    source, record = ImageSource.registered(tmp_path / "datasets/d"), dataset.images[0]
    nothing = ImageRecord(
        1, record.file_name, record.width, record.height, record.sha256, record.split, as_boxes([]), as_labels([])
    )
    bare = np.asarray(drawn(nothing, source, dataset.classes))
    changed = [
        (np.asarray(one) != bare).any(axis=2).sum()
        for one in (drawn(record, source, dataset.classes, plain=True), drawn(record, source, dataset.classes))
    ]
    assert 0 < changed[0] < changed[1] / 2


def test_images_annotated_in_part_are_counted() -> None:
    none = np.zeros((0, 4), np.float32)
    images = tuple(
        ImageRecord(i, f"{i}.jpg", 9, 9, "0" * 64, split, none, np.zeros(0, np.int64), exhaustive=i > 1, unscored=own)
        for i, split, own in ((0, "train", ()), (1, "train", ()), (2, "val", (0,)))
    )
    lines = describe(Dataset("d", ("a",), images)).splitlines()
    assert "split train: 2 images are not exhaustively annotated" in lines
    assert "not scored: 1 classes of single images" in lines
