"""A grid's table, of what has been run, in Markdown, LaTeX or CSV, or as a page.

One figure in several columns is a table of rows x columns; anything else has a line for each cell.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cache.errors import ParamsError
from cache.text import counted, nearest

from .declared import ONLY, CellName, Grid
from .figures import Figure, figures_of, seconds
from .measured import Done, shown
from .page import page

FORMATS = ("md", "latex", "csv", "html")
_STALE, _UNKNOWN = "*", "–"
_EACH = {"mAP": "AP", "mIoU": "IoU"}  # a mean over the classes, and what it is the mean of
_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        "<": "$<$",
        ">": "$>$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
    }
)


@dataclass(frozen=True)
class Shown:
    """What is printed of a grid.

    Attributes:
        done: all that has been run; what the grid's file does not name is left out.
        stale: why a cell's figures are no longer what a run would give.
        per_class: whether each class's AP, or IoU, is shown before the mean.
        against: the row and the column whose figures all others are shown less, run by run of the same seed; a row
            alone (column None): those of the same column, a column alone: those of the same row. None: of none.
    """

    grid: Grid
    done: Sequence[Done]
    stale: Mapping[CellName, Sequence[str]]
    protocol: str
    per_class: bool = False
    against: tuple[str | None, str | None] | None = None

    @property
    def names(self) -> list[str]:
        """The figures that are shown."""
        if not self.per_class:
            return list(self.grid.figures)
        names = [name for name in self.grid.figures if name not in _EACH.values()]
        return [one for name in names for one in ([_EACH[name], name] if name in _EACH else [name])]

    @property
    def is_matrix(self) -> bool:
        """Whether it is a table of rows x columns."""
        return len(self.grid.columns) > 1 and any({one} <= set(self.names) <= {one, "paper"} for one in _EACH)

    def runs(self, row: str, column: str) -> list[Done]:
        """Return what was run of a cell, by seed."""
        found = [one for one in shown(self.grid, self.done) if (one.row, one.column) == (row, column)]
        return sorted(found, key=lambda one: -1 if one.seed is None else one.seed)

    def places(self) -> list[tuple[str, str]]:
        """Return the rows and columns of which something has been run, column by column in the grid's order."""
        there = {(one.row, one.column) for one in shown(self.grid, self.done)}
        rows = list(self.grid.rows) or sorted({row for row, _ in there})
        return [(row, column) for column in self.grid.columns for row in rows if (row, column) in there]

    def text(self, figure: Figure, row: str, column: str) -> str:
        """Word a figure of a cell, or how much it is above that of the cell that it is shown against."""
        return self.beside(figure, row, column).text(self.runs(row, column))

    def beside(self, figure: Figure, row: str, column: str) -> Figure:
        """Return a figure as it is shown of a cell; as it is, of the one that others are shown against."""
        if self.against is None:
            return figure
        base = (self.against[0] or row, self.against[1] or column)
        return figure if base == (row, column) else figure.less(self.runs(*base))

    def why_stale(self, row: str, column: str) -> list[str]:
        """Return why figures of a cell are stale, each reason once; empty where none is."""
        return list(dict.fromkeys(why for one in self.runs(row, column) for why in self.stale.get(one.cell, ())))


def named_cell(grid: Grid, rows: Sequence[str], text: str) -> tuple[str | None, str | None]:
    """Read ``ROW``, ``COLUMN`` or ``ROW,COLUMN``, as :attr:`Shown.against` has it; ParamsError for what is neither."""
    row, comma, column = text.partition(",")
    columns = [name for name in grid.columns if name != ONLY]
    if comma:
        wrong = [(one, of) for one, of in ((row, rows), (column, columns)) if one not in of]
        if wrong:
            name, known = wrong[0]
            raise ParamsError(f"--against {text}: {grid.source} has no such cell{nearest(name, known)}")
        return row, column
    if (row in rows) == (row in columns):
        said = "a row and a column of that name; say ROW,COLUMN" if row in rows else "no such row or column"
        raise ParamsError(f"--against {text}: {grid.source} has {said}{nearest(row, [*rows, *columns])}")
    return (row, None) if row in rows else (None, row)


