"""Every parameter as a table: what it means, what it may be, its default."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stages.graph import KINDS, ROOT

from .params import schema

_SIGNS = ((Ge, "ge", "≥ "), (Gt, "gt", "> "), (Le, "le", "≤ "), (Lt, "lt", "< "))


@dataclass(frozen=True)
class Row:
    """One parameter; ``name`` is dotted, as in ``dvc exp run -S name=value``."""

    name: str
    default: Any
    values: str
    description: str


def rows(kind: str = ROOT) -> list[Row]:
    """Return all parameters of a kind of detector, in the order of its params.yaml (the root's: of the project's)."""
    return list(_rows(schema(kind), ""))


def markdown() -> str:
    """Make docs/parameters.md: the root's groups, then those of other kinds of detector."""
    lines = [
        "# Parameters",
        "",
        "Made by `rcnn params --markdown`. Values stand in `params.yaml`; an unknown name or a value out of range is",
        "an error that names the nearest. For one experiment: `dvc exp run -S svm.C=0.01`.",
        "",
    ]
    sections: dict[str, list[str]] = {}
    first: dict[str, list[Row]] = {}
    for kind in KINDS:
        for group, own in _groups(kind).items():
            if group not in first:
                first[group] = own
                sections[group] = [*_owners(group), *_table(own)]
            elif own != first[group]:
                sections[group] += _difference(kind, own, first[group])
    for group, section in sections.items():
        lines += ["", f"## {group}", "", *section]
    return "\n".join(lines) + "\n"


def _owners(group: str) -> list[str]:
    """Say which kinds of detector have a group that the root has not, and where it stands."""
    kinds = [f"`{name}`" for name in KINDS if group in _groups(name)]
    return [] if f"`{ROOT}`" in kinds else [f"In the params.yaml of a detector of kind {_joined(kinds, 'or')}.", ""]


def _groups(kind: str) -> dict[str, list[Row]]:
    """Return a kind's parameters by group."""
    groups: dict[str, list[Row]] = {}
    for row in rows(kind):
        groups.setdefault(row.name.split(".")[0] if "." in row.name else "general", []).append(row)
    return groups


def _difference(kind: str, own: list[Row], first: list[Row]) -> list[str]:
    """Say what a kind has of a group that the first had otherwise: what it lacks, and what is not the same."""
    lacking = [f"`{row.name}`" for row in first if row.name not in {one.name for one in own}]
    lines = ["", f"Kind `{kind}` has no {_joined(lacking, 'or')}."] if lacking else []
    others = [row for row in own if row not in first]
    return lines + (["", f"Of kind `{kind}`:", "", *_table(others)] if others else [])


def _joined(words: list[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _table(of: list[Row]) -> list[str]:
    """Make a Markdown table."""
    lines = ["| parameter | default | values | meaning |", "|---|---|---|---|"]
    for row in of:
        cells = (f"`{row.name}`", f"`{_show(row.default)}`", row.values, row.description)
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return lines


def _rows(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        inner = _settings_in(field.annotation)
        if inner is not None:
            yield from _rows(inner, f"{prefix}{name}.")
        else:
            default = field.get_default(call_default_factory=True)
            yield Row(prefix + name, default, _values(field), " ".join((field.description or "").split()))


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    candidates = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _values(field: FieldInfo) -> str:
    return ", ".join([_type(field.annotation), *_bounds(field)])


def _bounds(field: FieldInfo) -> list[str]:
    known = ((kind, name, sign, m) for kind, name, sign in _SIGNS for m in field.metadata)
    return [sign + f"{getattr(m, name):g}" for kind, name, sign, m in known if isinstance(m, kind)]


def _type(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [bound for field in args[1:] if isinstance(field, FieldInfo) for bound in _bounds(field)]
        return _type(args[0]) + (f" ({', '.join(bounds)})" if bounds else "")
    if origin is Literal:
        return ", ".join(_show(a) for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in args)
    if origin in (tuple, list):
        return f"list of {_type(args[0])}"
    if annotation is type(None):
        return "null"
    return {int: "integer", float: "number", str: "text", bool: "true, false"}.get(annotation, str(annotation))


def _show(value: Any) -> str:
    """Return the value as one writes it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_show(v) for v in value) + "]"
    return str(value)
