"""Write docs/api.md from the docstrings of the names that ``rcnn`` exports: ``python docs/write_api.py``."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rcnn

PAGE = Path(__file__).with_name("api.md")
_HEAD = """# API

What `import rcnn` gives. Written by `python docs/write_api.py` from the docstrings; edit those.
Boxes are float32 `[n, 4]`, `x1, y1, x2, y2` in pixels of the upright image, 0-based, right and bottom edge exclusive.
"""


def page() -> str:
    """Return the page's text."""
    parts = [_HEAD]
    for name in rcnn.__all__:
        parts += _entry(name, getattr(rcnn, name))
    return "\n".join(parts)


def _entry(name: str, item: Any) -> Iterator[str]:
    if not inspect.isclass(item):
        yield f"## `{name}{_signature(item)}`\n\n{_prose(item)}\n"
        return
    fields = _signature(item).removesuffix(" -> None") if dataclasses.is_dataclass(item) else ""
    yield f"## `{name}{fields}`\n\n{_prose(item)}\n"
    for member, value in vars(item).items():
        if member.startswith("_") and member not in ("__call__", "__len__", "__getitem__", "__iter__"):
            continue
        inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        shown = getattr(inner, "fget", None) or getattr(inner, "func", None) or inner
        if not inspect.isfunction(shown) or not inspect.getdoc(shown):
            continue
        is_property = shown is not inner
        yield f"### `{name}.{member}{'' if is_property else _signature(shown)}`\n\n{_prose(shown)}\n"


def _signature(function: Any) -> str:
    """Return the arguments of a function, without ``self`` and annotations' module names."""
    signature = inspect.signature(function)
    given = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    text = re.sub(r"\b(?:[a-z_]+\.)+([A-Za-z])", r"\1", str(signature.replace(parameters=given)))
    text = re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]", r"NDArray[\1]", text)
    return re.sub(r"'([A-Z][^']*)'", r"\1", text)  # a class named before it is there


def _prose(item: Any) -> str:
    """Return a docstring as Markdown: roles as code, an indented list of arguments as a list."""
    text = inspect.getdoc(item) or ""
    text = re.sub(r":[a-z]+:`~?\.?(?:\w+\.)*(\w+)`", r"`\1`", text).replace("``", "`")
    return re.sub(r"(?m)^(Args|Returns|Attributes|Raises):\n((?:[ ]{4}.*\n?|\n)+)", _listed, text + "\n").strip()


def _listed(found: re.Match[str]) -> str:
    items: list[str] = []
    for line in textwrap.dedent(found[2]).splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        elif line.strip():
            name, colon, rest = line.partition(":")
            items.append(f"- `{name}`:{rest}" if colon and " " not in name else f"- {line}")
    return f"{found[1]}:\n" + "\n".join(items) + "\n\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
