"""What a table of a paper is here: rows and columns, the settings of each cell, and how its figures are printed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stages.graph import ROOT

PROTOCOLS = ("voc2007", "voc2010")


@dataclass(frozen=True)
class Need:
    """A parameter that the user has to say: by ``--set``, or, unless ``anew``, by a value in the project's params.yaml
    that is neither null nor 0; ``why`` is for who did not."""

    name: str
    why: str
    anew: bool = False


@dataclass(frozen=True)
class Cell:
    """One experiment of a grid.

    Attributes:
        settings: ``NAME=VALUE`` of the project's params.yaml, ``ROLE/NAME=VALUE`` of a detector's; ``{ROLE}`` in a
            value stands for that detector's name.
        detector: the role of the detector whose figures are kept; ``rcnn`` is the project's own.
        target: the node up to which is run, whose proposals alone are measured; "": all, and mAP is.
        scopes: names, beside its row's and column's, by which ``--set`` reaches it.
    """

    settings: Sequence[str]
    detector: str = ROOT
    target: str = ""
    scopes: frozenset[str] = frozenset()
    needs: Sequence[Need] = ()


@dataclass(frozen=True)
class Cost:
    """What one node took for an image: median seconds by part, empty where that is not known, of the result ``of``."""

    of: str
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Done:
    """What was measured of one cell.

    Attributes:
        settings: as DVC was given them.
        mean_ap: in [0, 1], by protocol; empty where nothing was detected.
        costs: of the nodes that a test image passes, in order, by ``DETECTOR/NODE``.
        proposals: mean number of a test image's proposals.
        recall: of the proposals of test images, by the IoU asked for; empty where mAP was measured.
    """

    row: str
    column: str
    settings: Sequence[str]
    mean_ap: Mapping[str, float | None] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    proposals: float | None = None
    recall: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """A table or figure of a paper.

    Attributes:
        name: on the command line, of the experiments and of ``reports/NAME.json``.
        rows: the paper's words by the row's name; empty: the rows are detectors of the project.
        columns: titles by name.
        roles: the kind of each detector that cells name.
        cell: the experiment of a row and a column; the last argument is all rows that are run.
        table: prints what was run, in Markdown, with mAP by the protocol named.
    """

    name: str
    meaning: str
    rows: Mapping[str, str]
    columns: Mapping[str, str]
    roles: Mapping[str, str]
    cell: Callable[[str, str, Sequence[str]], Cell]
    table: Callable[[Sequence[Done], str], str]


def in_order(done: Sequence[Done], rows: Sequence[str]) -> list[Done]:
    """Sort by row as they stand in the table; rows that it has no more are left out."""
    return sorted((one for one in done if one.row in rows), key=lambda one: list(rows).index(one.row))


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def percent(value: float | None) -> str:
    """Word a part of one in per cent, with one digit."""
    return "–" if value is None else f"{100 * value:.1f}"


def seconds(value: float | None) -> str:
    """Word a time."""
    return "–" if value is None else f"{value:.3g} s"
