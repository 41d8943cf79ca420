"""A grid's YAML file, read safely and checked: every problem at once, each a line that names the file and the key.

docs/grids.md says what such a file holds. Names of parameters are checked where a cell is planned.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.errors import DatasetError, ParamsError
from cache.text import nearest
from manifests.text import parse_yaml
from stages.graph import KINDS, ROOT

from .declared import FIGURES, ONLY, PROTOCOLS, Given, Grid, Line, Need, Rule, Times

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # part of an experiment's name, which is a git ref
_GRID_KEYS = (
    *("title", "rows", "columns", "cells", "roles", "detector", "target", "seeds", "figures", "protocol", "times"),
)
_LINE_KEYS = ("title", "labels", "set", "detector", "target", "scopes", "needs", "paper")
_MOST_SEEDS, _MOST_LINES = 100, 1000
_DETECTORS = "detectors"  # in the place of rows: the project's own


def read_grid(path: Path) -> Grid:
    """Read a grid's file; ParamsError with a line for everything that is wrong."""
    if not _NAME.fullmatch(path.stem) or path.suffix not in (".yaml", ".yml"):
        raise ParamsError(f"{path}: a grid is a file NAME.yaml, whose name is of letters, digits, '_' and '-'")
    try:
        document = parse_yaml(path.read_bytes(), str(path), typed=True)
    except FileNotFoundError:
        there = sorted(one.name for one in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ParamsError(f"{path}: not found{nearest(path.name, there)}; name a grid's file") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}); name a grid's file") from None
    except DatasetError as error:
        raise ParamsError(str(error)) from None
    if document is None:
        raise ParamsError(f"{path}: is empty; docs/grids.md says what a grid's file holds")
    reader = _Reader(str(path))
    grid = reader.grid(path.stem, document)
    if reader.problems:
        raise ParamsError("\n".join(dict.fromkeys(reader.problems)))
    return grid


