"""Labels lie in the picture, and on no other label where there is room."""

import re
from typing import Any

import numpy as np
import pytest

from stages.page.labels import place
from stages.page.pictures import Mark, picture

SIZE = (40, 10)


def test_the_places_in_their_order() -> None:
    box = (50, 50, 90, 90)
    assert place([box] * 5, [SIZE] * 5, 200, 200) == [(50, 40), (50, 50), (50, 90), (50, 80), (50, 40)]
    assert place([box, (95, 50, 99, 90)], [SIZE] * 2, 200, 200) == [(50, 40), (95, 40)]  # side by side


def test_at_the_borders() -> None:
    assert place([(190, 50, 199, 90)], [SIZE], 200, 200) == [(160, 40)]  # right
    assert place([(-5, -5, 60, 60)], [SIZE], 200, 200) == [(0, 60)]  # left, top: below is all in the picture
    assert place([(5, 4, 60, 60)], [SIZE], 200, 200) == [(5, 4)]
    assert place([(0, 0, 200, 200)] * 2, [SIZE] * 2, 200, 200) == [(0, 0), (0, 190)]
    assert place([(0, 0, 8, 8)], [SIZE], 20, 8) == [(0, 0)]  # there is no room at all
    assert place([], [], 20, 8) == []


@pytest.mark.parametrize("seed", range(5))
def test_none_leaves_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(-5, 205, (30, 2, 2)), axis=1).reshape(30, 4)
    extents = [(float(w), 10.0) for w in rng.uniform(10, 200, 30)]
    placed = place(corners.tolist(), extents, 200, 200)
    for (left, top), (width, height) in zip(placed, extents, strict=True):
        assert 0 <= left <= 200 - width and 0 <= top <= 200 - height


def labels(*marks: Any, width: int = 200) -> list[tuple[str, str]]:
    figure = picture(np.zeros((100, width, 3), np.uint8), marks, "", longest_px=max(100, width), quality=90)
    return [(text, tags) for tags, text in re.findall(r"<text ([^>]*)>([^<]*)<", figure)]


def test_a_label_at_the_right_border_ends_there() -> None:
    (text, tags) = labels(Mark((180, 40, 199, 90), "found", "square"))[0]
    assert text == "square"
    assert 'x="197"' in tags and 'text-anchor="end"' in tags
    assert "text-anchor" not in labels(Mark((20, 40, 199, 90), "found", "square"))[0][1]


def test_labels_of_one_box_are_apart_and_a_mark_without_a_text_has_none() -> None:
    box = (20, 40, 90, 90)
    found = labels(Mark(box, "truth"), Mark(box, "found", "a"), Mark(box, "found", "b"))
    assert [text for text, _ in found] == ["a", "b"]
    first, second = (float(re.findall(r' ?y="([\d.]+)"', tags)[0]) for _, tags in found)
    assert abs(first - second) >= 14


def test_a_label_wider_than_the_picture_is_narrowed() -> None:
    (_, tags) = labels(Mark((5, 40, 20, 90), "found", "very long name"), width=60)[0]
    assert 'textLength="54"' in tags
