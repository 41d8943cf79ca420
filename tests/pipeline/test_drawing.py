"""What ``rcnn detect`` draws: labels that can be read."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cache.errors import StageError
from manifests.describe import class_colour
from stages.detections.drawing import drawn_jpeg
from stages.detections.suppression import Detection

CLASSES = ("circle", "square")
BOX = (20.0, 40.0, 120.0, 90.0)
Areas = Callable[..., list[int]]


@pytest.fixture
def areas(monkeypatch: pytest.MonkeyPatch) -> Areas:
    """Draws on black, and counts the px of each class's colour; without JPEG, which blurs them."""
    save = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", lambda self, path, *_, **__: save(self, path, "PNG"))

    def draw_and_count(*found: Detection, width: int = 200) -> list[int]:
        blank: NDArray[Any] = np.zeros((100, width, 3), np.uint8)
        image = np.asarray(Image.open(io.BytesIO(drawn_jpeg(blank, found, CLASSES))))
        return [int((image == class_colour(index)).all(axis=2).sum()) for index in range(2)]

    return draw_and_count


def test_a_label_at_the_right_border_is_whole(areas: Areas) -> None:
    outline = 2 * 2 * (9 + 50 - 4)
    _, border = areas(Detection("square", 0.5, (190, 40, 199, 90)))
    _, inside = areas(Detection("square", 0.5, (20, 40, 29, 90)))
    assert border == inside > 3 * outline


def test_labels_of_one_box_do_not_cover_each_other(areas: Areas) -> None:
    circle, square = (Detection(label, 0.5, BOX) for label in CLASSES)
    (circle_alone, _), (_, square_alone), both = areas(circle), areas(square), areas(circle, square)
    outline = 2 * 2 * (100 + 50 - 4)
    assert circle_alone - outline / 2 < both[0] < circle_alone  # the other's label lies on a part of its outline
    assert both[1] == pytest.approx(square_alone - outline, rel=0.1)


def test_a_label_fits_a_narrow_picture(areas: Areas) -> None:
    _, narrow = areas(Detection("square", 0.5, (5, 40, 30, 90)), width=50)
    assert narrow > 300
    areas(Detection("square", 0.5, (0, 0, 8, 8)), width=8)


@pytest.mark.parametrize("label", ["Ножницы", "قط", "Écureuil", "two\nlines", "\x85\u00a1 a"])
def test_labels_of_other_scripts_are_not_all_alike(label: str) -> None:
    """A name and its letters backwards would be one row of boxes in a font that lacks them."""
    blank: NDArray[Any] = np.zeros((100, 200, 3), np.uint8)
    first, second = (
        drawn_jpeg(blank, [Detection(name, 0.5, BOX)], (name,)) for name in (label, label[::-1].replace(" ", "x"))
    )
    assert first != second


def test_a_picture_too_long_for_a_jpeg_is_one_line() -> None:
    blank: NDArray[Any] = np.zeros((1, 65_501, 3), np.uint8)
    with pytest.raises(StageError, match=r"a\.png: 65501 x 1 px"):
        drawn_jpeg(blank, [], CLASSES, "a.png")
    assert drawn_jpeg(blank[:, :65_500], [], CLASSES)
