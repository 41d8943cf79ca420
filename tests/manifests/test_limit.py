"""Taking so many objects of each class from images annotated in part."""

from collections import Counter
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_arrays import as_boxes, as_labels

from cache.errors import StageError
from manifests import Dataset, ImageRecord
from manifests.limit import limited
from manifests.select import is_searched, require_exhaustive

Way = Literal["boxes", "images"]
WAYS: tuple[Way, ...] = ("boxes", "images")


def image(number: int, labels: list[int], *, exhaustive: bool = False, split: str = "train") -> ImageRecord:
    boxes = as_boxes([[i, 0, i + 1, 1] for i in range(len(labels))])
    details = tuple({"pose": str(i)} for i in range(len(labels)))
    return ImageRecord(
        number,
        f"{number}.jpg",
        99,
        9,
        "0" * 64,
        split,
        boxes,
        as_labels(labels),
        details=details,
        exhaustive=exhaustive,
    )


def dataset(*images: ImageRecord) -> Dataset:
    return Dataset("d", ("a", "b", "c"), images)


def counts(data: Dataset) -> Counter[int]:
    return Counter(label for one in data.images for label in one.labels.tolist())


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=12), st.integers(1, 6))
def test_each_class_has_as_many_as_it_can(shown: list[list[int]], most: int) -> None:
    data = dataset(*(image(i, labels) for i, labels in enumerate(shown, 1)))
    kept = limited(data, "train", most, "boxes")
    there = counts(data)
    assert counts(kept) == {label: min(count, most) for label, count in there.items()}
    for one in kept.images:
        assert len(one.labels) and [int(d["pose"]) for d in one.details] == one.boxes[:, 0].tolist()
    by_image = limited(data, "train", most, "images")
    for label in there:
        images = [one for one in data.images if label in one.labels]
        assert sum(label in one.labels for one in by_image.images) >= min(most, len(images))
    assert all(one in data.images for one in by_image.images)


@pytest.mark.parametrize("way", WAYS)
def test_others_are_never_cut(way: Way) -> None:
    full, tested = image(1, [0] * 5, exhaustive=True), image(2, [0] * 5, split="test")
    data = dataset(full, tested, image(3, [0, 0]), image(4, [0]), image(5, [1]), image(6, []))
    kept = limited(data, "train", 1, way)
    assert kept.images[:2] == (full, tested)
    assert [one.id for one in kept.images].count(5) == 1
    assert len(kept.images) == 4


def test_another_image_moves_none_of_the_others() -> None:
    data = [image(i, [i % 3]) for i in range(1, 40)]
    before = {one.id for one in limited(dataset(*data), "train", 5, "boxes").images}
    after = {one.id for one in limited(dataset(*data, image(99, [0])), "train", 5, "boxes").images}
    assert len(before - after) <= 1 and after - before <= {99}
    assert limited(dataset(*data), "train", 100, "boxes") == dataset(*data)


def test_crowds_are_no_objects() -> None:
    one = image(1, [0, 0])
    crowd = ImageRecord(
        2, "2.jpg", 99, 9, "0" * 64, "train", one.boxes, one.labels, crowd=np.array([True, False]), exhaustive=False
    )
    assert [len(kept.labels) for kept in limited(dataset(crowd), "train", 3, "boxes").images] == [1]


def test_what_is_searched_and_what_is_refused() -> None:
    partial, full, tested = image(1, [0]), image(2, [0], exhaustive=True), image(3, [0], split="test")
    assert [is_searched(one) for one in (partial, full, tested)] == [False, True, True]
    require_exhaustive([full], "rpn")
    with pytest.raises(StageError, match=r"rpn: 1 of 2 training images are annotated in part .* such as 1\.jpg"):
        require_exhaustive([full, partial], "rpn")
    with pytest.raises(StageError, match=r"by manifest\.train$"):
        require_exhaustive([partial], "region_overlaps", other="")
