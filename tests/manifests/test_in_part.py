"""Splits that are said to be annotated in part."""

from collections.abc import Callable
from pathlib import Path

import pytest

from manifests import DatasetError, ReadOptions, import_dataset, load_registered, read_folders, read_voc, read_yolo
from manifests import refresh as refresh_dataset


def partial(names: str) -> ReadOptions:
    return ReadOptions(in_part=tuple(names.split()))


def test_the_images_of_the_split_are_marked_and_stay_so(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    dataset = import_dataset("voc", make_voc(), "mine", partial("train"), tmp_path).dataset
    assert {image.split: image.exhaustive for image in dataset.images} == {"train": False, "test": True}
    assert load_registered("mine", tmp_path).dataset == dataset == refresh_dataset("mine", tmp_path).dataset
    again = import_dataset("voc", tmp_path / "voc", "mine", ReadOptions(), tmp_path).dataset
    assert all(image.exhaustive for image in again.images)


def test_of_any_format_with_boxes(make_yolo: Callable[..., Path]) -> None:
    text = "train: images/train\nval: images/val\nnames: [cat]"
    root = make_yolo({"train/a": "0 .5 .5 .5 .5", "val/b": "0 .5 .5 .5 .5"}, text)
    assert [image.exhaustive for image in read_yolo(root, partial("train"))[0].images] == [False, True]


def test_splits_that_cannot_be(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--in-part trian: .* no such split \(did you mean 'train'\?\)"):
        read_voc(make_voc(), partial("trian"))
    options = ReadOptions(in_part=("test",), unannotated=("test",), ignore_annotations=True)
    with pytest.raises(DatasetError, match="--in-part test: --unannotated names it, too"):
        read_voc(tmp_path / "voc", options)
    with pytest.raises(DatasetError, match="in_part: is for datasets with boxes"):
        read_folders(tmp_path, partial("train"))