def printed(what: Shown, form: str) -> str:
    """Return the table in one of ``FORMATS``."""
    if form == "csv":
        return _csv(what)
    words, head, lines = _matrix(what) if what.is_matrix else _list(what)
    head = [*words, *head]
    notes = _notes(what)
    if form == "html":
        cells = [(_cell_title(what.grid, row, column), what.runs(row, column)) for row, column in what.places()]
        return page(what.grid.title, head, len(words), lines, notes[1:], cells, what.protocol)
    return _latex(head, len(words), lines, notes) if form == "latex" else "\n".join([_markdown(head, lines), *notes])


def _matrix(what: Shown) -> tuple[list[str], list[str], list[list[str]]]:
    """Return the heads of the columns of words, those of figures, and the lines."""
    grid, places = what.grid, what.places()
    columns = [column for column in grid.columns if any(column == there for _, there in places)]
    seen = {row for row, _ in places}
    rows = [row for row in grid.rows if row in seen] or sorted(seen)
    (figure,) = figures_of([one for one in what.names if one in _EACH], what.protocol, what.done)
    labels = _label_heads(grid, rows)
    lines = []
    for row in rows:
        texts = [_cell(what, row, column, figure) for column in columns]
        lines.append([_title(grid, row), *(_label(grid, row, head) for head in labels), *texts])
    if grid.times is not None:
        lines += [[line[0], *[""] * len(labels), *line[1:]] for line in _times(what, columns)]
    return ["", *labels], [grid.columns[column].title for column in columns], lines


def _cell(what: Shown, row: str, column: str, figure: Figure) -> str:
    text = what.text(figure, row, column) + (_STALE if what.why_stale(row, column) else "")
    paper = _paper(what.grid, row, column) if "paper" in what.names else ""
    return f"{text} ({paper})" if paper else text


def _list(what: Shown) -> tuple[list[str], list[str], list[list[str]]]:
    """Return the heads of the columns of words, those of figures, and the lines."""
    grid, places = what.grid, what.places()
    figures = figures_of([name for name in what.names if name != "paper"], what.protocol, list(shown(grid, what.done)))
    heads = _label_heads(grid, [row for row, _ in places], [column for _, column in places])
    lines = []
    for row, column in places:
        texts = [what.text(figure, row, column) for figure in figures]
        mark = _STALE if what.why_stale(row, column) else ""
        columns = [grid.columns[column].title] if grid.named_columns else []
        labels = [_label(grid, row, head) or _label(grid, column, head) for head in heads]
        paper = [_paper(grid, row, column)] if "paper" in what.names else []
        lines.append([_title(grid, row) + mark, *columns, *labels, *texts, *paper])
    paper_head = ["the paper"] if "paper" in what.names else []
    column_head = [""] if grid.named_columns else []
    return ["", *column_head, *heads], [*(figure.heading for figure in figures), *paper_head], lines


def _cell_title(grid: Grid, row: str, column: str) -> str:
    """Head a cell where it stands by itself: by the row's name, which is one row's alone, and the column's."""
    return f"{row}, {column}" if grid.named_columns else row


def _title(grid: Grid, row: str) -> str:
    return grid.rows[row].title if row in grid.rows else row


def _paper(grid: Grid, row: str, column: str) -> str:
    said = grid.rows[row].paper if row in grid.rows else {}
    return said.get(column, said.get(ONLY, ""))


def _label_heads(grid: Grid, rows: Sequence[str], columns: Sequence[str] = ()) -> list[str]:
    lines = [*(grid.rows[row] for row in rows if row in grid.rows), *(grid.columns[column] for column in columns)]
    return list(dict.fromkeys(head for line in lines for head in line.labels))


def _label(grid: Grid, name: str, head: str) -> str:
    line = grid.rows.get(name) or grid.columns.get(name)
    return line.labels.get(head, "") if line is not None else ""


