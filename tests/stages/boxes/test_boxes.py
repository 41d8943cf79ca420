"""Boxes against torchvision, and by property."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torchvision.ops import box_area, box_iou, clip_boxes_to_image

from stages.boxes.geometry import area, class_overlaps, clip, in_crowd, iou, mirrored_boxes, paired_iou, touched


@st.composite
def box_arrays(draw: st.DrawFn, least: int = 0) -> np.ndarray:
    n = draw(st.integers(least, 12))
    corner = st.integers(-20, 60)
    rows = [[draw(corner), draw(corner), draw(st.integers(0, 40)), draw(st.integers(0, 40))] for _ in range(n)]
    xywh = np.asarray(rows, np.float32).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


@settings(deadline=None, max_examples=60)
@given(box_arrays(), box_arrays())
def test_area_and_iou_equal_torchvision(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_array_equal(area(a), box_area(torch.from_numpy(a).double()).numpy())
    expected = box_iou(torch.from_numpy(a).double(), torch.from_numpy(b).double()).nan_to_num(0).numpy()
    np.testing.assert_allclose(iou(a, b), expected, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(paired_iou(a, a[::-1]), iou(a, a[::-1]).diagonal())


def test_iou_in_the_authors_inclusive_convention() -> None:
    # 1-based inclusive [1 1 10 10] and [6 1 15 10]: 5x10 of 150 pixels (by counting pixels).
    ours = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], np.float32)
    assert iou(ours[:1], ours[1:])[0, 0] == pytest.approx(50 / 150)


def test_class_overlaps_by_hand() -> None:
    gt = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 20]], np.float32)
    out = class_overlaps(gt[:1], gt, np.array([2, 2, 0]), 4)
    np.testing.assert_allclose(out, [[0.5, 0, 1, 0]])
    assert class_overlaps(gt, np.zeros((0, 4)), np.zeros(0, int), 2).tolist() == [[0, 0]] * 3


@settings(deadline=None, max_examples=60)
@given(box_arrays(), st.integers(1, 40), st.integers(1, 40))
def test_clip_equals_torchvision(boxes: np.ndarray, width: int, height: int) -> None:
    expected = clip_boxes_to_image(torch.from_numpy(boxes), (height, width)).numpy()
    np.testing.assert_array_equal(clip(boxes, width, height), expected)


def test_mirrored_boxes() -> None:
    boxes = np.array([[1, 2, 5, 9], [0, 0, 20, 4]], np.float32)
    np.testing.assert_array_equal(mirrored_boxes(boxes, 20), [[15, 2, 19, 9], [0, 0, 20, 4]])


@settings(deadline=None, max_examples=30)
@given(box_arrays(), st.integers(60, 200))
def test_the_mirror_image_of_a_mirror_image_is_the_image(boxes: np.ndarray, width: int) -> None:
    np.testing.assert_array_equal(mirrored_boxes(mirrored_boxes(boxes, width), width), boxes)


def test_in_a_crowd_region_is_what_is_covered_by_more_than_seven_tenths_of_one() -> None:
    regions = np.array([[0, 0, 10, 10], [10, 0, 20, 10]], np.float32)
    boxes = np.array([[3, 0, 13, 10], [2, 0, 12, 10], [5, 0, 15, 10], [5, 5, 5, 9]], np.float32)
    assert in_crowd(boxes, regions).tolist() == [False, True, False, False]
    assert in_crowd(boxes, regions[:0]).tolist() == [False] * 4


@given(arrays(np.float32, 4, elements=st.floats(-6, 14, width=32)))
def test_a_box_touches_the_pixels_that_its_inside_meets(corners: NDArray[np.float32]) -> None:
    """Against looking at every pixel of an image of 9 x 7; parts outside it are no pixels."""
    x1, x2 = sorted(corners[[0, 2]].tolist())
    y1, y2 = sorted(corners[[1, 3]].tolist())
    left, top, right, bottom = touched((x1, y1, x2, y2), 9, 7)
    inside = {(x, y) for x in range(left, right) for y in range(top, bottom)}
    if x1 < x2 and y1 < y2:
        assert inside == {(x, y) for x in range(9) for y in range(7) if x + 1 > x1 and x < x2 and y + 1 > y1 and y < y2}
    assert 0 <= left <= right <= 9 and 0 <= top <= bottom <= 7
