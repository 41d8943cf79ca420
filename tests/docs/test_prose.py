"""What a test can hold of the prose: how docstrings begin, and that a line of the log names its stage once."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.graph import STAGES

ROOT = Path(__file__).parents[2]
FILES = [
    path for package in ("cache", "manifests", "stages", "pipeline", "rcnn") for path in (ROOT / package).rglob("*.py")
]
# A docstring that begins with one of these is the rest of a sentence whose beginning is the function's name.
FRAGMENTS = {"Of", "By", "As", "At", "On", "In", "Per", "For", "From", "With", "Without", "That", "To", "And", "Or"}


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each docstring with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def fragments(tree: ast.Module) -> list[str]:
    return [f"{line}: {text.splitlines()[0]}" for line, text in docstrings(tree) if text.split()[0] in FRAGMENTS]


def told(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The beginning, as far as it is fixed, of each line that is given to a log, with its place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            receiver = ast.unparse(node.func.value)
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if (
                node.func.attr in {"info", "warning"}
                and receiver.split(".")[-1] in {"log", "_log"}
                and isinstance(first, ast.Constant)
            ):
                yield node.lineno, str(first.value)


def naming_twice(tree: ast.Module) -> list[str]:
    names = "|".join(STAGES)
    return [f"{line}: {text}" for line, text in told(tree) if re.match(rf"(stage )?({names})\b:", text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_are_whole_and_lines_of_the_log_name_their_stage_once(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert fragments(tree) == []
    assert naming_twice(tree) == []


def test_both_are_seen() -> None:
    tree = ast.parse('''def f(ctx):
    """Of the rows."""
    ctx.log.info("done")
    ctx.log.info(f"svm: {1} rows")
    ctx.log.warning("stage bbox: none")
''')
    assert fragments(tree) == ["2: Of the rows."]
    assert naming_twice(tree) == ["4: svm: ", "5: stage bbox: none"]
