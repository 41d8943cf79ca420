"""What every page says of the runs that made it: times, parameters, digests."""

from collections.abc import Iterator, Mapping
from typing import Any

from .markup import Markup, section, table, tag


def duration(seconds: float) -> str:
    """Write a time for people: ``1.5 s``, ``2 min 05 s``, ``3 h 07 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def parameter_rows(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name (``svm.C``) and the text of every parameter; ``parameters`` is by group."""
    for group, value in parameters.items():
        if isinstance(value, Mapping):
            for key, one in value.items():
                yield f"{group}.{key}", _value(one)
        else:
            yield group, _value(value)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "–" if value is None else str(value)


def parameters_section(parameters: Mapping[str, Any]) -> Markup:
    """Show every parameter that made the detector, by group."""
    rows = [[tag("code", name), tag("code", value)] for name, value in parameter_rows(parameters)]
    return section("parameters", "Parameters", table(["parameter", "value"], rows, text_columns=2))


def digests_section(digests: Mapping[str, str]) -> Markup:
    """Show the sha256 of every file that the page was made from: pages with equal lists show the same detectors."""
    rows = [[tag("code", name), tag("code", digest)] for name, digest in digests.items()]
    return section("digests", "Made from", table(["file", "sha256"], rows, text_columns=2))
