"""A grid's table as a page of its own, and how each cell's AP (or IoU) spreads over the classes (R-CNN's Figure 3)."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from stages.page.box_plots import BoxRow, box_row, spread
from stages.page.charts import palette
from stages.page.markup import document, section, table, tag

from .measured import Done


def page(
    title: str,
    head: Sequence[str],
    words: int,
    lines: Sequence[Sequence[str]],
    notes: Sequence[str],
    cells: Sequence[tuple[str, Sequence[Done]]],
    protocol: str,
) -> str:
    """Return the page: HTML without script and without external resource.

    Args:
        head, lines, notes: the table as it is printed, whose first ``words`` columns hold no figures.
        cells: what heads each cell that has been run, and its runs.
        protocol: whose AP is spread out.
    """
    parts = [section("table", "Table", table(head, lines, text_columns=words), *(tag("p", one) for one in notes))]
    contents = [("table", "Table")]
    what, boxes = _boxes(cells, protocol)
    if boxes:
        heads = [(tag("span", box.name), box) for box in boxes]
        parts.append(section("spread", "Spread over the classes", spread(heads, "cell", what)))
        contents.append(("spread", "Spread over the classes"))
    lead = f"A table of experiments, made by rcnn grid{f'; AP by {protocol}' if what == 'AP' else ''}."
    return document(title, lead, contents, parts)


def _boxes(cells: Sequence[tuple[str, Sequence[Done]]], protocol: str) -> tuple[str, list[BoxRow]]:
    """Summarise each cell over its classes, each class the mean of its runs: AP, or where none was measured IoU."""
    by_class = [(name, [one.ap.get(protocol, {}) for one in runs]) for name, runs in cells]
    what = "AP"
    if not any(one for _, runs in by_class for one in runs):
        what, by_class = "IoU", [(name, [one.iou for one in runs]) for name, runs in cells]
    made = [box_row(name, palette(i).style, _means(runs)) for i, (name, runs) in enumerate(by_class)]
    return what, [one for one in made if one is not None]


def _means(runs: Sequence[Mapping[str, float | None]]) -> list[float]:
    """Average each class over the runs that have a value for it; left out where none has."""
    labels = dict.fromkeys(label for one in runs for label in one)
    known = [[value for one in runs if (value := one.get(label)) is not None] for label in labels]
    return [fmean(values) for values in known if values]
