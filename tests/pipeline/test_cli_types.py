"""Options' values: what is no number, and a path that is empty, is one line in every command that takes one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from pipeline.cli import cli
from pipeline.cli.types import GivenPath, Number

Run = Callable[..., tuple[int, str, str]]


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from parameters(found)


def test_every_number_and_path_of_every_command_is_checked() -> None:
    """click's own take ``nan`` and an empty path."""
    kinds = [one.type for one in parameters(cli)]
    assert sum(isinstance(one, Number) for one in kinds) >= 9 and sum(isinstance(one, GivenPath) for one in kinds) >= 20
    assert not [one for one in kinds if isinstance(one, click.Path) and not isinstance(one, GivenPath)]
    assert not [one for one in kinds if isinstance(one, click.types.FloatParamType) and not isinstance(one, Number)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("detect", "a.jpg", "--out", "o", "--min-score", "nan"), "--min-score nan: is no number"),
        (("detect", "a.jpg", "--out", "o", "--min-precision", "nan"), "--min-precision nan: is no number"),
        (("segment", "a.jpg", "--out", "o", "--threshold", "inf"), "--threshold inf: is no number"),
        (("detect", "a.jpg", "--out", ""), "--out '': the path is empty; give one"),
        (("detect", "", "--out", "o"), "IMAGE|FOLDER... '': the path is empty; give one"),
        (("dataset", "duplicates", "a", "--out", " "), "--out ' ': the path is empty; give one"),
    ],
)
def test_what_is_no_value_is_one_line(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == (2, "", f"rcnn: {expected}\n")
    assert not list(tmp_path.iterdir())
