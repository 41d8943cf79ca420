"""Charts and bars: points where they belong, labels that can be read, one paint per thing."""

import re

import numpy as np
import pytest

from stages.page.bars import Bar, IntervalRow, dot_line, grouped_bars, interval_chart, stacked_bars
from stages.page.charts import ChartAxis, Series, legend, line_chart, nice_ticks, palette


@pytest.mark.parametrize("span", [(0, 1), (0, 0), (3, 3), (0, 0.037), (-2.2, 5), (0, 123456), (1e-9, 3e-9)])
def test_ticks_are_few_and_span_the_data(span: tuple[float, float]) -> None:
    ticks = nice_ticks(*span)
    assert ticks[0] <= span[0] + 1e-12
    assert ticks[-1] >= span[1] - 1e-12
    assert 2 <= len(ticks) <= 8
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_line_chart_puts_points_where_they_belong() -> None:
    svg = line_chart(
        [Series("a", [0, 1], [0, 1])], ChartAxis("x", 0, 1), ChartAxis("y", 0, 1), width=264, height=144, label_width=0
    )
    (points,) = re.findall(r'points="([^"]+)"', svg)
    assert points == "54,108 254,8"
    single = line_chart([Series("a", [2], [3])], ChartAxis("x"), ChartAxis("y"))
    assert single.count("<circle") == 1
    assert "NaN" not in line_chart([Series("a", [0, 1], [float("nan"), 1])], ChartAxis("x"), ChartAxis("y"))


def test_end_labels_do_not_cover_each_other() -> None:
    lines = [Series(f"line {i}", [0, 1], [0, 0.5 + 0.001 * i]) for i in range(6)]
    svg = line_chart(lines, ChartAxis("x", 0, 1), ChartAxis("y", 0, 1))
    ys = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="name', svg))
    assert len(ys) == 6
    assert min(np.diff(ys)) >= 13


def test_bars_have_lengths_in_proportion() -> None:
    svg = stacked_bars([("a", [3, 1])], [("x", "c0"), ("y", "c1")])
    long, short = (float(w) for w in re.findall(r'width="([\d.]+)" height="16"', svg))
    assert long + 1 == pytest.approx(3 * (short + 1), rel=1e-5)
    assert stacked_bars([("a", [0, 0])], [("x", "c0"), ("y", "c1")]).count('height="16"') == 0


def test_eight_things_have_eight_colours_and_further_ones_are_dashed() -> None:
    assert len({palette(i).style for i in range(8)}) == 8
    assert len({palette(i) for i in range(16)}) == 16
    svg = legend([(f"d{i}", palette(i)) for i in range(9)])
    assert svg.count("dashed") == 1
    assert all(f"d{i}" in svg for i in range(9))


def test_grouped_bars_share_one_scale_and_say_what_is_not_known() -> None:
    groups = [("a", [Bar("x", "c0", 4.0), Bar("y", "c3", 1.0)]), ("b", [Bar("x", "c0", None), Bar("y", "c3", 2.0)])]
    svg = grouped_bars(groups, lambda v: f"{v:g} s")
    long, quarter, none, half = (float(w) for w in re.findall(r'width="([\d.]+)" height="11"', svg))
    assert (quarter, half) == pytest.approx((long / 4, long / 2))
    assert none < 1
    assert "y, b: 2 s" in svg and "x, b: –" in svg
    assert "NaN" not in grouped_bars([], str) + grouped_bars([("a", [Bar("x", "c0", 0.0)])], str)


def test_intervals_lie_around_their_dots() -> None:
    rows = [IntervalRow("a", "c0", 50, 40, 60), IntervalRow("b", "c3", None), IntervalRow("c" * 60, "c5", -10)]
    svg = interval_chart(rows, ChartAxis("mAP", None, None), lambda v: f"{v:.1f}")
    (low, high), dots = (
        re.findall(r'x1="([\d.]+)" x2="([\d.]+)"[^>]*class="line', svg)[0],
        re.findall(r'cx="([\d.]+)"', svg),
    )
    assert len(dots) == 2
    assert float(low) < float(dots[0]) < float(high)
    assert float(dots[0]) - float(low) == pytest.approx(float(high) - float(dots[0]), abs=0.11)
    assert svg.count('class="base"') == 1  # at 0, since there is something below it
    assert "ccc…" in svg
    assert "NaN" not in interval_chart([IntervalRow("a", "c0", None)], ChartAxis("x", None), str)


def test_dots_lie_on_a_line_from_0_to_1() -> None:
    assert re.findall(r'cx="([\d.]+)"', dot_line([(0, "ring c0"), (0.5, "fill c0"), (1, "fill c3")], "muted")) == [
        "6",
        "80",
        "154",
    ]
