"""The page of units: what it shows of each, and that a crop stands in it once."""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.networks.spec import InputSpec
from stages.units.cells import Cells
from stages.units.page import CropForm, ShownUnit, chosen, largest_of_channel, page
from stages.units.top import TopUnits

FIELDS = np.zeros((2, 2, 4), np.int64)
FIELDS[..., 2:] = 32
FIELDS[1, 1] = (16, 16, 64, 64)
CELLS = Cells(3, 2, 2, FIELDS)


@pytest.fixture
def found() -> TopUnits:
    """Twelve units of three channels; unit 5 and all of channel 2 are silent."""
    values = np.zeros((12, 3), np.float32)
    images, rows = np.full((12, 3), -1, np.int32), np.full((12, 3), -1, np.int32)
    counts = np.zeros(12, np.int32)
    for unit in (0, 1, 2, 3, 4, 6, 7):
        values[unit], images[unit], rows[unit], counts[unit] = [unit + 3, 2, 1], [0, 1, 1], [unit, 0, 7], 3
    return TopUnits(values, images, rows, counts)


class Crops:
    def __init__(self) -> None:
        self.asked: Mapping[int, Sequence[int]] = {}

    def __call__(self, wanted: Mapping[int, Sequence[int]]) -> dict[tuple[int, int], NDArray[np.uint8]]:
        self.asked = wanted
        return {(i, row): np.full((96, 96, 3), 20 * row, np.uint8) for i, rows in wanted.items() for row in rows}


def made(found: TopUnits, cells: Cells | None, units: Sequence[ShownUnit], crops: Crops, per_unit: int = 2) -> str:
    names = ["a<b>.jpg", "c.jpg"]
    return page(
        found, cells, units, per_unit=per_unit, side_px=64, crops=crops, names=names, title="T", lead="L & more"
    )


def test_the_default_is_the_centre_cell_of_the_first_channels(found: TopUnits) -> None:
    assert [one.unit for one in chosen(found, CELLS, 2)] == [3, 7]
    assert [one.unit for one in chosen(found, CELLS, 99)] == [3, 7, 11]
    assert [one.unit for one in chosen(found, None, 4)] == [0, 1, 2, 3]
    asked = chosen(found, CELLS, 2, [(0, 1, 1), (1, 0, 2)])
    assert [(one.unit, one.name) for one in asked] == [(5, "channel 1, cell 0, 1"), (10, "channel 2, cell 1, 0")]
    assert [one.name for one in chosen(found, None, 2, [(9,)])] == ["unit 9"]


def test_each_crop_stands_once_and_its_label_is_over_the_channels_largest(found: TopUnits) -> None:
    crops = Crops()
    text = made(found, CELLS, chosen(found, CELLS, 3), crops)
    assert crops.asked == {0: [3, 7], 1: [0]}
    assert text.count("data:image/jpeg") == 3
    rows = re.findall(r'<div class="unit" id="unit-(\d+)" data-at="([^"]*)">(.*?)</div>', text)
    assert [(int(unit), json.loads(at)) for unit, at, _ in rows] == [(3, [0, 0]), (7, [0, 1]), (11, [0, 2])]
    assert re.findall(r"<i>(.*?)</i>", rows[0][2]) == ["1.00", "0.33"]  # 6 and 2 of 6, unit 3's own
    assert re.findall(r"<i>(.*?)</i>", rows[1][2]) == ["1.00", "0.20"]
    assert "left:25%;top:25%;width:75%;height:75%" in rows[0][2]
    assert "channel 2, cell 1, 1: silent" in rows[2][2] and "<figure" not in rows[2][2]
    assert 'title="a&lt;b&gt;.jpg, row 3: 6"' in rows[0][2]
    assert "5 of 12 units are positive for no region" in text
    assert "channel 1 (0, 1), channel 2<" in text
    assert largest_of_channel(found, CELLS, ShownUnit(0, 0, (0, 0))) == 6
    assert largest_of_channel(found, None, ShownUnit(0, 0, None)) == 3
    assert not re.search(r'(src|href)="(?!#)', text)  # nothing from elsewhere


def test_neighbours_by_the_arrow_keys_are_cells_and_channels(found: TopUnits) -> None:
    asked = [(1, 1, 0), (0, 0, 0), (0, 0, 1)]
    text = made(found, CELLS, chosen(found, CELLS, 9, asked), Crops())
    assert re.findall(r'data-at="([^"]*)"', text) == ["[1, 0]", "[0, 0]", "[0, 1]"]


def test_a_layer_without_cells_and_without_silent_units(found: TopUnits) -> None:
    some = TopUnits(*(getattr(found, name)[:2] for name in ("values", "images", "rows", "counts")))
    text = made(some, None, chosen(some, None, 2), Crops(), per_unit=1)
    assert "<b style" not in text and "Each unit is positive for some region." in text and "unit 1</h3>" in text


def test_crops_are_those_of_the_network_but_smaller() -> None:
    """16 px of context at 227 are 7 at 96: of a box in the middle of grey the border shows what is around it."""
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[30:70, 30:70] = 200
    spec = InputSpec(227, "bgr", 255.0, (104.0, 117.0, 123.0))
    crops = CropForm("warp", 16, spec).small(pixels, np.array([[30, 30, 70, 70]], np.float32))
    assert crops.shape == (1, 96, 96, 3)
    assert (crops[0, 10:-10, 10:-10] == 200).all() and (crops[0, :5] == 0).all() and (crops[0, :, -5:] == 0).all()


def test_what_is_missing_has_the_colour_that_the_network_takes_for_nothing() -> None:
    """The region touches the image's corner: its context above and at the left is at the mean, here BGR."""
    spec = InputSpec(227, "bgr", 255.0, (104.0, 117.0, 123.0))
    crops = CropForm("warp", 16, spec).small(np.zeros((100, 100, 3), np.uint8), np.array([[0, 0, 50, 50]], np.float32))
    assert (crops[0, :5] == (123, 117, 104)).all() and (crops[0, :, :5] == (123, 117, 104)).all()
    assert (crops[0, 10:, 10:] == 0).all()
