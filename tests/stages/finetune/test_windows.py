"""Which windows are foreground and background."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.finetune.settings import FinetuneSettings
from stages.finetune.windows import (
    Limits,
    classes_shown,
    collect,
    concatenate,
    image_windows,
    label_boxes,
)

GT = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
GT_LABELS = np.array([2, 0])
NO_CROWD = np.zeros(2, bool)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_labels_of_hand_computed_overlaps() -> None:
    asked = boxes(
        (0, 0, 10, 10),  # IoU 1 with class 2
        (0, 0, 10, 5),  # 50 / 100: exactly 0.5 is foreground
        (0, 0, 10, 4.9),  # 0.49
        (20, 0, 30, 20),  # 100 / 200: exactly 0.5 with class 0
        (50, 50, 60, 60),  # no overlap at all is background too
        (0, 0, 30, 10),  # 1/3 with both
    )
    labels = label_boxes(asked, GT, GT_LABELS, n_classes=4)
    np.testing.assert_array_equal(labels, [3, 3, 0, 1, 0, 0])


def test_windows_between_two_limits_are_in_neither_pool() -> None:
    asked = boxes((0, 0, 10, 7), (0, 0, 10, 6), (0, 0, 10, 3), (0, 0, 10, 2.9))
    labels = label_boxes(asked, GT, GT_LABELS, n_classes=4, limits=Limits(0.7, 0.3))
    np.testing.assert_array_equal(labels, [3, -1, -1, 0])
    kept, kept_labels = image_windows(GT, GT_LABELS, NO_CROWD, asked, n_classes=4, limits=Limits(0.7, 0.3))
    np.testing.assert_array_equal(kept, np.concatenate([GT, asked[[0, 3]]]))
    np.testing.assert_array_equal(kept_labels, [3, 1, 3, 0])


def test_background_may_have_to_be_near_an_object() -> None:
    # IoU 2/3, 60/140, 100/1000 (exactly the limit is background), 100/1010, 0
    asked = boxes((0, 0, 15, 10), (0, 4, 10, 14), (0, 0, 10, 100), (0, 0, 10, 101), (50, 50, 60, 60))
    limits = Limits(bg_low=0.1)
    assert label_boxes(asked, GT[:1], GT_LABELS[:1], n_classes=4, limits=limits).tolist() == [3, 0, 0, -1, -1]
    assert label_boxes(asked, GT[:1], GT_LABELS[:1], n_classes=4).tolist() == [3, 0, 0, 0, 0]
    no_object = label_boxes(asked, GT[:0], GT_LABELS[:0], n_classes=4, limits=limits)
    assert no_object.tolist() == [-1] * 5
    with pytest.raises(ValueError, match=r"bg_iou_low \(0.3\) must be below finetune.bg_iou \(0.3\)"):
        FinetuneSettings(bg_iou=0.3, bg_iou_low=0.3)


def test_image_without_objects_is_all_background() -> None:
    none = np.zeros((0, 4), np.float32)
    kept, labels = image_windows(none, np.zeros(0, int), np.zeros(0, bool), GT, n_classes=4)
    assert len(kept) == 2
    np.testing.assert_array_equal(labels, [0, 0])


def test_crowd_is_no_object_and_what_lies_in_it_is_dropped() -> None:
    asked = boxes((20, 0, 28, 8), (20, 0, 40, 10), (40, 0, 50, 10), (3, 3, 3, 9))
    crowd = np.array([False, True])
    kept, labels = image_windows(GT, GT_LABELS, crowd, asked, n_classes=4)
    # the first lies in the crowd region whole; of the second, half does; the last has no area
    np.testing.assert_array_equal(kept, np.concatenate([GT[:1], asked[1:3]]))
    np.testing.assert_array_equal(labels, [3, 0, 0])


def record(ident: int, gt: np.ndarray, labels: list[int], difficult: list[bool]) -> Any:
    return SimpleNamespace(
        id=ident, boxes=gt, labels=np.array(labels), crowd=np.zeros(len(gt), bool), difficult=np.array(difficult)
    )


def test_ground_truth_rows_come_first_and_difficult_ones_count() -> None:
    records = [record(0, GT, [2, 0], [True, False]), record(1, GT[:1], [1], [False])]
    proposals = {0: boxes((0, 0, 9, 9), (80, 80, 90, 90)), 1: boxes((20, 0, 30, 10))}
    first, second = collect(records, lambda r: proposals[r.id], n_classes=3, limits=Limits())
    np.testing.assert_array_equal(first.boxes, np.concatenate([GT, proposals[0]]))
    np.testing.assert_array_equal(first.labels, [3, 1, 3, 0])
    np.testing.assert_array_equal(first.images, [0, 0, 0, 0])
    np.testing.assert_array_equal(second.labels, [2, 0])
    np.testing.assert_array_equal(second.images, [1, 1])
    assert classes_shown([first, second], 3).tolist() == [[True, False, True], [False, True, False]]
    assert concatenate([first, second]).images.tolist() == [0, 0, 0, 0, 1, 1]
