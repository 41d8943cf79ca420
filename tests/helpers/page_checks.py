"""What every page of the pipeline must be: well-formed, and whole without any other file."""

import re
from html.parser import HTMLParser

_VOID = {"meta", "br", "rect", "line", "path", "circle", "image", "polyline"}


class Checker(HTMLParser):
    """Collects elements and fails on one that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str | None] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> Checker:
    """Every element of the page, each closed in its turn."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def self_contained(html: str) -> Checker:
    """The parsed page, which has no script and needs no other resource."""
    checker = parsed(html)
    assert "script" not in checker.tags
    assert "link" not in checker.tags
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in checker.links)
    assert len(set(checker.ids)) == len(checker.ids)
    return checker
