"""Sizes of scaled images: Table 5's by arithmetic, nearest lengths against a slow search, and what is refused."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import StageError
from stages.dense.scales import MOST_PX, check_scales, paper_scales, scaled_px
from stages.dense.windows import DenseWindows, LastPooling

ACCURATE = DenseWindows(221, 12, 15, LastPooling(5, 3, 3))  # Table 3: 36 px from window to window, without offsets
FAST = DenseWindows(231, 16, 12, LastPooling(6, 2, 2))
# Table 5, height and width: the input, the last map before pooling, what is pooled at one offset, its windows. Of the
# fifth the paper prints 32 x 35 cells, 10 x 11 and 6 x 7, and an output of 18 x 24, which is 3 times 6 x 8.
TABLE_5 = (
    ((245, 245), (17, 17), (5, 5), (1, 1)),
    ((281, 317), (20, 23), (6, 7), (2, 3)),
    ((317, 389), (23, 29), (7, 9), (3, 5)),
    ((389, 461), (29, 35), (9, 11), (5, 7)),
    ((425, 497), (32, 38), (10, 12), (6, 8)),
    ((461, 569), (35, 44), (11, 14), (7, 10)),
)


@pytest.mark.parametrize(("pixels", "cells", "pooled", "windows"), TABLE_5)
def test_table_5(
    pixels: tuple[int, int], cells: tuple[int, int], pooled: tuple[int, int], windows: tuple[int, int]
) -> None:
    height, width = pixels
    assert scaled_px(width, height, height, ACCURATE) == (width, height)
    assert scaled_px(2 * width + 9, 2 * height + 7, height, ACCURATE) == (width, height)
    found = tuple(ACCURATE.cells + (length - ACCURATE.side_px) // ACCURATE.stride_px for length in pixels)
    assert found == cells
    assert ACCURATE(torch.zeros(1, 1, *cells)).shape[1:3] == tuple(3 * count for count in windows)
    for offset in range(3):
        assert tuple((count - offset) // 3 for count in cells) == pooled
        assert tuple((count - offset) // 3 - 4 for count in cells) == windows


def test_the_papers_scales() -> None:
    assert paper_scales(ACCURATE) == (245, 281, 317, 389, 425, 461)
    assert paper_scales(FAST) == (247, 279, 311, 375, 407, 439)
    assert scaled_px(400, 300, 245, FAST) == (311, 247)  # 326.7 is nearer to 311 than to 343


@given(
    st.integers(20, 3000), st.integers(20, 3000), st.integers(20, 900), st.integers(1, 4), st.integers(1, 40), st.data()
)
def test_sides_are_the_nearest_with_whole_offsets(
    width: int, height: int, scale: int, offsets: int, stride: int, data: st.DataObject
) -> None:
    side = data.draw(st.integers(1, scale))
    windows = DenseWindows(side, stride, 5, LastPooling(2, 1, offsets))
    shorter, longer = (Fraction(length * scale, min(width, height)) for length in sorted((width, height)))
    able = [px for px in range(side, int(longer) + 4 * stride * offsets) if (px - side) % stride == 0]
    able = [px for px in able if ((px - side) // stride + 1) % offsets == 0]  # windows: equally many at each offset
    best = sorted(min(able, key=lambda px: (abs(px - wanted), -px)) for wanted in (shorter, longer))
    if best[0] * best[1] > MOST_PX:
        with pytest.raises(StageError, match="more than 4,194,304 pixels"):
            scaled_px(width, height, scale, windows)
    else:
        found = scaled_px(width, height, scale, windows)
        assert sorted(found) == best and (found[0] - found[1]) * (width - height) >= 0


def test_a_strip_is_refused_where_it_would_be_huge() -> None:
    assert scaled_px(400, 20, 245, ACCURATE) == (4889, 245)
    with pytest.raises(StageError, match=r"^20 x 4000 px would be 245 x 48989 at scale 245, more than 4,194,304"):
        scaled_px(20, 4000, 245, ACCURATE)


def test_a_picture_smaller_than_the_window_is_enlarged_and_a_scale_below_it_refused() -> None:
    assert scaled_px(9, 7, 245, ACCURATE) == (317, 245)
    check_scales((221, 245), ACCURATE, "classify.scales_px")
    assert scaled_px(500, 500, 221, ACCURATE) == (245, 245)  # at least one window at each offset
    with pytest.raises(StageError, match=r"^classify.scales_px: 220, 100 px is less than a window's 221; leave it out"):
        check_scales((220, 245, 100), ACCURATE, "classify.scales_px")
