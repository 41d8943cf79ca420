"""Windows of an image at every scale: numbered as maps have them, and each with the one around it."""

from itertools import product

import numpy as np
import pytest
from dense_images import SCALES, picture, record, small, stored_maps, windows
from hypothesis import given
from hypothesis import strategies as st

from stages.dense.maps import array_of
from stages.overfeat.places import image_grid

WINDOWS = windows()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_there_are_as_many_windows_as_the_map_has_places(index: int) -> None:
    of = record(index)
    grid = image_grid(of.width, of.height, SCALES, WINDOWS)
    (maps,) = stored_maps(small(), [of])
    for one in grid.scales:
        rows, columns = (cells - WINDOWS.cells + 1 for cells in maps[array_of(one.scale_px)].shape[:2])
        assert (one.rows, one.columns, len(one)) == (rows, columns, rows * columns)
    assert picture(of).shape[:2] == (of.height, of.width)


@given(st.integers(20, 400), st.integers(20, 400), st.sets(st.integers(64, 300), min_size=1, max_size=4))
def test_windows_are_numbered_scale_by_scale_and_row_by_row(width: int, height: int, scales: set[int]) -> None:
    grid = image_grid(width, height, sorted(scales), WINDOWS)
    every = [(s, y, x) for s, one in enumerate(grid.scales) for y, x in product(range(one.rows), range(one.columns))]
    assert len(grid) == len(every) == len(grid.boxes)
    numbers = np.arange(len(every))[:: max(len(every) // 50, 1)]
    for number, scale, row, column in zip(numbers, *grid.places(numbers), strict=True):
        assert every[number] == (scale, row, column)
        scaled_width, scaled_height = grid.scales[scale].scaled
        corner = np.array([8 * column, 8 * row])
        by_hand = np.concatenate([corner, corner + 64]) * ([width / scaled_width, height / scaled_height] * 2)
        np.testing.assert_allclose(grid.boxes[number], by_hand, rtol=1e-5)


@given(st.integers(20, 300), st.integers(20, 300), st.sets(st.integers(64, 300), min_size=2, max_size=3))
def test_the_window_around_another_is_the_one_of_nearest_centre(width: int, height: int, scales: set[int]) -> None:
    grid = image_grid(width, height, sorted(scales), WINDOWS)
    for scale in range(1, len(grid.scales)):
        for axis, found in enumerate(grid.surrounding(scale)):
            own, less = grid.scales[scale], grid.scales[scale - 1]
            length, length_below = own.scaled[1 - axis], less.scaled[1 - axis]
            counts = (own.rows, own.columns)[axis], (less.rows, less.columns)[axis]
            centres, below = (
                (8 * np.arange(n) + 32) / side for n, side in zip(counts, (length, length_below), strict=True)
            )
            apart = np.abs(centres[:, None] - below)
            assert len(found) == counts[0]
            np.testing.assert_allclose(apart[np.arange(counts[0]), found], apart.min(axis=1), atol=1e-9)


def test_windows_around_others_by_hand() -> None:
    """80 px are brought to 72, with centres at 32 and 40, and to 136, with centres at 32, 40, ..., 104."""
    grid = image_grid(80, 80, (72, 136), WINDOWS)
    assert [(one.scaled, one.rows) for one in grid.scales] == [((72, 72), 2), ((136, 136), 10)]
    rows, columns = grid.surrounding(1)
    # on 72 px those are 16.9, 21.2, 25.4, 29.6, 33.9, 38.1, 42.4 ..., of which the first five are nearer to 32
    assert rows.tolist() == columns.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
