"""docs/api.md and the map in docs/architecture.md say what the docstrings say."""

import re
import runpy
from pathlib import Path

import rcnn

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date() -> None:
    names = runpy.run_path(str(DOCS / "write_api.py"))
    made = names["page"]()
    assert (DOCS / "api.md").read_text(encoding="utf-8") == made, "run `python docs/write_api.py`"
    assert all(f"## `{name}" in made for name in rcnn.__all__)


def test_the_map_is_up_to_date_and_has_every_file() -> None:
    names = runpy.run_path(str(DOCS / "write_map.py"))
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert text == names["page"](text), "run `python docs/write_map.py`"
    root = DOCS.parent
    told = text.partition("## Every file")[2]
    rooms = dict(re.findall(r"\*\*`(.+?)/`\*\*(.*?)(?=\n\*\*`|\Z)", told, re.DOTALL))
    for package in ("cache", "manifests", "pipeline", "stages", "rcnn"):
        for path in (root / package).rglob("*.py"):
            if path.name != "__init__.py":
                assert f"- `{path.name}`: " in rooms[path.parent.relative_to(root).as_posix()], path
