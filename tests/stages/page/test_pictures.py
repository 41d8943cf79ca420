"""Photographs with boxes: the right part, in the right colours, once in the page."""

import base64
import re

import cv2
import numpy as np
import pytest

from stages.page.pictures import Mark, jpeg_uri, picture, side_by_side, window


@pytest.mark.parametrize(
    "box", [(10, 10, 20, 20), (-5, 0, 300, 200), (199, 99, 200, 100), (150, 20, 150, 20), (250, 150, 260, 160)]
)
def test_window_lies_in_the_photograph_and_holds_the_box(box: tuple[int, ...]) -> None:
    x1, y1, x2, y2 = window(box, 200, 100)
    assert 0 <= x1 < x2 <= 200
    assert 0 <= y1 < y2 <= 100
    if box[2] <= 200:
        assert x1 <= max(box[0], 0)
        assert x2 >= min(box[2], 200)


def test_picture_is_the_right_part_in_the_right_colours() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, 100:] = (250, 10, 10)  # red on the right
    figure = picture(
        pixels, [Mark((120, 20, 160, 60), "right", "x")], "c", part=(100, 0, 200, 100), longest_px=50, quality=90
    )
    (data_uri,) = re.findall(r"base64,([^\"]+)", figure)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data_uri), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None and decoded.shape == (50, 50, 3)
    assert np.abs(decoded.mean((0, 1)) - (250, 10, 10)).max() < 6
    assert 'class="box right" x="10" y="10" width="20" height="20"' in figure
    assert jpeg_uri(pixels, 75).startswith("data:image/jpeg;base64,")


def test_side_by_side_holds_the_photograph_once() -> None:
    columns = [([Mark((10, 10, 30, 30), "right")], "one"), ([], "two"), ([], "three")]
    figures = side_by_side(np.zeros((50, 100, 3), np.uint8), columns, name="photo-7", longest_px=50, quality=90)
    assert [figure.count("data:image/jpeg") for figure in figures] == [1, 0, 0]
    assert 'id="photo-7"' in figures[0]
    assert all('<use href="#photo-7"/>' in figure for figure in figures[1:])
    captions = [re.findall("<figcaption>(.*)</figcaption>", figure) for figure in figures]
    assert captions == [["one"], ["two"], ["three"]]
    assert 'class="box right" x="5" y="5" width="10" height="10"' in figures[0]
    assert all('viewBox="0 0 50 25"' in figure for figure in figures)
