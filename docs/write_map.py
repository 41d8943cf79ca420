"""Write the map at the end of docs/architecture.md, a line for each file: ``python docs/write_map.py``."""

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("architecture.md")
_PACKAGES = ("rcnn", "pipeline", "stages", "manifests", "cache")
_HEAD = """## Every file

The first sentence of each. A room's parameters stand in its `settings.py`, what the pipeline runs of it in its
`stage.py` or `NAME_stage.py`, which nobody imports. Written by `python docs/write_map.py`.
"""


def page(before: str) -> str:
    """Return the page's text, of which ``before`` is any former state: what stands above the map is kept."""
    above = before.partition(_HEAD.partition("\n")[0])[0].rstrip("\n")
    return f"{above}\n\n{_HEAD}\n" + "\n\n".join(_rooms()) + "\n"


def _rooms() -> Iterator[str]:
    files = [path for package in _PACKAGES for path in sorted((ROOT / package).rglob("*.py"), key=_depth_first)]
    for room, paths in groupby(files, key=lambda path: path.parent):
        told = [(path, _sentence(path)) for path in paths]
        lines = [f"- `{path.name}`: {said}" for path, said in told if path.name != "__init__.py" and said]
        about = "".join(f": {said}" for path, said in told if path.name == "__init__.py" and said)
        if lines or about:
            yield "\n".join([f"**`{room.relative_to(ROOT).as_posix()}/`**{about}", *([""] if lines else []), *lines])


def _depth_first(path: Path) -> tuple[str, str]:
    return path.parent.as_posix(), path.name


def _sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring, as Markdown."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0].split())
    first = re.split(r"(?<=[a-z0-9)`])(?<!et al)\. ", text, maxsplit=1)[0].rstrip(".")
    return re.sub(r":[a-z]+:`~?\.?(?:\w+\.)*(\w+)`", r"`\1`", first).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
