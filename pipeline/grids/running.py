"""A grid's cells planned, run one after the other, and told stale; the user's files end as they were.

Before the first cell every cell's parameters are checked, and after each the files are put back, but for one that was
edited meanwhile, which stays, and the grid stops. What they were is below ``reports/.grid-former`` as long: after a
kill the next start puts them back. Whatever cells have in common comes from the store.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cache import atomic_write
from cache.errors import ExecutionError, OutputError, ParamsError
from cache.text import nearest
from pipeline.detectors import Layout, detector_names
from pipeline.params import load_params, read_kind

from .declared import CellName, Given, Grid
from .experiments import Experiment, Stop, dvc_experiments
from .former import alone, folder_of, keep_former, put_back
from .measured import Done, keep, last_runs, measured, read_done, shown
from .origins import CellOrigin, differences, unwatched
from .plans import Plan, planned

Planner = Callable[[CellName], Plan]
_PATIENCE_S = 10  # DVC's reports home end after 5


@dataclass(frozen=True)
class Asked:
    """What of a grid is to be run, and how: the command line's options, empty where one was not given.

    Attributes:
        rows, columns, seeds: those to be run; empty: all.
        more: ``WHERE:NAME=VALUE``.
        detectors: ``ROLE=NAME``.
        again: whether cells whose figures are fresh are run, too.
    """

    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    seeds: Sequence[int] = ()
    more: Sequence[str] = ()
    detectors: Sequence[str] = ()
    again: bool = False


@dataclass(frozen=True)
class Setup:
    """The cells of a grid that are to be run on a project, and what plans one."""

    cells: Sequence[CellName]
    plan_of: Planner
    again: bool = False


def run_grid(project: Path, grid: Grid, setup: Setup, experiment: Experiment) -> None:
    """Run every cell by ``experiment`` (its name, its settings, the target) and keep its figures.

    Each is planned on the files as they are just before it runs; one whose figures are those of that plan already is
    passed by, unless ``again``. DVC does not watch files that parameters name: a cell with such runs every stage, but
    where the one before it ran on the same. Parameters and dvc.yaml files end as they were, whatever happens;
    OutputError where one was edited meanwhile, for then the cell may have been run with the edit.
    """
    proven: dict[str, Any] = {}  # what the last cell ran on that DVC does not watch
    for cell in setup.cells:
        known = read_done(project, grid)
        plan = setup.plan_of(cell)
        name = _experiment_name(grid, cell)
        if not setup.again and any(one.cell == cell and not differences(one.origin, plan.origin) for one in known):
            print(f"{name}: has been run", file=sys.stderr, flush=True)
            continue
        before = last_runs(project, plan)
        watch = unwatched(plan.origin)
        _run(project, plan, name, experiment, force=bool(watch) and watch != proven)
        proven = watch
        keep(project, grid, known, measured(project, plan, before, known))


def _experiment_name(grid: Grid, cell: CellName) -> str:
    column = [cell.column] if grid.named_columns and len(grid.columns) > 1 else []
    return "-".join([grid.name, cell.row, *column, *([] if cell.seed is None else [str(cell.seed)])])


def _run(project: Path, plan: Plan, name: str, experiment: Experiment, *, force: bool) -> None:
    """Run one experiment with the files that it takes."""
    try:
        keep_former(project, plan.changed)
        for file, text in plan.files.items():
            atomic_write((project / file).resolve(), text.encode())
        experiment(name, [setting.for_dvc for setting in plan.settings], plan.target, force=force)
    finally:
        _, problems = put_back(project)
        for line in problems:  # said here, whatever else went wrong
            print(line, file=sys.stderr)
    if problems:
        raise OutputError(f"{name}: its figures are not kept; see to the files named, and run the grid again")


def _recover(project: Path) -> None:
    """Put back what a grid that was killed had changed, and say so; OutputError where a file could not be."""
    if not folder_of(project).is_dir():
        return
    back, problems = put_back(project)
    if back:
        print(f"{project}: a grid was killed in it; put back: {', '.join(back)}", file=sys.stderr)
    if problems:
        raise OutputError("\n".join([*problems, f"{project}: a grid was killed in it; see to the files named"]))


def scopes_of(grid: Grid, rows: Sequence[str]) -> list[str]:
    """Return every name that ``--set`` takes before the colon."""
    cells = [grid.cell(row, column) for row in rows for column in grid.columns]
    columns = grid.columns if grid.named_columns else ()
    return sorted({"all", *rows, *columns, *(scope for cell in cells for scope in cell.scopes)})


def _scoped(grid: Grid, known: Sequence[str], text: str) -> tuple[str, Given]:
    scope, _, setting = text.partition(":")
    name, equals, value = setting.partition("=")
    where = f"--set {text!r}"
    if scope not in known or not equals:
        raise ParamsError(f"{where} is not WHERE:NAME=VALUE with WHERE of {', '.join(known)}")
    if name == "seed" and grid.seeds:
        raise ParamsError(f"{where}: {grid.source} has seeds of its own; choose of them by --seeds")
    try:
        return scope, Given(name, yaml.safe_load(value), where)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: no such date
        raise ParamsError(f"{where}: the value is not YAML; mend it") from None


def _in_role(grid: Grid, text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if role not in grid.roles or not equals:
        raise ParamsError(f"--detector {text!r} is not ROLE=NAME with ROLE of {', '.join(grid.roles) or 'none'}")
    return role, name


def row_names(project: Path, grid: Grid) -> list[str]:
    """Return a grid's rows; of one without, the project's detectors that detect by themselves."""
    if grid.rows:
        return list(grid.rows)
    return [name for name in detector_names(project) if read_kind(Layout(project, name)).detections is not None]


def _chosen(what: str, given: Sequence[Any], known: Sequence[Any]) -> list[Any]:
    if unknown := [one for one in given if one not in known]:
        names = [str(one) for one in known if one != ""]
        raise ParamsError(
            f"--{what} {unknown[0]}: there is none{nearest(str(unknown[0]), names)}; {what}: "
            f"{', '.join(names) or 'none'}"
        )
    return list(given or known)


def chosen_cells(project: Path, grid: Grid, asked: Asked) -> list[CellName]:
    """Return the cells that are asked for, in the order in which they run; ParamsError for a name that is not there."""
    rows, columns = (
        _chosen("rows", asked.rows, row_names(project, grid)),
        _chosen("columns", asked.columns, list(grid.columns)),
    )
    seeds = _chosen("seeds", asked.seeds, grid.seeds) or [None]
    return [CellName(row, column, seed) for seed, column, row in itertools.product(seeds, columns, rows)]


def set_up(project: Path, grid: Grid, asked: Asked) -> Setup:
    """Check every cell that is asked for; ParamsError, each problem once, where one is wrong."""
    load_params(Layout(project))  # no project: told once
    cells, known = chosen_cells(project, grid, asked), row_names(project, grid)
    more = [_scoped(grid, scopes_of(grid, known), text) for text in asked.more]
    detectors = dict(_in_role(grid, text) for text in asked.detectors)
    plan_of = functools.partial(planned, project, grid, more=more, detectors=detectors)
    problems: list[str] = []
    for cell in cells:
        try:
            plan_of(cell)
        except ParamsError as error:
            problems += str(error).splitlines()
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    return Setup(cells, plan_of, asked.again)


def run_all(project: Path, grid: Grid, asked: Asked) -> None:
    """Run what is asked of a grid in a project.

    Ctrl-C, SIGTERM and SIGHUP end it when DVC has ended: InterruptedRun. ExecutionError where another grid runs in it,
    or DVC failed.
    """
    if not folder_of(project).is_dir():  # else it may be what a killed grid left
        load_params(Layout(project))  # no project: nothing is made in the folder
    with Stop() as stop, alone(project, _PATIENCE_S) as lock:
        _recover(project)
        run_grid(project, grid, set_up(project, grid, asked), dvc_experiments(project.absolute(), stop, lock))


def recover_shown(project: Path) -> None:
    """Recover before results are shown, unless a grid is running, whose files they are."""
    if folder_of(project).is_dir():
        try:
            with alone(project):
                _recover(project)
        except ExecutionError:
            pass


def stale(project: Path, grid: Grid, done: Sequence[Done]) -> Mapping[CellName, list[str]]:
    """Say which cells' figures are no longer what a run would give, and why: by the files as they are now.

    What ``--set`` and ``--detector`` said when a cell was run counts as said again.
    """
    found = {}
    for one in shown(grid, done):
        more = [("all", Given(name, value, "--set")) for name, value in one.more.items()]
        try:
            now: CellOrigin = planned(project, grid, one.cell, more, one.roles).origin
            why = differences(one.origin, now)
        except ParamsError as error:
            why = [f"it cannot be run now: {str(error).splitlines()[0]}"]
        if why:
            found[one.cell] = why
    return found
