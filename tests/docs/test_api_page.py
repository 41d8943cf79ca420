"""docs/api.md says what the docstrings say."""

import runpy
from pathlib import Path

import rcnn

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date() -> None:
    names = runpy.run_path(str(DOCS / "write_api.py"))
    made = names["page"]()
    assert (DOCS / "api.md").read_text(encoding="utf-8") == made, "run `python docs/write_api.py`"
    assert all(f"## `{name}" in made for name in rcnn.__all__)