class _Reader:
    """Makes the parts of a grid out of a parsed document; ``problems`` has a line for each thing that is wrong.

    What is wrong counts as absent, so that one mistake is told once.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []

    def grid(self, name: str, document: object) -> Grid:
        top = self._mapping(document, "", _GRID_KEYS)
        rows = {} if top.get("rows") == _DETECTORS else self._lines(top.get("rows"), "rows")
        columns = self._lines(top["columns"], "columns") if "columns" in top else {ONLY: Line()}
        if not rows and top.get("rows") != _DETECTORS:
            self._wrong("rows", f"there are none; name them, or say `rows: {_DETECTORS}`")
        if not columns:
            self._wrong("columns", "there are none; name them, or leave the key out")
        self._check_names(rows, columns)
        for row, line in rows.items():
            self._known(line.paper, columns, f"rows.{row}.paper", "column")
        figures = self._words(top.get("figures", ["mAP"]), "figures")
        self._known(figures, FIGURES, "figures", "figure")
        protocol = self._text(top.get("protocol", "voc2010"), "protocol")
        self._known([protocol], PROTOCOLS, "protocol", "protocol")
        roles = {one: self._text(kind, f"roles.{one}") for one, kind in self._names(top.get("roles", {}), "roles")}
        for role, kind in roles.items():
            self._known([kind], KINDS, f"roles.{role}", "kind of detector")
        for what, lines in (("rows", rows), ("columns", columns)):
            for one, line in lines.items():
                self._known([line.detector] if line.detector else [], [ROOT, *roles], f"{what}.{one}.detector", "role")
        if "cells" in top and not rows:
            self._wrong("cells", "says of which rows, and there are none; name them")
        return Grid(
            name,
            self.source,
            self._text(top.get("title", name), "title"),
            rows,
            columns or {ONLY: Line()},
            self._rules(top.get("cells", []), rows, columns),
            roles,
            self._role(top.get("detector", ROOT), "detector", roles),
            self._text(top.get("target", ""), "target"),
            self._seeds(top.get("seeds", [])),
            figures,
            protocol,
            self._times(top.get("times"), columns),
        )

    def _check_names(self, rows: Mapping[str, Line], columns: Mapping[str, Line]) -> None:
        """Tell of a name that is a row's and a column's, and of two cells whose experiments would have one name."""
        for both in rows.keys() & columns.keys():
            self._wrong(f"columns.{both}", "is a row's name, too; --set would reach both: call it otherwise")
        if len(columns) < 2:
            return
        called: dict[str, tuple[str, str]] = {}
        for row, column in itertools.product(rows, columns):
            other = called.setdefault(f"{row}-{column}", (row, column))
            if other != (row, column):
                cells = f"{', '.join(other)} and {row}, {column}"
                self._wrong(
                    "rows", f"the experiments of {cells} would both be called {row}-{column}; use '_' in a name"
                )

    def _wrong(self, where: str, what: str) -> None:
        self.problems.append(f"{self.source}: {where + ': ' if where else ''}{what}")

    def _known(self, found: Any, known: Any, where: str, what: str) -> None:
        for one in found:
            if one not in known:
                self._wrong(where, f"there is no {what} {one!r}{nearest(one, known)}; {', '.join(known) or 'none'}")

    def _mapping(self, value: object, where: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
        """Return a mapping of the keys that it may have."""
        if not isinstance(value, dict):
            self._wrong(where, f"must be a mapping of {', '.join(keys)}, found {type(value).__name__}")
            return {}
        for key in value:
            if key not in keys:
                self._wrong(f"{where}.{key}" if where else str(key), f"unknown key{nearest(str(key), keys)}")
        return {key: one for key, one in value.items() if key in keys}

    def _names(self, value: object, where: str) -> list[tuple[str, Any]]:
        """Return a mapping whose keys are names that may be part of an experiment's."""
        if not isinstance(value, dict):
            self._wrong(where, f"must be a mapping of names, found {type(value).__name__}")
            return []
        found = []
        for key, one in list(value.items())[:_MOST_LINES]:
            if isinstance(key, str) and _NAME.fullmatch(key) and key != "all":
                found.append((key, one))
            else:
                how = "a name is a text of letters, digits, '_' and '-', in quotes where YAML takes it for a number"
                self._wrong(where, f"{key!r}: {how}, and not `all`")
        if len(value) > _MOST_LINES:
            self._wrong(where, f"has {len(value)} entries; the most are {_MOST_LINES}")
        return found

    def _text(self, value: object, where: str) -> str:
        if not isinstance(value, str):
            found = f"{value!r:.60}; put quotes" if isinstance(value, int | float) else type(value).__name__
            self._wrong(where, f"must be a text, found {found}")
            return ""
        return " ".join(value.split())

    def _word(self, value: object, where: str) -> str:
        """Return a label, or what the paper has: any word or number."""
        if isinstance(value, str | int | float) or value is None:
            return "" if value is None else " ".join(str(value).split())
        self._wrong(where, f"must be a word or a number, found {type(value).__name__}")
        return ""

    def _words(self, value: object, where: str) -> list[str]:
        if not isinstance(value, list):
            self._wrong(where, f"must be a list, found {type(value).__name__}")
            return []
        words = [self._text(one, where) for one in value[:_MOST_LINES]]
        if len(set(words)) != len(words):
            self._wrong(where, "an entry is listed twice; list each once")
        return words

    def _role(self, value: object, where: str, roles: Mapping[str, str]) -> str:
        role = self._text(value, where)
        self._known([role], [ROOT, *roles], where, "role")
        return role

    def _lines(self, value: object, where: str) -> dict[str, Line]:
        return {name: self._line(name, one, f"{where}.{name}") for name, one in self._names(value, where)}

    def _line(self, name: str, value: object, where: str) -> Line:
        found = self._mapping({} if value is None else value, where, _LINE_KEYS)
        labels = found.get("labels", {})
        if not isinstance(labels, dict):
            self._wrong(f"{where}.labels", "must be a mapping of headings")
            labels = {}
        paper = found.get("paper", {})
        by_column = paper if isinstance(paper, dict) else {ONLY: paper}
        return Line(
            self._text(found.get("title", name), f"{where}.title"),
            {self._text(head, f"{where}.labels"): self._word(text, f"{where}.labels") for head, text in labels.items()},
            self._settings(found.get("set", {}), f"{where}.set"),
            self._text(found["detector"], f"{where}.detector") if "detector" in found else None,
            self._text(found["target"], f"{where}.target") if "target" in found else None,
            frozenset(self._words(found.get("scopes", []), f"{where}.scopes")),
            self._needs(found.get("needs", {}), f"{where}.needs"),
            {str(column): self._word(said, f"{where}.paper") for column, said in by_column.items()},
        )

    def _settings(self, value: object, where: str) -> list[Given]:
        if not isinstance(value, dict):
            self._wrong(where, "must be a mapping of parameters, each NAME or ROLE/NAME, to values")
            return []
        settings = []
        for name, one in value.items():
            if not isinstance(name, str):
                self._wrong(where, f"{name!r} is no parameter's name")
            elif not _is_plain(one):
                self._wrong(f"{where}.{name}", "a value is a text, number, truth, null or a list of such")
            else:
                settings.append(Given(name, one, f"{self.source}: {where}"))
        return settings

    def _needs(self, value: object, where: str) -> list[Need]:
        if not isinstance(value, dict):
            self._wrong(where, "must be a mapping of parameters to why they are needed")
            return []
        needs = []
        for name, said in value.items():
            anew = isinstance(said, dict)
            why = self._mapping(said, f"{where}.{name}", ("anew",)).get("anew", "") if isinstance(said, dict) else said
            needs.append(Need(str(name), self._text(why, f"{where}.{name}"), anew))
        return needs

    def _rules(self, value: object, rows: Mapping[str, Line], columns: Mapping[str, Line]) -> list[Rule]:
        if not isinstance(value, list):
            self._wrong("cells", "must be a list, each entry with rows, columns and set")
            return []
        rules = []
        for number, one in enumerate(value):
            where = f"cells[{number}]"
            found = self._mapping(one, where, ("rows", "columns", "set"))
            chosen = {}
            for what, known in (("rows", rows), ("columns", columns)):
                names = self._words(found.get(what, list(known)), f"{where}.{what}")
                self._known(names, known, f"{where}.{what}", what[:-1])
                chosen[what] = frozenset(names)
            rules.append(Rule(chosen["rows"], chosen["columns"], self._settings(found.get("set", {}), f"{where}.set")))
        return rules

    def _seeds(self, value: object) -> list[int]:
        whole = isinstance(value, list) and all(type(one) is int and 0 <= one < 2**32 for one in value)
        if not isinstance(value, list) or not whole or len(set(value)) != len(value) or len(value) > _MOST_SEEDS:
            self._wrong("seeds", f"must be a list of at most {_MOST_SEEDS} whole numbers, each once, such as [3, 4, 5]")
            return []
        return value

    def _times(self, value: object, columns: Mapping[str, Line]) -> Times | None:
        if value is None:
            return None
        found = self._mapping(value, "times", ("node", "parts", "beside"))
        beside = self._text(found.get("beside", ""), "times.beside")
        self._known([beside] if beside else [], columns, "times.beside", "column")
        node, parts = (
            self._text(found.get("node", ""), "times.node"),
            self._words(found.get("parts", []), "times.parts"),
        )
        if node.count("/") != 1 or not parts:
            self._wrong("times", "needs node, as DETECTOR/NODE, and the parts of its time, a list")
        return Times(node, parts, beside)


def _is_plain(value: object, depth: int = 0) -> bool:
    """Say whether a value may be a parameter's: lists in lists no deeper and longer than any parameter has them."""
    if isinstance(value, list):
        return depth < 3 and len(value) <= 100 and all(_is_plain(one, depth + 1) for one in value)
    return value is None or isinstance(value, str | bool | int | float)
