"""Types of the command line's values: a number that is one, and a path that is not empty."""

import math
from typing import Any

import click

from cache.errors import ParamsError


class Number(click.FloatRange):
    """A finite number in a range; click's own takes ``nan``, which no comparison refuses, and ``inf``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; ParamsError where it is not finite, click's error where it is not in the range."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            raise ParamsError(f"{_name(param)} {value}: is no number")
        return number


class GivenPath(click.Path):
    """A path with a name: an empty text, such as that of a shell's unset variable, would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; ParamsError where it is empty, click's error where it is not as asked."""
        if isinstance(value, str) and not value.strip():
            raise ParamsError(f"{_name(param)} {value!r}: the path is empty; give one")
        return super().convert(value, param, ctx)


def _name(param: click.Parameter | None) -> str:
    if param is None:
        return "value"
    return param.opts[0] if param.opts[0].startswith("-") else param.human_readable_name
