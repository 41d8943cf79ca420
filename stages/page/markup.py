"""HTML and SVG elements in which plain text is always escaped, and the document around them."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

_VOID = frozenset({"meta", "br", "rect", "line", "path", "circle", "image", "polyline", "use"})


class Markup(str):
    """Text that is markup already; every other ``str`` is escaped when it becomes part of an element."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Make an element. ``class_`` stands for ``class``, ``stroke_width`` for ``stroke-width``; None leaves one out."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    if name in _VOID and not children:
        return Markup(f"<{name}{''.join(parts)}/>")
    return Markup(f"<{name}{''.join(parts)}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Put elements and texts one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.7g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> Markup:
    """Make a table; columns after the first ``text_columns`` are numbers, aligned right."""

    def row(cells: Sequence[str], kind: str) -> Markup:
        return tag(
            "tr", *(tag(kind, cell, class_="number" if i >= text_columns else None) for i, cell in enumerate(cells))
        )

    head = tag("thead", row(header, "th"))
    return tag("div", tag("table", head, tag("tbody", *(row(cells, "td") for cells in rows))), class_="scroll")


def section(anchor: str, title: str, *children: str) -> Markup:
    """Make a part of the page with a heading that can be linked to."""
    return tag("section", tag("h2", title), *children, id=anchor)


def tile(title: str, value: str, note: str) -> Markup:
    """Make a box for a headline figure, with ``note`` under it."""
    small = tag("small", note) if note else Markup("")
    return tag("div", tag("span", title), tag("strong", value), small, class_="tile")


def percent(value: float | None, digits: int = 1) -> str:
    """Write a score in [0, 1] as percent, without the sign of percent; a dash for none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def signed_percent(value: float | None) -> str:
    """Write a difference of scores in percent, with its sign: ``+1.2``, ``−0.3``; a dash for none."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def document(
    title: str, lead: str, contents: Sequence[tuple[str, str]], sections: Sequence[Markup], *, style: str = ""
) -> str:
    """Return the whole page as text: no script, no external resource.

    Args:
        lead: a paragraph under the title; text or markup.
        contents: (anchor, text) of each link under it.
        style: rules added to ``page.css``.
    """
    rules = Path(__file__).with_name("page.css").read_text(encoding="utf-8") + style
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(rules)),
    )
    links = tag("nav", *(tag("a", text, href=f"#{anchor}") for anchor, text in contents))
    header = tag("header", tag("h1", title), tag("p", lead), links)
    body = tag("body", header, tag("main", join(*sections)))
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang="en") + "\n"
