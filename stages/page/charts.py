"""Small charts as inline SVG. Colours are classes of the page's style sheet, so that they suit light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from .markup import Markup, join, tag

_LEFT, _TOP, _BOTTOM = 54, 8, 36
_LABEL_GAP = 13


@dataclass(frozen=True)
class Series:
    """One line: points in data units; ``style`` is a colour class (``c0`` ... ``c7``, ``muted``, ``plain``)."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: str = "c0"
    dashed: bool = False


@dataclass(frozen=True)
class ChartAxis:
    """Label with unit, and range; a range left open is that of the data."""

    label: str
    low: float | None = 0.0
    high: float | None = None


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers that span [low, high]."""
    span = high - low if high > low else abs(high) or 1.0
    raw = span / count
    unit = 10.0 ** floor(log10(raw))
    step = unit * next(m for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first = floor(low / step + 1e-9)
    last = ceil((low + span) / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A tick's number: thousands as k, no needless digits."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}"


def line_chart(
    series: Sequence[Series], x: ChartAxis, y: ChartAxis, *, width: int = 520, height: int = 300, label_width: int = 110
) -> Markup:
    """Lines with axes, a light grid, and each line's name at its end (``label_width`` px; 0: no names)."""
    series = [s for s in series if len(s.xs)]
    x_ticks, y_ticks = _ticks([v for s in series for v in s.xs], x), _ticks([v for s in series for v in s.ys], y)
    right, floor_y = width - label_width - 10, height - _BOTTOM

    def at_x(value: float) -> float:
        return round(_LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (right - _LEFT), 1)

    def at_y(value: float) -> float:
        return round(floor_y - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (floor_y - _TOP), 1)

    parts = [_grid(x_ticks, y_ticks, at_x, at_y, right, floor_y)]
    parts.append(tag("text", x.label, x=(_LEFT + right) / 2, y=height - 5, class_="axis", text_anchor="middle"))
    parts.append(_y_label(y.label, (_TOP + floor_y) / 2))
    for one in series:
        points = " ".join(f"{at_x(a):g},{at_y(b):g}" for a, b in zip(one.xs, one.ys, strict=True) if isfinite(b))
        style = f"line {one.style}" + (" dashed" if one.dashed else "")
        parts.append(tag("polyline", tag("title", one.name), points=points, class_=style))
        if len(one.xs) == 1:
            parts.append(tag("circle", cx=at_x(one.xs[0]), cy=at_y(one.ys[0]), r=3, class_=f"dot {one.style}"))
    if label_width:
        parts.append(_end_labels(series, at_x, at_y, height))
    return tag("svg", *parts, viewBox=f"0 0 {width} {height}", class_="chart", role="img", style=f"max-width:{width}px")


def _ticks(values: list[float], axis: ChartAxis) -> list[float]:
    finite = [v for v in values if isfinite(v)] or [0.0, 1.0]
    low = min(finite) if axis.low is None else axis.low
    high = max(finite) if axis.high is None else axis.high
    return nice_ticks(low, high)


def _grid(x_ticks, y_ticks, at_x, at_y, right, floor_y) -> Markup:  # type: ignore[no-untyped-def]
    parts = []
    for value in y_ticks:
        y = at_y(value)
        parts.append(tag("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", tick_text(value), x=_LEFT - 5, y=y + 4, class_="tick", text_anchor="end"))
    for value in x_ticks:
        x = at_x(value)
        parts.append(tag("line", x1=x, x2=x, y1=floor_y, y2=floor_y + 4, class_="base"))
        parts.append(tag("text", tick_text(value), x=x, y=floor_y + 16, class_="tick", text_anchor="middle"))
    parts.append(tag("line", x1=_LEFT, x2=right, y1=floor_y, y2=floor_y, class_="base"))
    return join(*parts)


def _y_label(text: str, y: float) -> Markup:
    return tag("text", text, x=11, y=y, class_="axis", text_anchor="middle", transform=f"rotate(-90 11 {y:g})")


def _end_labels(series, at_x, at_y, height) -> Markup:  # type: ignore[no-untyped-def]
    """Names beside the ends of their lines, pushed apart so that none covers another."""
    labelled = sorted((s for s in series if s.name and s.style != "muted"), key=lambda s: at_y(s.ys[-1]))
    ends = [at_y(s.ys[-1]) + 4 for s in labelled]
    for i in range(1, len(ends)):
        ends[i] = max(ends[i], ends[i - 1] + _LABEL_GAP)
    spill = max(0.0, ends[-1] - (height - _BOTTOM + 4)) if ends else 0.0
    for i in range(len(ends) - 1, -1, -1):
        limit = ends[i + 1] - _LABEL_GAP if i + 1 < len(ends) else ends[i] - spill
        ends[i] = min(ends[i], limit)
    return join(
        *(
            tag("text", s.name, x=at_x(s.xs[-1]) + 6, y=round(y, 1), class_=f"name {s.style}")
            for s, y in zip(labelled, ends, strict=True)
        )
    )


def stacked_bars(
    rows: Sequence[tuple[str, Sequence[float]]], kinds: Sequence[tuple[str, str]], *, width: int = 760
) -> Markup:
    """One horizontal bar of 100% per row, split by ``kinds`` (name, colour class), with a legend on top."""
    left = 24 + 7 * min(24, max((len(name) for name, _ in rows), default=4))
    line, bar, top = 24, 16, 26
    parts, x = [], float(left)
    for name, style in kinds:
        parts.append(tag("rect", x=x, y=4, width=11, height=11, class_=f"fill {style}"))
        parts.append(tag("text", name, x=x + 15, y=14, class_="tick"))
        x += 30 + 6.6 * len(name)
    for i, (name, values) in enumerate(rows):
        y, total, x = top + i * line, sum(values) or 1.0, float(left)
        shown = name if len(name) <= 24 else name[:23] + "…"
        parts.append(tag("text", shown, x=left - 8, y=y + 12.5, class_="tick", text_anchor="end"))
        for value, (kind, style) in zip(values, kinds, strict=True):
            length = (width - left - 4) * value / total
            title = tag("title", f"{name}, {kind}: {value:g} of {total:g}")
            if value:
                parts.append(
                    tag("rect", title, x=x, y=y, width=max(length - 1, 0.5), height=bar, class_=f"fill {style}")
                )
            if length > 26:
                parts.append(
                    tag("text", f"{value:g}", x=x + length / 2, y=y + 12.5, class_=f"on {style}", text_anchor="middle")
                )
            x += length
    height = top + line * len(rows)
    return tag("svg", *parts, viewBox=f"0 0 {width} {height}", class_="chart", role="img", style=f"max-width:{width}px")
