"""``rcnn grid``: a table of experiments, declared in a file, run and printed."""

from pathlib import Path

import click

from pipeline.cli.types import GivenPath
from pipeline.grids.declared import PROTOCOLS
from pipeline.grids.measured import read_done, results
from pipeline.grids.printing import FORMATS, Shown, named_cell, printed
from pipeline.grids.reading import read_grid
from pipeline.grids.running import Asked, chosen_cells, recover_shown, row_names, run_all, stale


def _split(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """Names given one by one or with commas between them."""
    return [name for text in given for name in text.split(",") if name]


def _seeds(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> list[int]:
    names = _split(ctx, parameter, given)
    if wrong := [name for name in names if not name.isdecimal() or len(name) > 10]:
        raise click.BadParameter(f"{wrong[0]!r} is no whole number")
    return [int(name) for name in names]


@click.command()
@click.argument("file", type=GivenPath(path_type=Path), metavar="FILE.yaml")
@click.option("--show", is_flag=True, help="Run nothing; print what has been run so far.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="md", help="How the table is printed.")
@click.option("--rows", multiple=True, callback=_split, metavar="A,B", help="Run, or show, these rows alone.")
@click.option("--columns", multiple=True, callback=_split, metavar="A,B", help="Run, or show, these columns alone.")
@click.option(
    "--seeds", multiple=True, callback=_seeds, metavar="3,4", help="Of the file's seeds, run, or show, these."
)
@click.option(
    "--set",
    "more",
    multiple=True,
    metavar="WHERE:NAME=VALUE",
    help="Set one more parameter. WHERE: all, a row, a column, or a name that the file gives to several.",
)
@click.option("--detector", multiple=True, metavar="ROLE=NAME", help="Take this detector of the project in a role.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), default=None, help="Whose AP is shown (default: the file's).")
@click.option("--per-class", is_flag=True, help="Show each class's AP (or IoU), and then the mean.")
@click.option(
    "--against",
    metavar="ROW|COLUMN|ROW,COLUMN",
    help="Show how much every other cell is above this one, run by run of the same seed; its mean and deviation.",
)
@click.option("--again", is_flag=True, help="Run cells whose figures are there and fresh, too.")
@click.pass_obj
def grid(
    project: Path,
    file: Path,
    show: bool,
    form: str,
    rows: list[str],
    columns: list[str],
    seeds: list[int],
    more: tuple[str, ...],
    detector: tuple[str, ...],
    protocol: str | None,
    per_class: bool,
    against: str | None,
    again: bool,
) -> None:
    """Run a table of experiments that a file declares (docs/grids.md), and print it.

    Each cell is one `dvc exp run` in the project, which needs a git commit, and takes from the store whatever others
    have made. What was measured is kept in reports/grids/NAME.json: run again, the grid goes on; a cell that was
    measured with other parameters, another version of a stage or other data is run again, and --show marks it with *.
    """
    table = read_grid(file)
    beside = None if against is None else named_cell(table, row_names(project, table), against)
    asked = Asked(rows, columns, seeds, more, detector, again)
    if show:
        if more or detector or again:
            raise click.UsageError(
                "--set, --detector and --again are for a run: what was said then counts with --show; leave them out"
            )
        chosen = set(chosen_cells(project, table, asked)) if rows or columns or seeds else None
        recover_shown(project)
    else:
        run_all(project, table, asked)
        chosen = None  # all that has been run, before and now
    done = [one for one in read_done(project, table) if chosen is None or one.cell in chosen]
    if not done:
        click.echo(f"{results(project, table)}: nothing has been run")
        return
    why = stale(project, table, done)
    click.echo(printed(Shown(table, done, why, protocol or table.protocol, per_class, beside), form))
