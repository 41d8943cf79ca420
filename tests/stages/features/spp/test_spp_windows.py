"""Windows of cells and scales, against the authors' arithmetic (spm_pool_caffe_mex.cpp), 1-based, region by region."""

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.features.spp.windows import cell_windows, choose_scales
from stages.networks.network import build
from stages.networks.receptive_field import Axis, Geometry, map_geometry

ZF = map_geometry(build("zf5", 5, device="meta"))


Case = tuple[int, int, NDArray[np.float32], int]  # width, height, boxes, scale


def authors_cells(low: float, high: float, scale: int, min_side: int, extent: int) -> tuple[int, int]:
    """1-based inclusive pixels of the image to 1-based inclusive cells."""
    low, high = ((b - 1) * (scale - 1) / (min_side - 1) + 1 for b in (low, high))
    left = math.floor((low - 21 + 6.5) / 16 + 0.5) + 1
    right = math.ceil((high - 21 - 6.5) / 16 - 0.5) + 1
    if left > right:
        left = right = math.trunc((left + right) / 2)
    return min(max(left, 1), extent), min(max(right, 1), extent)


@st.composite
def images_with_boxes(draw: st.DrawFn) -> Case:
    width, height = draw(st.integers(2, 700)), draw(st.integers(2, 700))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, y = (np.sort(rng.integers(0, side + 1, (40, 2)), 1) for side in (width, height))
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1).astype(np.float32)
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return width, height, boxes, draw(st.sampled_from((480, 576, 688, 864, 1200)))


@given(images_with_boxes())
@example((79, 79, np.array([[0, 0, 14, 79]], np.float32), 688))  # 13 * 687 / 78 lies exactly between two cells
@settings(max_examples=100, deadline=None)
def test_cells_of_zf5_are_the_authors(case: Case) -> None:
    width, height, boxes, scale = case
    side = min(width, height)
    shape = (max(1, round(height * scale / side) // 16 - 1), max(1, round(width * scale / side) // 16 - 1))
    found = cell_windows(boxes, side, scale, ZF, shape)
    for (x1, y1, x2, y2), window in zip(boxes.tolist(), found.tolist(), strict=True):
        top, bottom = authors_cells(y1 + 1, y2, scale, side, shape[0])
        left, right = authors_cells(x1 + 1, x2, scale, side, shape[1])
        assert window == [top - 1, left - 1, bottom, right]


def test_cells_whose_centres_lie_in_the_region() -> None:
    """Hold the cells of a map at 10, 30, 50, ... to stretching by 1.9 px, half a stride less 6.5 sixteenths of one."""
    geometry = Geometry(Axis(20, 0, 20), Axis(20, 0, 20))
    cases = {
        (28.2, 53): (1, 3),  # pixels 28.2 to 52: cells 30 and 50
        (31.8, 53): (1, 3),  # 1.8 px short of the first centre
        (32.0, 53): (2, 3),
        (28, 49.2): (1, 3),  # last pixel 48.2
        (28, 49.0): (1, 2),
        (33, 45): (1, 2),  # between two centres: halfway, downwards
        (0, 400): (0, 12),  # the whole map
        (300, 310): (11, 12),  # beyond it
    }
    for (x1, x2), expected in cases.items():
        box = np.array([[x1, 0, x2, 400]], np.float32)
        window = cell_windows(box, 100, 100, geometry, (12, 12))[0].tolist()
        assert (window[1], window[3]) == expected, (x1, x2)
        assert (window[0], window[2]) == (0, 12)


def test_an_image_of_one_pixel() -> None:
    assert cell_windows(np.array([[0, 0, 1, 1]], np.float32), 1, 480, ZF, (30, 30)).tolist() == [[0, 0, 1, 1]]


def test_no_regions() -> None:
    nothing = np.zeros((0, 4), np.float32)
    assert cell_windows(nothing, 100, 480, ZF, (30, 40)).shape == (0, 4)
    assert choose_scales(nothing, 100, (480, 688), 224).shape == (0,)


def test_the_scale_at_which_a_region_has_the_pixels_wanted() -> None:
    scales = (480, 576, 688, 864, 1200)
    sides = {360: 480, 500: 480, 170: 480, 130: 576, 120: 576, 110: 688, 90: 864, 70: 1200, 10: 1200}
    for side, expected in sides.items():  # in an image with a shorter side of 333 px
        box = np.array([[5, 5, 5 + 2 * side, 5 + side / 2]], np.float32)  # as many pixels in another shape
        wanted = round(224 * 333 / side)
        assert scales[choose_scales(box, 333, scales, 224)[0]] == expected
        assert min(scales, key=lambda s: abs(s - wanted)) == expected


def test_of_two_scales_equally_near_the_first() -> None:
    box = np.array([[0, 0, 100, 100]], np.float32)
    assert choose_scales(box, 100, (150, 250), 200).tolist() == [0]
    assert choose_scales(box, 100, (149, 250), 200).tolist() == [1]


def test_the_scale_wanted_is_rounded() -> None:
    box = np.array([[0, 0, 100, 100]], np.float32)
    # 200.5 is rounded up to 201, which is nearer to 251 than to 150
    assert choose_scales(box, 401, (150, 251), 50).tolist() == [1]
    assert choose_scales(box, 401, (150, 252), 50).tolist() == [0]
