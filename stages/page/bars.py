"""Bars, intervals and dots in rows, as inline SVG; colours as in :mod:`.charts`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .charts import ChartAxis, axis_ticks, chart
from .markup import Markup, tag

_LONGEST_NAME = 24  # letters of a row's name that are shown


def _shown(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _names_px(names: Sequence[str]) -> int:
    """Estimate how wide the column of rows' names is; only the browser knows."""
    return 24 + 7 * min(_LONGEST_NAME, max(map(len, names), default=4))


def stacked_bars(
    rows: Sequence[tuple[str, Sequence[float]]], kinds: Sequence[tuple[str, str]], *, width: int = 760
) -> Markup:
    """Draw one horizontal bar of 100% per row, split by ``kinds`` (name, colour class), with a legend on top."""
    left = _names_px([name for name, _ in rows])
    line, bar, top = 24, 16, 26
    parts, x = [], float(left)
    for name, style in kinds:
        parts.append(tag("rect", x=x, y=4, width=11, height=11, class_=f"fill {style}"))
        parts.append(tag("text", name, x=x + 15, y=14, class_="tick"))
        x += 30 + 6.6 * len(name)
    for i, (name, values) in enumerate(rows):
        y, total, x = top + i * line, sum(values) or 1.0, float(left)
        parts.append(tag("text", _shown(name), x=left - 8, y=y + 12.5, class_="tick", text_anchor="end"))
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
    return chart(parts, width, height)


@dataclass(frozen=True)
class Bar:
    """A bar from 0: what it stands for, colour class, and length in data units (None: not known)."""

    name: str
    style: str
    value: float | None


def grouped_bars(
    groups: Sequence[tuple[str, Sequence[Bar]]], text: Callable[[float], str], *, width: int = 760
) -> Markup:
    """Draw groups of bars under each other, all to one scale; ``text`` writes the value beside a bar."""
    left, thick, gap = _names_px([name for name, _ in groups]), 11, 14
    longest = max((bar.value for _, bars in groups for bar in bars if bar.value is not None), default=0.0) or 1.0
    parts, top = [], 4.0
    for group, bars in groups:
        middle = top + (thick + 1) * len(bars) / 2 + 4
        parts.append(tag("text", _shown(group), x=left - 8, y=middle, class_="tick", text_anchor="end"))
        for bar in bars:
            length = (width - left - 70) * (bar.value or 0.0) / longest
            shown = "–" if bar.value is None else text(bar.value)
            title, style = tag("title", f"{bar.name}, {group}: {shown}"), f"fill {bar.style}"
            parts.append(tag("rect", title, x=left, y=top, width=max(length, 0.8), height=thick, class_=style))
            parts.append(tag("text", shown, x=round(left + length + 5, 1), y=top + 9.5, class_="tick"))
            top += thick + 1
        top += gap
    return chart(parts, width, top - gap + 6 if groups else top)


@dataclass(frozen=True)
class IntervalRow:
    """A value with its interval, in data units; None: not known."""

    name: str
    style: str
    value: float | None
    low: float | None = None
    high: float | None = None


def interval_chart(
    rows: Sequence[IntervalRow], axis: ChartAxis, text: Callable[[float], str], *, reference: float | None = None
) -> Markup:
    """Draw one dot per row on a common axis, with a bar over its interval and the value written beside it.

    ``reference``: where a dashed line stands to which all rows are to be held, in data units.
    """
    width, line, top = 520, 24, 6
    left, right = _names_px([row.name for row in rows]), width - 56
    known = [v for row in rows for v in (row.low, row.value, row.high) if v is not None]
    ticks = axis_ticks(known, axis)
    bottom = top + line * len(rows)

    def at(value: float) -> float:
        return round(left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left), 1)

    parts = []
    for tick in ticks:
        style = "base" if tick == 0 else "grid"  # no difference: the line to look at
        parts.append(tag("line", x1=at(tick), x2=at(tick), y1=top, y2=bottom, class_=style))
        parts.append(tag("text", axis.text(tick), x=at(tick), y=bottom + 16, class_="tick", text_anchor="middle"))
    if reference is not None:
        parts.append(tag("line", x1=at(reference), x2=at(reference), y1=top, y2=bottom, class_="line plain dashed"))
    for i, row in enumerate(rows):
        y = top + line * i + line / 2
        parts.append(tag("text", _shown(row.name), x=left - 8, y=y + 4, class_="tick", text_anchor="end"))
        if row.low is not None and row.high is not None:
            parts.append(tag("line", x1=at(row.low), x2=at(row.high), y1=y, y2=y, class_=f"line {row.style}"))
        if row.value is not None:
            parts.append(tag("circle", cx=at(row.value), cy=y, r=4.5, class_=f"fill {row.style}"))
        shown = "–" if row.value is None else text(row.value)
        parts.append(tag("text", shown, x=width - 2, y=y + 4, class_="tick", text_anchor="end"))
    height = bottom + 36
    parts.append(tag("text", axis.label, x=(left + right) / 2, y=height - 4, class_="axis", text_anchor="middle"))
    return chart(parts, width, height)


def dot_line(dots: Sequence[tuple[float, str]], style: str) -> Markup:
    """Draw dots on a line from 0 to 1; the first and the last are joined by a line of colour class ``style``.

    Args:
        dots: value in [0, 1] and class (``fill c0``, ``ring c0``) of each, the later ones on top.
    """
    at = [6 + 148 * value for value, _ in dots]
    circles = [
        tag("circle", cx=x, cy=8, r=4 if kind.startswith("ring") else 4.5, class_=kind)
        for x, (_, kind) in zip(at, dots, strict=True)
    ]
    return tag(
        "svg",
        tag("line", x1=6, x2=154, y1=8, y2=8, class_="grid"),
        tag("line", x1=at[0], x2=at[-1], y1=8, y2=8, class_=f"line {style}"),
        *circles,
        viewBox="0 0 160 16",
        width=160,
        height=16,
        role="img",
    )


def share_bar(part: float) -> Markup:
    """Draw one small bar, ``part`` in [0, 1] of the longest."""
    rect = tag("rect", x=0, y=2, width=max(1.0, 118 * part), height=10, class_="fill c0")
    return tag("svg", rect, viewBox="0 0 120 14", width=120, height=14, role="img")
