"""Types of the command line's values: a number that is one, and a path that is not empty."""

import math
from typing import IO, Any

import click


class WrongValue(click.ClickException):
    """One line on stderr and exit code 2, as for all that is wrong; click's own takes four lines."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"rcnn: {self.message}", file=file, err=file is None)


class Number(click.FloatRange):
    """A finite number in a range; click's own takes ``nan``, which no comparison refuses, and ``inf``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; WrongValue where it is not finite, click's error where it is not in the range."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            raise WrongValue(f"{_name(param)} {value}: is no number")
        return number


class GivenPath(click.Path):
    """A path with a name: an empty text, such as that of a shell's unset variable, would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; WrongValue where it is empty, click's error where it is not as asked."""
        if isinstance(value, str) and not value.strip():
            raise WrongValue(f"{_name(param)} {value!r}: the path is empty; give one")
        return super().convert(value, param, ctx)


def _name(param: click.Parameter | None) -> str:
    if param is None:
        return "value"
    return param.opts[0] if param.opts[0].startswith("-") else param.human_readable_name
