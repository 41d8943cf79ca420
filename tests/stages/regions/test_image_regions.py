"""Regions at an image's size: sums up the merge tree against drawn masks, exactly."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.proposals.region_arrays import region_arrays
from stages.proposals.selective_search.search import selective_search
from stages.regions.image_regions import ImageRegions
from stages.regions.masks import region_mask

OPTIONS: dict[str, Any] = {
    "k": (30, 60),
    "colors": ("hsv", "lab"),
    "strategies": ("color_texture_size_fill", "texture_size_fill"),
    "sigma": 0.8,
    "min_region_px": None,
    "min_side_px": 4,
    "max_proposals": None,
}


def patches(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A picture of flat squares with noise, which makes some dozens of segments."""
    rng = np.random.default_rng(seed)
    flat = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return np.clip(flat[:height, :width] + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def searched(height: int, width: int, seed: int, resize: int | None = None) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return region_arrays(selective_search(patches(height, width, seed), rng, resize_width_px=resize, **OPTIONS))


def objects_of(height: int, width: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Objects that overlap, one of them empty, and void pixels, some of them in objects."""
    rng = np.random.default_rng(seed)
    objects = rng.random((4, height // 10 + 1, width // 10 + 1)) < 0.3
    objects[3] = False
    objects = objects.repeat(10, axis=1).repeat(10, axis=2)[:, :height, :width]
    return objects, rng.random((height, width)) < 0.1


def check(regions: ImageRegions, masks: list[NDArray[np.bool_]], height: int, width: int, seed: int) -> None:
    objects, void = objects_of(height, width, seed)
    shared = regions.shared(objects, void)
    drawn = np.stack(masks) & ~void
    cared = objects & ~void
    assert shared.inside.tolist() == [[int((one & other).sum()) for other in cared] for one in drawn]
    assert shared.regions.tolist() == drawn.sum(axis=(1, 2)).tolist()
    assert shared.objects.tolist() == cared.sum(axis=(1, 2)).tolist()
    expected = [[(one & other).sum() / max((one | other).sum(), 1) for other in cared] for one in drawn]
    np.testing.assert_allclose(shared.overlaps(), expected, rtol=1e-6)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(30, 70), width=st.integers(30, 70))
def test_sums_up_the_tree_are_those_of_drawn_masks(seed: int, height: int, width: int) -> None:
    arrays = searched(height, width, seed)
    regions = ImageRegions(arrays, height, width)
    masks = [region_mask(arrays, i) for i in range(len(regions))]
    assert len(regions) > 10
    assert all(np.array_equal(regions.mask(i), mask) for i, mask in enumerate(masks))
    check(regions, masks, height, width, seed)


@pytest.mark.parametrize("resize", [33, 90])
def test_regions_found_at_another_size_are_stretched_to_the_image(resize: int) -> None:
    height, width = 50, 60
    arrays = searched(height, width, 3, resize)
    regions = ImageRegions(arrays, height, width)
    masks = []
    for i in range(len(regions)):
        drawn = region_mask(arrays, i)
        small = drawn.shape
        middle = [[drawn[int((y + 0.5) * small[0] / height), int((x + 0.5) * small[1] / width)] for x in range(width)]
                  for y in range(height)]  # fmt: skip
        masks.append(np.array(middle))
    nearest = cv2.resize(region_mask(arrays, 0).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    assert (nearest != masks[0]).mean() < 0.1
    assert all(np.array_equal(regions.mask(i), mask) for i, mask in enumerate(masks))
    check(regions, masks, height, width, 3)


def test_a_window_of_a_mask_is_that_part_of_it() -> None:
    arrays = searched(40, 50, 5)
    boxes = {"boxes": np.array([[3, 4, 20, 30], [0, 0, 50, 40]], np.float32), "working_size": np.array([40, 50])}
    for one in (arrays, boxes):
        regions = ImageRegions(one, 40, 50)
        for i in range(min(len(regions), 5)):
            assert np.array_equal(regions.mask(i, (7, 2, 41, 33)), regions.mask(i)[2:33, 7:41])


@pytest.mark.parametrize("resize", [None, 33, 90])
def test_windows_are_those_of_places_at_the_images_size(resize: int | None) -> None:
    """The segments' places stretched to the image, and of these the window, as it once was; kept as small as found."""
    height, width = 50, 60
    arrays = searched(height, width, 3, resize)
    regions = ImageRegions(arrays, height, width)
    rng = np.random.default_rng(0)
    windows = [(0, 0, width, height), (7, 2, 7, 33), (7, 33, 20, 33), (59, 49, 60, 50)]
    for _ in range(8):
        (x1, x2), (y1, y2) = (np.sort(rng.integers(0, side + 1, 2)).tolist() for side in (width, height))
        windows.append((x1, y1, x2, y2))
    for i in range(0, len(regions), 7):
        hierarchy, node = arrays["regions"][i]
        first, after = regions._spans[hierarchy][node]
        labels = regions._labels(int(arrays["hierarchies"][hierarchy][0]))
        places = regions._spans[hierarchy][:, 0][labels]
        assert places.shape == (height, width)
        for x1, y1, x2, y2 in windows:
            former = (places[y1:y2, x1:x2] >= first) & (places[y1:y2, x1:x2] < after)
            np.testing.assert_array_equal(regions.mask(i, (x1, y1, x2, y2)), former)
    assert {places.shape for places in regions._placed.values()} == {arrays["labels"].shape[1:]}


def test_a_region_that_is_only_a_box_is_every_pixel_that_it_touches() -> None:
    arrays = {
        "boxes": np.array([[1.5, 2, 4.2, 5], [0, 0, 12, 10], [11.5, 9.5, 12, 10]], np.float32),
        "working_size": np.array([10, 12], np.int32),
    }
    regions = ImageRegions(arrays, 10, 12)
    assert [int(regions.mask(i).sum()) for i in range(3)] == [4 * 3, 120, 1]
    check(regions, [region_mask(arrays, i) for i in range(3)], 10, 12, 2)


def test_overlaps_by_hand() -> None:
    """Six by six pixels: an object of two by three, one void pixel in it and two in the region beside it."""
    objects, void = np.zeros((1, 6, 6), bool), np.zeros((6, 6), bool)
    objects[0, 1:3, 1:4] = True
    void[1, 1] = void[4, 1] = void[4, 2] = True
    boxes = np.array([[1, 1, 3, 5], [0, 0, 6, 6], [4, 4, 6, 6]], np.float32)
    shared = ImageRegions({"boxes": boxes, "working_size": np.array([6, 6])}, 6, 6).shared(objects, void)
    # region 0: 2 x 4 px, less 3 void ones; it shares 2 x 2 px less 1 with the object, which has 5 left
    np.testing.assert_allclose(shared.overlaps()[:, 0], [3 / (5 + 5 - 3), 5 / 33, 0])
