"""Box plots in rows on a common axis, as inline SVG; colours as in :mod:`.charts`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .charts import ChartAxis, axis_ticks, chart
from .markup import Markup, join, percent, table, tag

_LINE, _TOP, _RIGHT, _BOX = 34, 6, 14, 16


@dataclass(frozen=True)
class BoxRow:
    """One box, in data units: whiskers, box, median and mean; ``values`` are drawn as dots over them.

    ``style`` is a colour class.
    """

    name: str
    style: str
    lowest: float
    lower: float
    median: float
    upper: float
    highest: float
    mean: float
    values: Sequence[float] = ()


def box_row(name: str, style: str, values: Sequence[float | None]) -> BoxRow | None:
    """Summarise values, None among them left out: quartiles interpolated linearly, whiskers to the lowest and highest.

    So the box plots of R-CNN's figure 3 are made. None where nothing is left.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    lowest, lower, median, upper, highest = np.quantile(known, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return BoxRow(name, style, lowest, lower, median, upper, highest, float(known.mean()), known.tolist())


def spread(made: Sequence[tuple[Markup, BoxRow]], head: str, what: str = "AP") -> Markup:
    """Draw and tabulate how parts of one spread over the classes, a box each (R-CNN's figure 3).

    Args:
        made: what heads each line of the table, and its box.
        head: what heads these; what: the measure, AP or IoU.
    """
    text = (
        f"How {what} spreads over the classes: box from the lower to the upper quartile, line at the median, ring at "
        "the mean, whiskers to the lowest and the highest; a dot for each class."
    )
    cells = [
        [title, *map(percent, (row.mean, row.lowest, row.lower, row.median, row.upper, row.highest))]
        for title, row in made
    ]
    header = [head, "mean", "lowest", "lower quartile", "median", "upper quartile", "highest"]
    rows = [row for _, row in made]
    names_px = max(150, 24 + 7 * max((len(row.name) for row in rows), default=0))
    chart = box_plots(rows, ChartAxis(what, 0.0, 1.0), names_px=names_px, width=490 + names_px)
    return join(tag("p", text, class_="note"), chart, table(header, cells))


def box_plots(rows: Sequence[BoxRow], axis: ChartAxis, *, names_px: int = 150, width: int = 640) -> Markup:
    """Draw one horizontal box per row: a line at the median, a ring at the mean, whiskers to the lowest and highest."""
    ticks = axis_ticks([value for row in rows for value in (row.lowest, row.highest)], axis)
    left, right, bottom = names_px, width - _RIGHT, _TOP + _LINE * len(rows)

    def at(value: float) -> float:
        return round(left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left), 1)

    parts = []
    for tick in ticks:
        parts.append(tag("line", x1=at(tick), x2=at(tick), y1=_TOP, y2=bottom, class_="grid"))
        parts.append(tag("text", axis.text(tick), x=at(tick), y=bottom + 16, class_="tick", text_anchor="middle"))
    for i, row in enumerate(rows):
        y = _TOP + _LINE * i + _LINE / 2
        parts.append(tag("text", row.name, x=left - 8, y=y + 4, class_="tick", text_anchor="end"))
        parts += _box(row, y, [at(value) for value in (row.lowest, row.lower, row.median, row.upper, row.highest)])
        parts += [tag("circle", cx=at(value), cy=y, r=3, class_=f"dot one {row.style}") for value in row.values]
        title = tag("title", f"{row.name}: mean {axis.text(row.mean)}")
        parts.append(tag("circle", title, cx=at(row.mean), cy=y, r=4.5, class_=f"ring {row.style}"))
    height = bottom + 36
    parts.append(tag("text", axis.label, x=(left + right) / 2, y=height - 4, class_="axis", text_anchor="middle"))
    return chart(parts, width, height)


def _box(row: BoxRow, y: float, at: Sequence[float]) -> list[Markup]:
    lowest, lower, median, upper, highest = at
    style = f"line {row.style}"
    top, bottom = y - _BOX / 2, y + _BOX / 2
    box = tag("rect", x=lower, y=top, width=max(upper - lower, 0.5), height=_BOX, class_=style)
    return [
        tag("line", x1=lowest, x2=lower, y1=y, y2=y, class_=style),
        tag("line", x1=upper, x2=highest, y1=y, y2=y, class_=style),
        *(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_=style) for x in (lowest, median, highest)),
        box,
    ]
