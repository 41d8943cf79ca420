"""At which scale a region is looked at: worked by hand, and by the authors' formula region by region."""

import numpy as np

from stages.fast.images import scaled_size
from stages.fast.scales import nearest_scales

FIVE = (480, 576, 688, 864, 1200)


def test_the_area_decides() -> None:
    sizes = [scaled_size(500, 400, scale, 2000) for scale in FIVE]  # 1.2, 1.44, 1.72, 2.16, 3 times as large
    sides = [400, 187, 155, 130, 104, 80, 20]  # 224 / 1.2 = 186.7, / 1.44 = 155.6, / 1.72 = 130.2 / 2.16 = 103.7
    boxes = np.array([[0, 0, side, side] for side in sides], np.float32)
    assert nearest_scales(boxes, sizes).tolist() == [0, 0, 1, 2, 3, 4, 4]
    wide = np.array([[0, 0, 400, 60.5]], np.float32)  # as large as a square of 155.6
    assert nearest_scales(wide, sizes).tolist() == [1]
    assert nearest_scales(np.zeros((0, 4), np.float32), sizes).shape == (0,)


def test_it_is_the_areas_that_are_compared_not_the_sides() -> None:
    """185.5 px: at 1 it is 38.5 px short of 224, at 1.4 35.7 too long; but 15,766 px short, and 17,268 too many."""
    sizes = [scaled_size(1000, 1000, 1000, None), scaled_size(1000, 1000, 1400, None)]
    assert nearest_scales(np.array([[0, 0, 185.5, 185.5]], np.float32), sizes).tolist() == [0]


def test_where_the_longer_side_is_capped_the_scale_is_the_capped_one() -> None:
    sizes = [scaled_size(1000, 250, scale, 2000) for scale in FIVE]  # 1.92, then 2 for all
    assert nearest_scales(np.array([[0, 0, 50, 50]], np.float32), sizes).tolist() == [1]  # the first of equals


def test_the_authors_formula_region_by_region() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (200, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 300, (200, 2))], 1).astype(np.float32)
    sizes = [scaled_size(600, 600, scale, 2000) for scale in FIVE]
    by_hand = []
    for x1, y1, x2, y2 in boxes.tolist():
        misses = [abs((x2 - x1) * (y2 - y1) * (scale / 600) ** 2 - 224 * 224) for scale in FIVE]
        by_hand.append(misses.index(min(misses)))
    assert nearest_scales(boxes, sizes).tolist() == by_hand
    assert len(set(by_hand)) == 5
