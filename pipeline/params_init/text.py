"""The text of a params.yaml: values put into a file's lines, whose comments and order stay."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from manifests.text import is_text_to_yaml

_COLUMN = 31  # of the comments, where values leave room
_LINE = re.compile(r"(?P<start> *(?P<name>[A-Za-z_]\w*):)(?P<value> +[^#\s].*?)?(?P<comment>\s+#.*)?")


def with_values(text: str, head: str, document: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Return a params.yaml of exactly these values, in the form of ``text`` where that has a line for each.

    Lines are kept as they are where their value is the one wanted, and comments where ``comments`` has none for the
    name. Of a text that lacks a parameter, or holds it over several lines, nothing is kept.

    Args:
        text: the params.yaml whose comments, order and spacing are taken.
        head: the new file's first lines, comments all.
        document: what the file is to hold: groups of parameters, and single ones.
        comments: by dotted name of a parameter or name of a group; an empty one removes what is there.
    """
    lines = list(_filled(text, document, comments))
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        del lines[0]
    filled = head + "\n" + "\n".join(lines) + "\n"
    return filled if _parsed(filled) == document else head + "\n" + plain(document)


def plain(document: Mapping[str, Any]) -> str:
    """Return a document as YAML, a line for each parameter, without comments."""
    parts = []
    for group, value in document.items():
        if isinstance(value, Mapping):
            parts.append(f"\n{group}:\n" + "".join(f"  {name}: {flow(one)}\n" for name, one in value.items()))
        else:
            parts.append(f"{group}: {flow(value)}\n")
    return "".join(parts)


def flow(value: Any) -> str:
    """Return a value as it stands behind a parameter's name: on one line, whole numbers without a fraction."""
    text = yaml.safe_dump(_whole(value), default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    text = text.removesuffix("\n").removesuffix("\n...")
    # PyYAML writes 1e5 without quotes, a number to DVC
    return f'"{text}"' if text == value and not is_text_to_yaml(text) else text


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Name each parameter that two documents have otherwise, with both values; ``-`` for one that is not there."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    for name in dict.fromkeys([*old, *new]):
        if old.get(name, _ABSENT) != new.get(name, _ABSENT):
            shown = [flow(one[name]) if name in one else "-" for one in (old, new)]
            yield f"{name}: {shown[0]} -> {shown[1]}"


_ABSENT = object()


def _leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _filled(text: str, document: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[str]:
    """Yield the text's lines with the document's values; what is no line of one parameter as it is."""
    group = ""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            yield line
            continue
        inside = line.startswith(" ")
        group = group if inside else found["name"]
        name = f"{group}.{found['name']}" if inside else group
        holder: Any = document.get(group) if inside else document
        if not isinstance(holder, Mapping) or found["name"] not in holder:
            yield line
            continue
        yield _line(found, holder[found["name"]], comments.get(name))


def _line(found: re.Match[str], value: Any, comment: str | None) -> str:
    text = found["start"]
    if found["value"] is not None:
        misread = found["value"].strip() == value and not is_text_to_yaml(value)
        same = _parsed(found["value"]) == value and not misread
        text += found["value"] if same else f" {flow(value)}"
    note = (found["comment"] or "").strip() if comment is None else f"# {comment}" * bool(comment)
    # the comment stays in its column where the value leaves room
    at = found.end("comment") - len(found["comment"].lstrip()) if found["comment"] else _COLUMN
    column = min(at, _COLUMN)
    return f"{text:<{column - 1}} {note}".rstrip() if len(text) < column else f"{text}   {note}".rstrip()


@cache
def _parsed(text: str) -> Any:
    """The value that YAML reads, not to be changed; ``_ABSENT`` where there is none."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return _ABSENT


def _whole(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 10**15 else value
