"""Box plots as SVG: whole, in the axis's range, in order."""

import re

from page_checks import self_contained

from stages.page.box_plots import BoxRow, box_plots
from stages.page.charts import ChartAxis


def test_a_box_is_where_its_numbers_are() -> None:
    row = BoxRow("<one>", "c3", 0.0, 0.25, 0.5, 0.75, 1.0, 0.6, [0.1, 0.9])
    drawn = box_plots([row], ChartAxis("AP", 0.0, 1.0), names_px=100, width=514)
    checker = self_contained(drawn)
    assert checker.tags.count("rect") == 1 and checker.tags.count("circle") == 3
    assert "<one>" in checker.text
    assert re.search(r'<rect x="200" y="[\d.]+" width="200"', drawn)  # 0.25 to 0.75 of 100 to 500 px
    lines = re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)" [^>]*class="line c3"', drawn)
    assert [tuple(map(float, line)) for line in lines] == [
        (100, 200),
        (400, 500),
        (100, 100),
        (300, 300),
        (500, 500),
    ]


def test_equal_numbers_are_a_box_that_can_be_seen() -> None:
    drawn = box_plots([BoxRow("one", "c0", 0.4, 0.4, 0.4, 0.4, 0.4, 0.4)], ChartAxis("AP", 0.0, 1.0))
    assert 'width="0.5"' in drawn and "nan" not in drawn
    self_contained(box_plots([], ChartAxis("AP", 0.0, 1.0)))
