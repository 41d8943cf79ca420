"""Every parameter as a table: what it means, what it may be, its default."""

import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stages.graph import KINDS

from .params import own_groups, schema

_SIGNS = ((Ge, "ge", "≥ "), (Gt, "gt", "> "), (Le, "le", "≤ "), (Lt, "lt", "< "))


@dataclass(frozen=True)
class Row:
    """One parameter; ``name`` is dotted, as in ``dvc exp run -S name=value``."""

    name: str
    default: Any
    values: str
    description: str


def rows() -> list[Row]:
    """All parameters, in the order of params.yaml: the root's, and behind them those that only other kinds have.

    Where kinds differ in a default the row has the first one's, and its meaning names the others.
    """
    found = {row.name: row for row in _rows(schema(), "")}
    roots = {name.partition(".")[0] for name in found}
    for kind in KINDS.values():
        for group, model in own_groups(kind).items():
            for row in _rows(model, f"{group}.") if group not in roots else ():
                former = found.setdefault(row.name, row)
                if former.default != row.default:
                    also = f"{former.description} (kind {kind.name}: {_show(row.default)})"
                    found[row.name] = replace(former, description=also)
    # a kind's own rows of a group come behind those that it shares with another
    order = list(dict.fromkeys(name.partition(".")[0] if "." in name else "" for name in found))
    return sorted(found.values(), key=lambda row: order.index(row.name.partition(".")[0] if "." in row.name else ""))


def _only_of(group: str) -> str:
    """Name the kinds of detector that have a group which the root has not; empty for one that the root has."""
    kinds = [kind.name for kind in KINDS.values() if group in own_groups(kind)]
    return "" if group in schema().model_fields else ", ".join(f"`{name}`" for name in kinds)


def markdown() -> str:
    """docs/parameters.md."""
    lines = [
        "# Parameters",
        "",
        "Made by `rcnn params --markdown`. Values stand in `params.yaml`; an unknown name or a value out of range is",
        "an error that names the nearest. For one experiment: `dvc exp run -S svm.C=0.01`.",
        "",
    ]
    group = None
    for row in rows():
        head = row.name.split(".")[0] if "." in row.name else "general"
        if head != group:
            group = head
            lines += ["", f"## {group}", ""]
            if kinds := "" if head == "general" else _only_of(head):
                lines += [f"In `detectors/NAME/params.yaml` of kind {kinds}.", ""]
            lines += ["| parameter | default | values | meaning |", "|---|---|---|---|"]
        cells = (f"`{row.name}`", f"`{_show(row.default)}`", row.values, row.description)
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


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
    """As one writes it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_show(v) for v in value) + "]"
    return str(value)
