"""Line charts as inline SVG. Colours are classes of the page's style sheet, so that they suit light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from .markup import Markup, join, tag

_LEFT, _TOP, _BOTTOM = 54, 8, 36
_LABEL_GAP = 13
# The colour classes c0 ... c7 in the order in which they tell several things apart best.
_PALETTE = (0, 3, 5, 2, 1, 6, 7, 4)


@dataclass(frozen=True)
class Paint:
    """How one of several things is drawn in all charts of a page: a colour class, and whether its lines are dashed."""

    style: str
    dashed: bool = False


def palette(index: int) -> Paint:
    """Choose the paint of the ``index``-th thing; the ninth has the first one's colour, dashed."""
    return Paint(f"c{_PALETTE[index % len(_PALETTE)]}", index // len(_PALETTE) % 2 == 1)


def legend(entries: Sequence[tuple[str, Paint]]) -> Markup:
    """Name what is drawn in which paint; for charts that share it."""
    parts = []
    for name, paint in entries:
        line = tag("line", x1=0, x2=22, y1=6, y2=6, class_=_line_class(paint.style, paint.dashed))
        dot = tag("circle", cx=11, cy=6, r=4.5, class_=f"fill {paint.style}")
        parts.append(tag("span", tag("svg", line, dot, width=22, height=12, role="img"), " ", name))
    return tag("p", *parts, class_="legend")


def _line_class(style: str, dashed: bool) -> str:
    return f"line {style}" + (" dashed" if dashed else "")


@dataclass(frozen=True)
class Series:
    """A line: points in data units; ``style`` is a colour class (``c0`` ... ``c7``, ``muted``, ``plain``)."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: str = "c0"
    dashed: bool = False


@dataclass(frozen=True)
class ChartAxis:
    """Label with unit, and range; a range left open is that of the data.

    ``ticks``: where ticks stand, the first and last at the ends, and what they say; none: at round numbers.
    """

    label: str
    low: float | None = 0.0
    high: float | None = None
    ticks: Sequence[tuple[float, str]] = ()

    def text(self, tick: float) -> str:
        """Write the tick's number, or what was set for it."""
        return dict(self.ticks).get(tick, tick_text(tick))


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose about ``count`` round numbers that span [low, high]."""
    span = high - low if high > low else abs(high) or 1.0
    raw = span / count
    unit = 10.0 ** floor(log10(raw))
    step = unit * next(m for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first = floor(low / step + 1e-9)
    last = ceil((low + span) / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Write a tick's number: thousands as k, no needless digits."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}"


@dataclass(frozen=True)
class _Frame:
    """The plot's area: ticks in data units, and the right and bottom edge in px (the others are _LEFT and _TOP)."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    right: float
    bottom: float

    def x(self, value: float) -> float:
        first, last = self.x_ticks[0], self.x_ticks[-1]
        return round(_LEFT + (value - first) / (last - first) * (self.right - _LEFT), 1)

    def y(self, value: float) -> float:
        first, last = self.y_ticks[0], self.y_ticks[-1]
        return round(self.bottom - (value - first) / (last - first) * (self.bottom - _TOP), 1)


def line_chart(
    series: Sequence[Series],
    x: ChartAxis,
    y: ChartAxis,
    *,
    width: int = 520,
    height: int = 300,
    label_width: int = 110,
) -> Markup:
    """Draw lines with axes, a light grid, and each line's name at its end (``label_width`` px; 0: no names)."""
    series = [s for s in series if len(s.xs)]
    x_ticks, y_ticks = (
        axis_ticks([v for s in series for v in s.xs], x),
        axis_ticks([v for s in series for v in s.ys], y),
    )
    frame = _Frame(x_ticks, y_ticks, width - label_width - 10, height - _BOTTOM)
    parts = [_grid(frame, x, y)]
    parts.append(tag("text", x.label, x=(_LEFT + frame.right) / 2, y=height - 5, class_="axis", text_anchor="middle"))
    parts.append(_y_label(y.label, (_TOP + frame.bottom) / 2))
    for one in series:
        points = " ".join(f"{frame.x(a):g},{frame.y(b):g}" for a, b in zip(one.xs, one.ys, strict=True) if isfinite(b))
        line = _line_class(one.style, one.dashed)
        parts.append(tag("polyline", tag("title", one.name), points=points, class_=line))
        if len(one.xs) == 1:
            parts.append(tag("circle", cx=frame.x(one.xs[0]), cy=frame.y(one.ys[0]), r=3, class_=f"dot {one.style}"))
    if label_width:
        parts.append(_end_labels(series, frame))
    return chart(parts, width, height)


def chart(parts: Sequence[Markup], width: int, height: float) -> Markup:
    """Put a chart's elements into an SVG of ``width`` x ``height`` px that shrinks with the page."""
    box = f"0 0 {width} {height:g}"
    return tag("svg", *parts, viewBox=box, class_="chart", role="img", style=f"max-width:{width}px")


def axis_ticks(values: Sequence[float], axis: ChartAxis) -> list[float]:
    """Choose the ticks of ``axis``; the range that it leaves open is that of the finite ``values``."""
    if axis.ticks:
        return [at for at, _ in axis.ticks]
    finite = [v for v in values if isfinite(v)] or [0.0, 1.0]
    low = min(finite) if axis.low is None else axis.low
    high = max(finite) if axis.high is None else axis.high
    return nice_ticks(low, high)


def _grid(frame: _Frame, x_axis: ChartAxis, y_axis: ChartAxis) -> Markup:
    parts, bottom = [], frame.bottom
    for value in frame.y_ticks:
        y = frame.y(value)
        parts.append(tag("line", x1=_LEFT, x2=frame.right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", y_axis.text(value), x=_LEFT - 5, y=y + 4, class_="tick", text_anchor="end"))
    for value in frame.x_ticks:
        x = frame.x(value)
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="base"))
        parts.append(tag("text", x_axis.text(value), x=x, y=bottom + 16, class_="tick", text_anchor="middle"))
    parts.append(tag("line", x1=_LEFT, x2=frame.right, y1=bottom, y2=bottom, class_="base"))
    return join(*parts)


def _y_label(text: str, y: float) -> Markup:
    return tag("text", text, x=11, y=y, class_="axis", text_anchor="middle", transform=f"rotate(-90 11 {y:g})")


def _end_labels(series: Sequence[Series], frame: _Frame) -> Markup:
    """Write names beside the ends of their lines, pushed apart so that none covers another."""
    labelled = sorted((s for s in series if s.name and s.style != "muted"), key=lambda s: frame.y(s.ys[-1]))
    ends = [frame.y(s.ys[-1]) + 4 for s in labelled]
    for i in range(1, len(ends)):
        ends[i] = max(ends[i], ends[i - 1] + _LABEL_GAP)
    spill = max(0.0, ends[-1] - (frame.bottom + 4)) if ends else 0.0
    for i in range(len(ends) - 1, -1, -1):
        limit = ends[i + 1] - _LABEL_GAP if i + 1 < len(ends) else ends[i] - spill
        ends[i] = min(ends[i], limit)
    return join(
        *(
            tag("text", s.name, x=frame.x(s.xs[-1]) + 6, y=round(y, 1), class_=f"name {s.style}")
            for s, y in zip(labelled, ends, strict=True)
        )
    )
