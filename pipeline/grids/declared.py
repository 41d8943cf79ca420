"""What a grid is: rows and columns of settings, each cell an experiment, and what its table shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.graph import ROOT

ALWAYS = ("voc2007", "voc2010")  # protocols by which everything is scored
PROTOCOLS = (*ALWAYS, "ilsvrc")  # the last where evaluate.ilsvrc asks for it
# What a table can show of a cell; `paper` is what the file itself says.
FIGURES = ("mAP", "median", "AP", "mIoU", "IoU", "proposals", "recall", "parts", "time", "rate", "paper")
ONLY = ""  # the name of a grid's one column, where its file names none


@dataclass(frozen=True)
class Given:
    """A parameter that a grid, or ``--set``, sets.

    Attributes:
        name: of the project's params.yaml, or ``ROLE/NAME`` of a detector's.
        value: as YAML reads it; ``{ROLE}`` in a text stands for that detector's name.
        where: the file and the key, or the option, that says so.
    """

    name: str
    value: Any
    where: str


@dataclass(frozen=True)
class Need:
    """A parameter that the user has to say: by ``--set``, or, unless ``anew``, by a value in the project's params.yaml
    that is neither null nor 0; ``why`` is for who did not."""

    name: str
    why: str
    anew: bool = False


@dataclass(frozen=True)
class Line:
    """A row or a column.

    Attributes:
        title: what heads it.
        labels: further words on it, by the heading of their column of the table.
        settings: what it sets.
        detector: the role of the detector whose figures are kept; None: the grid's.
        target: the node up to which is run, whose proposals, or the figures of whose segmentation, are alone measured;
            "": all, whose detections are; None: the grid's.
        scopes: names, beside its own, by which ``--set`` reaches it.
        needs: what the user has to say.
        paper: what the paper has there, by column; a row's of a grid that names no columns by ``ONLY``.
    """

    title: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[Given] = ()
    detector: str | None = None
    target: str | None = None
    scopes: frozenset[str] = frozenset()
    needs: Sequence[Need] = ()
    paper: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """What the cells in some rows and some columns set, over what their rows and columns do."""

    rows: frozenset[str]
    columns: frozenset[str]
    settings: Sequence[Given]


@dataclass(frozen=True)
class Cell:
    """One experiment of a grid, and how it is called: see :class:`Line`."""

    settings: Sequence[Given]
    detector: str = ROOT
    target: str = ""
    scopes: frozenset[str] = frozenset()
    needs: Sequence[Need] = ()


@dataclass(frozen=True)
class Times:
    """Lines below a table of rows x columns: what an image takes in a ``node``, by its ``parts`` and in all.

    ``beside``: the column that the others are so many times as fast as; "": none.
    """

    node: str
    parts: Sequence[str]
    beside: str = ""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        name: of its experiments and of ``reports/grids/NAME.json``; source: the file that declares it.
        title: what it shows, in a line.
        rows: by name; empty: the project's detectors, as they are.
        columns: by name; at least one.
        rules: what single cells set, the later over the earlier.
        roles: the kind of each detector that cells name.
        detector, target: of every line that says none.
        seeds: each cell is run with each; empty: with the project's.
        figures: what is shown, of ``FIGURES``.
        protocol: whose AP is.
    """

    name: str
    source: str
    title: str
    rows: Mapping[str, Line]
    columns: Mapping[str, Line]
    rules: Sequence[Rule] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    detector: str = ROOT
    target: str = ""
    seeds: Sequence[int] = ()
    figures: Sequence[str] = ("mAP",)
    protocol: str = "voc2010"
    times: Times | None = None

    @property
    def named_columns(self) -> bool:
        """Whether its columns have names."""
        return list(self.columns) != [ONLY]

    def cell(self, row: str, column: str) -> Cell:
        """Say what one cell sets; ``row`` is a detector's name where the rows are detectors."""
        own, down = self.rows.get(row), self.columns[column]
        if own is None:
            return Cell(down.settings, row, scopes=down.scopes, needs=down.needs)
        rules = [rule for rule in self.rules if row in rule.rows and column in rule.columns]
        given = [*own.settings, *down.settings, *(one for rule in rules for one in rule.settings)]
        return Cell(
            list({one.name: one for one in given}.values()),
            own.detector or down.detector or self.detector,
            next((one for one in (own.target, down.target) if one is not None), self.target),
            own.scopes | down.scopes,
            [*own.needs, *down.needs],
        )


@dataclass(frozen=True)
class CellName:
    """A cell's row, column and seed; None: the project's."""

    row: str
    column: str
    seed: int | None = None
