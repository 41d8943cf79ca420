"""HTML and SVG elements in which plain text is always escaped."""

from collections.abc import Sequence
from html import escape

_VOID = frozenset({"meta", "br", "rect", "line", "path", "circle", "image", "polyline"})


class Markup(str):
    """Text that is markup already; every other ``str`` is escaped when it becomes part of an element."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """An element. ``class_`` stands for ``class``, ``stroke_width`` for ``stroke-width``; None leaves one out."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    if name in _VOID and not children:
        return Markup(f"<{name}{''.join(parts)}/>")
    return Markup(f"<{name}{''.join(parts)}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.7g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> Markup:
    """A table; columns after the first ``text_columns`` are numbers, aligned right."""

    def row(cells: Sequence[str], kind: str) -> Markup:
        return tag(
            "tr", *(tag(kind, cell, class_="number" if i >= text_columns else None) for i, cell in enumerate(cells))
        )

    head = tag("thead", row(header, "th"))
    return tag("div", tag("table", head, tag("tbody", *(row(cells, "td") for cells in rows))), class_="scroll")


def section(anchor: str, title: str, *children: str) -> Markup:
    """A part of the page with a heading that can be linked to."""
    return tag("section", tag("h2", title), *children, id=anchor)


def percent(value: float | None, digits: int = 1) -> str:
    """A score in [0, 1] as percent without the sign; a dash for none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"
