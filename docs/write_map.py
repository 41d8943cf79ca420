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

The first sentence of each, and the functions and classes that other files may take from it; `rcnn/` only passes names
on. A room's parameters stand in its `settings.py`, what the pipeline runs of it in its `stage.py` or `NAME_stage.py`,
which nobody imports. Written by `python docs/write_map.py`.
"""


def page(before: str) -> str:
    """Return the page's text, of which ``before`` is any former state: what stands above the map is kept."""
    above = before.partition(_HEAD.partition("\n")[0])[0].rstrip("\n")
    return f"{above}\n\n{_HEAD}\n" + "\n\n".join(_rooms()) + "\n"


def _rooms() -> Iterator[str]:
    files = [path for package in _PACKAGES for path in sorted((ROOT / package).rglob("*.py"), key=_depth_first)]
    for room, paths in groupby(files, key=lambda path: path.parent):
        told = [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]
        lines = [
            f"- `{path.name}`: {said}{_names(module)}"
            for path, module in told
            if path.name != "__init__.py" and (said := _sentence(module))
        ]
        about = "".join(
            f": {said}" for path, module in told if path.name == "__init__.py" and (said := _sentence(module))
        )
        if lines or about:
            yield "\n".join([f"**`{room.relative_to(ROOT).as_posix()}/`**{about}", *([""] if lines else []), *lines])


def _depth_first(path: Path) -> tuple[str, str]:
    return path.parent.as_posix(), path.name


def _names(module: ast.Module) -> str:
    """Return the public functions and classes that a file defines, in its order, as the end of its line."""
    names = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [f"`{name}`" for name in names if not name.startswith("_")]
    return f" ({', '.join(public)})" if public else ""


def _sentence(module: ast.Module) -> str:
    """Return the first sentence of a module's docstring, as Markdown."""
    text = " ".join((ast.get_docstring(module) or "").partition("\n\n")[0].split())
    first = re.split(r"(?<=[a-z0-9)`])(?<!et al)(?<!app)\. ", text, maxsplit=1)[0].rstrip(".")
    return re.sub(r":[a-z]+:`~?\.?(?:\w+\.)*(\w+)`", r"`\1`", first).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
