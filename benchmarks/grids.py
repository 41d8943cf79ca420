"""The papers' tables on a project's dataset: each cell one DVC experiment, what was measured kept cell by cell.

    python -m benchmarks.grids PROJECT table6                # runs the grid, then prints the table
    python -m benchmarks.grids PROJECT table6 --rows pool5 fc6 --columns spp1 rcnn
    python -m benchmarks.grids PROJECT table6 --set 'spp:features.spp.levels=[6]' --set ft:finetune.lr=0.001
    python -m benchmarks.grids PROJECT faster1 --set all:faster/rpn.iterations=8000 --detector vgg=big
    python -m benchmarks.grids PROJECT faster1 --show        # prints what has been run so far

{tables}

The project has a git commit, and the parameters that a table leaves open in params.yaml and detectors/NAME/params.yaml:
network, dataset, schedules. Each cell is one ``dvc exp run`` in the project's folder (TABLE-ROW-COLUMN-COMMIT, so
that ``dvc exp show`` lists it, too); before the first one every cell's parameters are checked, and after each the files
are put back, but for one that was edited meanwhile, which stays, and the grid stops. What they were is below
``reports/.grid-former`` as long: after a kill the next start puts them back. Ctrl-C, SIGTERM and SIGHUP end a grid
when DVC has ended. Whatever cells have in common comes from the store. ``--set WHERE:NAME=VALUE`` adds a setting, WHERE
being ``all``, a row, a column, or a name that the table gives to several (``spp``, ``ft``, ``07``, ``0712``), NAME a
parameter of the project's params.yaml, or, as ``faster/rpn.iterations``, of the detector in that role, VALUE as YAML
reads it; roles are detectors of that name unless ``--detector ROLE=NAME`` says otherwise. What was run is kept in
``reports/TABLE.json``; remove that file where the dataset is another.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.experiments import Experiment, Stop, dvc_experiments
from benchmarks.former import alone, folder_of, keep_former, put_back
from benchmarks.measured import keep, last_runs, measured, read_done, results
from benchmarks.plans import Plan, planned
from benchmarks.tables import GRIDS
from benchmarks.tables.grid import PROTOCOLS, Grid
from cache import atomic_write
from cache.errors import USER_ERRORS, ExecutionError, InterruptedRun, OutputError, ParamsError
from cache.text import nearest
from pipeline.detectors import Layout, detector_names
from pipeline.params import load_params, read_kind

Place = tuple[str, str]  # a row and a column
Planner = Callable[[Place], Plan]
_PATIENCE_S = 10  # DVC's reports home end after 5


def run_grid(project: Path, grid: Grid, places: Sequence[Place], plan_of: Planner, experiment: Experiment) -> None:
    """Run every cell by ``experiment`` (its name, its settings, the target) and keep its figures.

    Each is planned on the files as they are just before it runs. Parameters and dvc.yaml files end as they were,
    whatever happens; OutputError where one was edited meanwhile, for then the cell may have been run with the edit.
    """
    known = read_done(project, grid)
    for place in places:
        plan = plan_of(place)
        name = "-".join((grid.name, plan.row, *((plan.column,) if len(grid.columns) > 1 else ())))
        before = last_runs(project, plan)
        _run(project, plan, name, experiment)
        keep(project, grid, known, measured(project, plan, before, known))
        known = read_done(project, grid)


def _run(project: Path, plan: Plan, name: str, experiment: Experiment) -> None:
    """Run one experiment with the files that it takes."""
    try:
        keep_former(project, plan.changed)
        for file, text in plan.files.items():
            atomic_write((project / file).resolve(), text.encode())
        experiment(name, [setting.for_dvc for setting in plan.settings], plan.target)
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
    cells = [grid.cell(row, column, rows) for row in rows for column in grid.columns]
    return sorted({"all", *rows, *grid.columns, *(scope for cell in cells for scope in cell.scopes)})


def _scoped(known: Sequence[str], text: str) -> tuple[str, str]:
    scope, _, setting = text.partition(":")
    if scope not in known or "=" not in setting:
        raise ParamsError(f"--set {text!r} is not WHERE:NAME=VALUE with WHERE of {', '.join(known)}")
    return scope, setting


def _in_role(grid: Grid, text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if role not in grid.roles or not equals:
        raise ParamsError(f"--detector {text!r} is not ROLE=NAME with ROLE of {', '.join(grid.roles) or 'none'}")
    return role, name


def _rows(project: Path, grid: Grid) -> list[str]:
    """Return a grid's rows; of one without, the project's detectors that detect by themselves."""
    if grid.rows:
        return list(grid.rows)
    return [name for name in detector_names(project) if read_kind(Layout(project, name)).detections is not None]


def _chosen(what: str, given: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if unknown := [name for name in given or () if name not in known]:
        raise ParamsError(
            f"--{what} {unknown[0]}: there is none{nearest(unknown[0], known)}; {what}: {', '.join(known)}"
        )
    return list(given or known)


def _planner(project: Path, grid: Grid, arguments: argparse.Namespace) -> tuple[list[Place], Planner]:
    """Check every cell; return all places, and what plans one. ParamsError, each problem once, where one is wrong."""
    load_params(Layout(project))  # no project: told once
    known = _rows(project, grid)
    rows, columns = _chosen("rows", arguments.rows, known), _chosen("columns", arguments.columns, list(grid.columns))
    more = [_scoped(scopes_of(grid, known), text) for text in arguments.more]
    detectors = dict(_in_role(grid, text) for text in arguments.detector)
    plan_of = functools.partial(planned, project, grid, rows=rows, more=more, detectors=detectors)
    places = [(row, column) for column in columns for row in rows]
    problems: list[str] = []
    for place in places:
        try:
            plan_of(place)
        except ParamsError as error:
            problems += str(error).splitlines()
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    return places, plan_of


def _run_all(project: Path, grid: Grid, arguments: argparse.Namespace) -> None:
    if not folder_of(project).is_dir():  # else it may be what a killed grid left
        load_params(Layout(project))  # no project: nothing is made in the folder
    with Stop() as stop, alone(project, _PATIENCE_S) as lock:
        _recover(project)
        places, plan_of = _planner(project, grid, arguments)
        run_grid(project, grid, places, plan_of, dvc_experiments(project.absolute(), stop, lock))


def _recover_shown(project: Path) -> None:
    """Recover before results are shown, unless a grid is running, whose files they are."""
    if folder_of(project).is_dir():
        try:
            with alone(project):
                _recover(project)
        except ExecutionError:
            pass


def main() -> None:
    lines = [f"  {name:9}{grid.meaning}" for name, grid in GRIDS.items()]
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").replace("{tables}", "\n".join(lines)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("project", type=Path)
    parser.add_argument("table", choices=GRIDS)
    parser.add_argument("--rows", nargs="+")
    parser.add_argument("--columns", nargs="+")
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="WHERE:NAME=VALUE")
    parser.add_argument("--detector", action="append", default=[], metavar="ROLE=NAME")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="voc2010", help="whose mAP is shown")
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    project, grid = arguments.project, GRIDS[arguments.table]
    try:
        if arguments.show:
            _recover_shown(project)
        else:
            _run_all(project, grid, arguments)
        done = read_done(project, grid)
        said = grid.table(done, arguments.protocol) if done else f"{results(project, grid)}: nothing has been run"
    except USER_ERRORS as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except InterruptedRun as error:
        print(error, file=sys.stderr)
        sys.exit(130)
    print(said)


if __name__ == "__main__":
    main()
