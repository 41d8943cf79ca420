"""What regressors are to say: against drawn masks, by hand, and the same from three ways to give masks (property)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from manifests import ImageRecord
from manifests.masks import Masks
from stages.regions.image_regions import ImageRegions
from stages.segmentation.overlaps import Overlaps, background_overlaps, class_maxima, large_enough, overlaps_of
from stages.segmentation.region_features import drawing, object_rows


def masks_by_hand() -> Masks:
    """Six by six pixels: two objects of class 1 and one of class 0, which overlaps the first; a void column."""
    objects, void = np.zeros((3, 6, 6), bool), np.zeros((6, 6), bool)
    objects[0, :3, :3] = True
    objects[1, 4:, 3:] = True
    objects[2, 2:4, 2:5] = True
    void[:, 5] = True
    objects &= ~void
    return Masks(objects, np.array([1, 1, 0]), np.array([0, 2, -1]), void)


BOXES = np.array([[0, 0, 3, 3], [0, 0, 6, 6], [3, 3, 6, 6]], np.float32)


def by_hand() -> Overlaps:
    regions = ImageRegions({"boxes": BOXES, "working_size": np.array([6, 6])}, 6, 6)
    return overlaps_of(regions, masks_by_hand())


def test_overlaps_by_hand() -> None:
    found = by_hand()
    # objects of 9, 2 x 2 and 2 x 3 px; the image has 30 that are not void, the last region 2 x 3 of 3 x 3
    expected = np.array([[1, 0, 1 / 14], [9 / 30, 4 / 30, 6 / 30], [0, 4 / 6, 2 / 10]])
    np.testing.assert_allclose(found.iou, expected, rtol=1e-6)
    np.testing.assert_allclose(found.objects, np.array([[1, 0, 1 / 14], [0, 1, 0], [1 / 14, 0, 1]]), rtol=1e-6)


def test_targets_are_the_largest_of_each_class_of_boxed_objects_then_regions() -> None:
    found = by_hand()
    assert found.boxed().tolist() == [0, 1]
    expected = np.array([[1 / 14, 1, 0], [0, 1, 0], [1 / 14, 1, 0], [6 / 30, 9 / 30, 0], [2 / 10, 4 / 6, 0]])
    np.testing.assert_allclose(found.targets(None, 3), expected, rtol=1e-6)
    np.testing.assert_allclose(found.targets(1, 3), expected[:3], rtol=1e-6)


def test_overlap_with_an_object_of_any_class() -> None:
    found = by_hand()
    np.testing.assert_allclose(found.of_any_class(None), [1, 1, 1, 9 / 30, 4 / 6], rtol=1e-6)
    assert np.array_equal(found.of_any_class(2), found.of_any_class(None)[:4])
    none = np.zeros(0, np.int64)
    assert Overlaps(found.iou[:, :0], found.objects[:0, :0], none, none).of_any_class(None).tolist() == [0, 0, 0]


def test_overlap_with_the_background_by_hand() -> None:
    """18 of the 30 pixels that are not void are objects': the background has 12, 4 of them in the last region's 6."""
    boxes = np.array([[0, 0, 3, 3], [0, 0, 6, 6], [3, 0, 6, 3]], np.float32)
    regions = ImageRegions({"boxes": boxes, "working_size": np.array([6, 6])}, 6, 6)
    np.testing.assert_allclose(background_overlaps(regions, masks_by_hand()), [0, 12 / 30, 4 / 14], rtol=1e-6)


def test_an_objects_best_region_counts_again() -> None:
    found = by_hand()
    assert found.counts(None, 0.5).tolist() == [1, 1, 2, 1, 2]  # of the third object none is above
    assert found.counts(None, 0.7).tolist() == [1, 1, 2, 1, 1]
    assert found.counts(2, 0.1).tolist() == [1, 1, 2, 3]
    assert found.counts(None, 0.1).tolist() == [1, 1, 2, 2, 2]


def test_the_best_region_of_each_object() -> None:
    np.testing.assert_allclose(by_hand().best(), [1, 4 / 6, 0.2], rtol=1e-6)
    np.testing.assert_allclose(by_hand().best(1), [1, 0, 1 / 14], rtol=1e-6)
    nothing = overlaps_of(ImageRegions({"boxes": BOXES[:0], "working_size": np.array([6, 6])}, 6, 6), masks_by_hand())
    assert nothing.best().tolist() == [0, 0, 0]
    assert nothing.counts(None, 0.5).tolist() == [1, 1]


def test_small_objects_become_void_but_where_another_lies() -> None:
    masks = masks_by_hand()
    kept = large_enough(masks, 6)  # the second has 4 px
    assert kept.classes.tolist() == [1, 0] and kept.rows.tolist() == [0, -1]
    assert np.array_equal(kept.void, masks.void | masks.objects[1])
    assert large_enough(masks, 4) is masks
    over = replace(masks, objects=np.stack([masks.objects[0], masks.objects[0] & (np.arange(6) < 1), masks.objects[2]]))
    assert np.array_equal(large_enough(over, 6).void, masks.void)


def test_an_image_without_objects_has_targets_of_0() -> None:
    none = Masks(np.zeros((0, 6, 6), bool), np.zeros(0, np.int64), np.zeros(0, np.int64), np.ones((6, 6), bool))
    found = overlaps_of(ImageRegions({"boxes": BOXES, "working_size": np.array([6, 6])}, 6, 6), none)
    assert found.iou.shape == (3, 0)
    assert found.targets(None, 2).tolist() == [[0, 0]] * 3
    assert found.counts(None, 0.5).tolist() == [1, 1, 1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_class_maxima_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    overlaps, classes = rng.random((5, 7)).astype(np.float32), rng.integers(0, 3, 7)
    slow = [[max([o for o, c in zip(row, classes, strict=True) if c == j], default=0) for j in range(4)]
            for row in overlaps]  # fmt: skip
    assert class_maxima(overlaps, classes, 4).tolist() == slow


def test_foregrounds_are_drawn_of_objects_and_then_of_regions() -> None:
    masks = masks_by_hand()
    regions = ImageRegions({"boxes": BOXES, "working_size": np.array([6, 6])}, 6, 6)
    draw = drawing(masks.objects, regions)
    window = (1, 2, 5, 6)
    drawn = [draw(row, window) for row in range(6)]
    whole: list[NDArray[np.bool_]] = [*masks.objects, *(regions.mask(i) for i in range(3))]
    assert all(np.array_equal(one, full[2:6, 1:5]) for one, full in zip(drawn, whole, strict=True))


def test_crowds_have_no_row_among_an_image_s_features() -> None:
    crowd = np.array([True, False, True, False])
    record = ImageRecord(
        1, "a.jpg", 9, 9, "a" * 64, "train", np.tile(np.array([0, 0, 5, 5], np.float32), (4, 1)),
        np.zeros(4, np.int64), crowd=crowd,
    )  # fmt: skip
    assert object_rows(record, np.array([1, 3])).tolist() == [0, 1]
    assert object_rows(record, np.zeros(0, np.int64)).tolist() == []


@pytest.mark.parametrize("limit", [None, 2])
def test_rows_of_targets_and_counts_are_as_many(limit: int | None) -> None:
    found = by_hand()
    assert len(found.targets(limit, 2)) == len(found.counts(limit, 0.5)) == 2 + (limit or 3)
