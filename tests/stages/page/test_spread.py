"""What a box plot shows, checked on the paper's Table 8 and by hand."""

import csv
from pathlib import Path

import pytest

from stages.page.box_plots import box_row

TABLE_8 = Path(__file__).parents[3] / "../shared/golden/paper/table8_ilsvrc2013_test.csv"


@pytest.mark.shared
@pytest.mark.skipif(not TABLE_8.exists(), reason="needs ../shared/golden/paper")
def test_the_paper_s_200_classes() -> None:
    """R-CNN with box regression on ILSVRC2013's test set: 31.4 in Figure 3, median 30.3."""
    with TABLE_8.open(newline="") as file:
        found = box_row("R-CNN BB", "c0", [float(row["AP"]) for row in csv.DictReader(file)])
    assert found is not None and len(found.values) == 200
    assert (found.mean, found.median) == pytest.approx((31.4495, 30.25))
    assert (found.lower, found.upper) == pytest.approx((19.1, 42.275))


def test_by_hand() -> None:
    found = box_row("one", "c0", [0.5, None, 0.1, 0.3, 0.2])
    assert found is not None and len(found.values) == 4
    assert (found.lowest, found.highest, found.mean) == pytest.approx((0.1, 0.5, 0.275))
    assert (found.lower, found.median, found.upper) == pytest.approx((0.175, 0.25, 0.35))


def test_one_class() -> None:
    found = box_row("one", "c0", [0.5])
    assert found is not None
    assert (found.lowest, found.lower, found.median, found.upper, found.highest, found.mean) == (0.5,) * 6


def test_no_class() -> None:
    assert box_row("one", "c0", [None]) is None