def _times(what: Shown, columns: Sequence[str]) -> list[list[str]]:
    """Make the lines below a matrix: each part's seconds by column, their sum, and how many times faster it is."""
    times = what.grid.times
    assert times is not None
    done = list(shown(what.grid, what.done))
    costs = {column: _cost([one for one in done if one.column == column], times.node) for column in columns}
    lines = [
        [f"{part} time", *(seconds(cost.get(part, 0.0) if cost else None) for cost in costs.values())]
        for part in times.parts
    ]
    totals = {column: sum(cost.values()) if cost else None for column, cost in costs.items()}
    lines.append(["total time", *(seconds(total) for total in totals.values())])
    if times.beside:
        title = what.grid.columns[times.beside].title
        lines.append([f"times faster than {title}", *(_faster(totals, one, times.beside) for one in columns)])
    return lines


def _cost(done: Sequence[Done], node: str) -> dict[str, float]:
    """Mean over a column's distinct results, with fine-tuning and without, of those whose time is known."""
    made = [cost for one in done if (cost := one.costs.get(node))]
    known = list({cost.of: cost.seconds for cost in made if cost.seconds}.values())
    parts = {part for of_image in known for part in of_image}
    return {part: sum(of_image.get(part, 0.0) for of_image in known) / len(known) for part in parts}


def _faster(totals: Mapping[str, float | None], column: str, beside: str) -> str:
    own, other = totals[column], totals.get(beside)
    return _UNKNOWN if column == beside or not own or not other else f"{other / own:.0f}x"


def _notes(what: Shown) -> list[str]:
    """Say what figures are shown against, which cells are stale and why, and of which not every seed has been run."""
    notes = []
    if what.against is not None:
        base = ", ".join(name for name in what.against if name)
        notes.append(f"of others than {base}: how much they are above it, run by run of the same seed")
    for row, column in what.places():
        name = _cell_title(what.grid, row, column)
        if why := what.why_stale(row, column):
            more = f"; and {counted(len(why) - 3, 'more')}" if len(why) > 3 else ""
            notes.append(f"{_STALE} {name}: stale: {'; '.join(why[:3])}{more}")
        if (seen := len(what.runs(row, column))) < len(what.grid.seeds):
            notes.append(f"{name}: {seen} of {counted(len(what.grid.seeds), 'seed')}")
    return ["", *notes] if notes else []


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = (head, ["---"] * len(head), *lines)
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in rows)


def _latex(head: Sequence[str], words: int, lines: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    def row(texts: Sequence[str]) -> str:
        return " & ".join(text.translate(_LATEX) for text in texts) + r" \\"

    body = [row(head), r"\hline", *map(row, lines)]
    begin = rf"\begin{{tabular}}{{{'l' * words}{'r' * (len(head) - words)}}}"
    return "\n".join([begin, *body, r"\end{tabular}", *(f"% {note}" for note in notes if note)])


def _csv(what: Shown) -> str:
    """A line for each cell, with all digits: AP and recall as parts of one, times in seconds, deviations beside."""
    grid, places = what.grid, what.places()
    figures = figures_of([name for name in what.names if name != "paper"], what.protocol, list(shown(grid, what.done)))
    plain = [replace(figure, heading=figure.heading.replace(" (%)", "")) for figure in figures]
    heads = _label_heads(grid, [row for row, _ in places], [column for _, column in places])
    pairs = [part for figure in plain for part in (figure.heading, f"{figure.heading}, deviation")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "column", *heads, "runs", *pairs, "paper", "stale"])
    for row, column in places:
        runs = what.runs(row, column)
        numbers = [
            "" if value is None else value
            for figure in plain
            for value in what.beside(figure, row, column).numbers(runs)
        ]
        labels = [_label(grid, row, head) or _label(grid, column, head) for head in heads]
        why = "; ".join(what.why_stale(row, column))
        writer.writerow([row, column, *labels, len(runs), *numbers, _paper(grid, row, column), why])
    return out.getvalue().rstrip("\n")
