"""Single windows' values against the views of the whole map, and the crop's own pooling."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from dense_images import SCALES, images, pooled_rows, records, small, stored_maps

from stages.dense.maps import array_of
from stages.dense.windows import windows_of
from stages.overfeat.pooled_rows import PooledRows, fc6_length
from stages.training.images import ImageSide


def views(maps: dict[str, np.ndarray], scale: int, mirrored: bool) -> torch.Tensor:
    """Every window of a stored map, by the dense pass's own view: [rows, columns, d]."""
    fmap = torch.from_numpy(maps[array_of(scale, mirrored=mirrored)].astype(np.float32)).permute(2, 0, 1)
    return windows_of(small())(fmap[None])[0].flatten(2)


@pytest.mark.parametrize("mirrored", [False, True])
def test_windows_are_those_of_the_dense_pass(mirrored: bool) -> None:
    network, of = small(), records()
    read, maps = pooled_rows(network, of), stored_maps(network, of)
    for index in range(len(of)):
        side = ImageSide(index, mirrored)
        grid = images().grid(side)
        every = torch.cat([views(maps[index], scale, mirrored).flatten(0, 1) for scale in SCALES]).numpy()
        chosen = np.random.default_rng(index).permutation(len(grid))[:30]
        np.testing.assert_array_equal(read(side, grid, chosen), every[chosen])
        assert read(side, grid, chosen[:0]).shape == (0, fc6_length(network))


def test_context_is_the_window_around_and_nothing_at_the_smallest_scale() -> None:
    network, of, side = small(), records(), ImageSide(0, mirrored=False)
    grid = images().grid(side)
    (maps, *_), d = stored_maps(network, of), fc6_length(network)
    every = np.arange(len(grid))
    found = pooled_rows(network, of, context=True)(side, grid, every)
    assert found.shape == (len(grid), 2 * d)
    np.testing.assert_array_equal(found[:, :d], pooled_rows(network, of)(side, grid, every))
    scales, rows, columns = grid.places(every)
    assert not found[scales == 0, d:].any()
    for scale, (below_px, _) in enumerate(pairwise(SCALES), 1):
        by_row, by_column = grid.surrounding(scale)
        for number in np.flatnonzero(scales == scale)[::7]:
            around = views(maps, below_px, False)[by_row[rows[number]], by_column[columns[number]]]
            np.testing.assert_array_equal(found[number, d:], around.numpy())


def test_a_map_is_read_once_while_it_fits() -> None:
    network, of = small(), records()
    maps, asked = stored_maps(network, of), []

    def read(name: tuple[int, int, bool]) -> Any:
        asked.append(name)
        return maps[name[0]][array_of(name[1], mirrored=name[2])]

    rows = PooledRows(windows_of(network), read, fc6_length(network), 1 << 24)
    side, grid = ImageSide(1, mirrored=True), images().grid(ImageSide(1, mirrored=True))
    first = rows(side, grid, np.arange(len(grid)))
    np.testing.assert_array_equal(rows(side, grid, np.arange(len(grid))), first)
    assert sorted(asked) == [(1, scale, True) for scale in SCALES]
