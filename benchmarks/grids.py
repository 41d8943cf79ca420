"""The papers' tables on a project's dataset: each cell one DVC experiment, what was measured kept cell by cell.

    python -m benchmarks.grids PROJECT table6                # runs the grid, then prints the table
    python -m benchmarks.grids PROJECT table6 --rows pool5 fc6 --columns spp1 rcnn
    python -m benchmarks.grids PROJECT table6 --set 'spp:features.spp.levels=[6]' --set ft:finetune.lr=0.001
    python -m benchmarks.grids PROJECT faster1 --set all:faster/rpn.iterations=8000 --detector vgg=big
    python -m benchmarks.grids PROJECT faster1 --show        # prints what has been run so far

{tables}

The project has a git commit, and the parameters that a table leaves open in params.yaml and detectors/NAME/params.yaml:
network, dataset, schedules. Each cell is one ``dvc exp run`` in the project's folder (TABLE-ROW-COLUMN, so that ``dvc
exp show`` lists it, too); before the first one every cell's parameters are checked, and after each the files are put
back. Whatever cells have in common comes from the store. ``--set WHERE:NAME=VALUE`` adds a setting, WHERE being
``all``, a row, a column, or a name that the table gives to several (``spp``, ``ft``, ``07``, ``0712``), NAME a
parameter of the project's params.yaml, or, as ``faster/rpn.iterations``, of the detector in that role; roles are
detectors of that name unless ``--detector ROLE=NAME`` says otherwise. What was run is kept in ``reports/TABLE.json``;
remove that file where the dataset is another.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.tables import GRIDS
from benchmarks.tables.grid import PROTOCOLS, Cell, Cost, Done, Grid
from cache import Artifact, atomic_write
from cache.errors import ParamsError
from cache.text import nearest
from manifests import load_dataset
from pipeline.detectors import Layout, detector_names
from pipeline.dvc_files import detector_text
from pipeline.graph import nodes_of, passed_nodes
from pipeline.params import load_params, read_kind
from pipeline.timings import read_timings
from pipeline.workspace import open_store
from stages.graph import ROOT
from stages.scoring.objects import GroundTruth
from stages.scoring.proposals import IOU_STEPS, coverage, proposal_overlaps
from stages.scoring.reading import read_proposals

Experiment = Callable[[str, Sequence[str], str], None]
More = Sequence[tuple[str, str]]  # settings of ``--set``: where, and NAME=VALUE


@dataclass(frozen=True)
class Setting:
    """A value of a parameter in one file, whose path is below the project."""

    file: str
    name: str
    value: str

    @property
    def for_dvc(self) -> str:
        """What ``dvc exp run -S`` takes."""
        return f"{'' if self.file == 'params.yaml' else f'{self.file}:'}{self.name}={self.value}"


@dataclass(frozen=True)
class Plan:
    """A cell of a grid on a project: what is run, and what is read after it.

    Attributes:
        target: the dvc.yaml, and the node within, that is run; "": all of the project's own.
        files: the text of each detector's dvc.yaml that is another with these settings, by path below the project.
        detector: whose figures are read.
        scored: whether its detections are.
        nodes: those that a test image passes, each with whose it is.
        proposals: the list of their proposals, below the project.
    """

    row: str
    column: str
    settings: Sequence[Setting]
    target: str
    files: Mapping[str, str]
    detector: str
    scored: bool
    nodes: Sequence[tuple[str, str]]
    proposals: str


def settings_of(cell: Cell, row: str, column: str, more: More = ()) -> list[str]:
    """Return a cell's settings, those of ``more`` that reach it over the grid's own."""
    settings = [*cell.settings, *_reaching(cell, row, column, more)]
    return list({setting.partition("=")[0]: setting for setting in settings}.values())


def _reaching(cell: Cell, row: str, column: str, more: More) -> list[str]:
    where = {"all", row, column, *cell.scopes}
    return [setting for scope, setting in more if scope in where]


def planned(
    project: Path, grid: Grid, place: tuple[str, str], rows: Sequence[str], more: More, detectors: Mapping[str, str]
) -> Plan:
    """Check one cell as the pipeline will check it, and say what is to be run.

    Args:
        place: its row and its column.
        rows: all that are run.
        detectors: the project's detector in a role, where it is not the one of that name.

    Raises ParamsError, one line for each thing that is wrong; nothing of the project has changed.
    """
    cell = grid.cell(*place, rows)
    named = {role: detectors.get(role, role) for role in {cell.detector, *grid.roles}}
    written = settings_of(cell, *place, more)
    _check_roles(project, grid, cell, written, named)
    settings = [_placed(setting, named) for setting in written]
    with TemporaryDirectory() as folder:
        trial, at = Path(folder), Layout(Path(folder), named[cell.detector])
        try:
            _copy_parameters(project, trial)
            owners = list(dict.fromkeys([at.name, *map(_owner, settings)]))
            for of in owners:
                load_params(Layout(trial, of))  # so that what is wrong without the grid's settings is told first
            _change(trial, settings)
            _check_needs(trial, cell, place, more)
            params = {of: load_params(Layout(trial, of)) for of in owners}
            nodes = nodes_of(at, params[at.name])
            passed = [] if cell.target else [(of.name, node) for of, node in passed_nodes(at, params[at.name])]
            texts = {
                f"detectors/{of}/dvc.yaml": detector_text(Layout(trial, of), params[of]) for of in params if of != ROOT
            }
        except ParamsError as error:
            raise ParamsError(str(error).replace(folder, str(project))) from None
    file = "" if at.is_root else f"detectors/{at.name}/dvc.yaml"
    return Plan(
        *place,
        settings,
        target=":".join(part for part in (file, cell.target) if part),
        files={path: text for path, text in texts.items() if not _is(project / path, text)},
        detector=at.name,
        scored=not cell.target,
        nodes=passed,
        proposals=nodes[cell.target].outputs["manifest"] if cell.target else nodes["evaluate"].inputs["proposals"],
    )


def _check_roles(project: Path, grid: Grid, cell: Cell, written: Sequence[str], named: Mapping[str, str]) -> None:
    """ParamsError where a detector that the cell is of, sets or names is not there, or of another kind."""
    there = detector_names(project)
    for setting in written:
        owner = _name_of(setting)[0]
        if owner not in (ROOT, *named):
            raise ParamsError(
                f"{setting}: there is no role {owner!r}{nearest(owner, named)}; roles: {', '.join(named)}"
            )
    used = [cell.detector, *(_name_of(setting)[0] for setting in written)]
    used += [role for role in named for setting in written if f"{{{role}}}" in setting]
    for role in dict.fromkeys(used):
        kind, name = grid.roles.get(role), named.get(role, ROOT)
        if name not in there:
            how = f"`rcnn detector add {name} --kind {kind or 'KIND'}` makes one, --detector {role}=NAME takes another"
            raise ParamsError(f"{project}: has no detector {name!r}; {how}")
        if kind is not None and (found := read_kind(Layout(project, name)).name) != kind:
            raise ParamsError(f"{project}: {name} is of kind {found}; {grid.name} takes a {role} of kind {kind}")


def _name_of(setting: str) -> tuple[str, str]:
    """Whose parameter ``[ROLE/]NAME=VALUE`` is, and its name."""
    name = setting.partition("=")[0]
    role, slash, own = name.partition("/")
    return (role, own) if slash else (ROOT, name)


def _placed(setting: str, named: Mapping[str, str]) -> Setting:
    """Say where a setting stands, names of detectors in the place of their roles'."""
    role, name = _name_of(setting)
    value = setting.partition("=")[2]
    for one, detector in named.items():
        value = value.replace(f"{{{one}}}", detector)
    return Setting("params.yaml" if role == ROOT else f"detectors/{named[role]}/params.yaml", name, value)


def _owner(setting: Setting) -> str:
    return ROOT if setting.file == "params.yaml" else setting.file.split("/")[1]


def _copy_parameters(project: Path, trial: Path) -> None:
    """Copy every params.yaml that there is: all that the pipeline's checks look at."""
    for path in [project / "params.yaml", *project.glob("detectors/*/params.yaml")]:
        if path.is_file():  # else told by who reads it
            copy = trial / path.relative_to(project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _change(trial: Path, settings: Sequence[Setting]) -> None:
    """Set parameters as DVC does: they must stand in their files."""
    documents = {
        file: yaml.safe_load((trial / file).read_text(encoding="utf-8")) for file in {s.file for s in settings}
    }
    for setting in settings:
        *groups, last = setting.name.split(".")
        group: Any = documents[setting.file]
        for one in groups:
            group = group.get(one) if isinstance(group, dict) else None
        if not isinstance(group, dict) or last not in group:
            what = f"has no {setting.name} to be set; add it (`rcnn params` lists what there is)"
            raise ParamsError(f"{trial / setting.file}: {what}")
        try:
            group[last] = yaml.safe_load(setting.value)
        except yaml.YAMLError:
            raise ParamsError(f"{setting.name}={setting.value}: the value is not YAML; mend --set") from None
    for file, document in documents.items():
        (trial / file).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _check_needs(trial: Path, cell: Cell, place: tuple[str, str], more: More) -> None:
    """ParamsError for what only the user can say, and has not."""
    said = {setting.partition("=")[0] for setting in _reaching(cell, *place, more)}
    document = yaml.safe_load((trial / "params.yaml").read_text(encoding="utf-8"))
    for need in cell.needs:
        value: Any = document
        for key in need.name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if need.name not in said and (need.anew or not value):
            raise ParamsError(
                f"{trial / 'params.yaml'}: row {place[0]}: {need.why}: --set {place[0]}:{need.name}=VALUE, or leave "
                "the row out (--rows)"
            )


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def run_grid(project: Path, grid: Grid, plans: Sequence[Plan], experiment: Experiment) -> None:
    """Run every cell by ``experiment`` (its name, its settings, the target) and keep its figures.

    Parameters and dvc.yaml files end as they were, whatever happens.
    """
    for plan in plans:
        place = (plan.row,) if len(grid.columns) == 1 else (plan.row, plan.column)
        files = {"params.yaml", *plan.files, *(setting.file for setting in plan.settings)}
        former = {project / file: (project / file).read_bytes() for file in sorted(files) if (project / file).exists()}
        before = _last_runs(project, plan)
        try:
            for file, text in plan.files.items():
                atomic_write(project / file, text.encode())
            experiment("-".join((grid.name, *place)), [setting.for_dvc for setting in plan.settings], plan.target)
        finally:
            for path, content in former.items():
                atomic_write(path, content)
        _keep(project, grid, measured(project, grid, plan, before))


def _last_runs(project: Path, plan: Plan) -> dict[tuple[str, str], Any]:
    """What is known of the last run that computed something, of each node of the way of a test image."""
    known = {(of, node): read_timings(Layout(project, of)).get(node, {}) for of, node in plan.nodes}
    return {place: (timing.get("finished"), timing.get("seconds")) for place, timing in known.items()}


def measured(project: Path, grid: Grid, plan: Plan, before: Mapping[tuple[str, str], Any]) -> Done:
    """Read the figures of the experiment that has just been run; ``before``: the nodes' last runs before it."""
    layout = Layout(project, plan.detector)
    mean_ap, recall = {}, {}
    if plan.scored:
        metrics = json.loads((layout.reports / "metrics.json").read_text(encoding="utf-8"))
        mean_ap = {name: metrics[name]["mAP"] for name in PROTOCOLS}
    else:
        recall = _recall(project, project / plan.proposals)
    proposals = Artifact.read(project / plan.proposals)
    costs = {}
    now = _last_runs(project, plan)
    for of, node in plan.nodes:
        ran = not plan.settings or now[of, node] != before.get((of, node))
        costs[f"{of}/{node}"] = _cost(Layout(project, of), node, ran, read_done(project, grid))
    return Done(
        plan.row,
        plan.column,
        [setting.for_dvc for setting in plan.settings],
        mean_ap,
        costs,
        proposals.summary.get("splits", {}).get("test", {}).get("mean_boxes"),
        recall,
    )


def _cost(layout: Layout, node: str, ran: bool, known: Sequence[Done]) -> Cost:
    """Return what an image takes in a node: its parts, or where none was measured its run's time by its images.

    The latter only of a run of these results (``ran``); else what another cell knows of them.
    """
    digest = Artifact.read(layout.artifacts / node / "manifest.json").digest
    timing = read_timings(layout).get(node, {})
    seconds = {part: value for part, value in timing.get("per_image", {}).get(digest, {}).items() if part != "measured"}
    if not seconds and ran and timing.get("computed") and timing.get("seconds"):
        seconds = {node: timing["seconds"] / timing["computed"]}
    others = (cost.seconds for one in known for cost in one.costs.values() if cost.of == digest and cost.seconds)
    return Cost(digest, seconds or dict(next(others, {})))


def _recall(project: Path, proposals: Path) -> dict[str, float]:
    """Recall of the test images' proposals at the IoUs at which the evaluation measures it."""
    dataset = load_dataset(project / "artifacts/manifest/manifest.json")
    records = dataset.split("test")
    truth = GroundTruth.of(records, len(dataset.classes))
    best = proposal_overlaps(truth, read_proposals(open_store(project), Artifact.read(proposals), records))
    found = coverage(best[~truth.ignored])
    return {} if found is None else {f"{iou:.2f}": part for iou, part in zip(IOU_STEPS, found.recall, strict=True)}


def results(project: Path, grid: Grid) -> Path:
    """Where what was run of a grid is kept."""
    return project / "reports" / f"{grid.name}.json"


def read_done(project: Path, grid: Grid) -> list[Done]:
    """Return what has been run; ParamsError where the file is not one of this program's."""
    path = results(project, grid)
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Done(**{**one, "costs": {name: Cost(**cost) for name, cost in one["costs"].items()}}) for one in found]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise ParamsError(f"{path}: not what this version writes; move it away and run the grid again") from None


def _keep(project: Path, grid: Grid, done: Done) -> None:
    others = [one for one in read_done(project, grid) if (one.row, one.column) != (done.row, done.column)]
    path = results(project, grid)
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, json.dumps([asdict(one) for one in [*others, done]], indent=1).encode())


def _dvc(project: Path) -> Experiment:
    """Runs an experiment in the project's folder; ends the program where DVC fails."""

    def run(name: str, settings: Sequence[str], target: str) -> None:
        given = [part for setting in settings for part in ("-S", setting)]
        dvc = [sys.executable, "-m", "dvc", "exp"]
        # a former one of this name; not --force, which would train again, too
        subprocess.run([*dvc, "remove", "-q", name], cwd=project, capture_output=True, check=False)
        command = [*dvc, "run", "--name", name, *given, *([target] if target else [])]
        print(" ".join(command[2:]), file=sys.stderr, flush=True)
        if subprocess.run(command, cwd=project, check=False).returncode:
            sys.exit(f"{name}: dvc exp run failed; what was run before is kept, --show prints it")

    return run


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


def _plans(project: Path, grid: Grid, arguments: argparse.Namespace) -> Iterator[Plan]:
    """Check every cell; ParamsError, each problem once, where one is wrong."""
    load_params(Layout(project))  # no project: told once
    known = _rows(project, grid)
    rows, columns = _chosen("rows", arguments.rows, known), _chosen("columns", arguments.columns, list(grid.columns))
    more = [_scoped(scopes_of(grid, known), text) for text in arguments.more]
    detectors = dict(_in_role(grid, text) for text in arguments.detector)
    problems: list[str] = []
    plans = []
    for place in [(row, column) for column in columns for row in rows]:
        try:
            plans.append(planned(project, grid, place, rows, more, detectors))
        except ParamsError as error:
            problems += str(error).splitlines()
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    yield from plans


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
        if not arguments.show:
            run_grid(project, grid, list(_plans(project, grid, arguments)), _dvc(project.absolute()))
        done = read_done(project, grid)
    except ParamsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(grid.table(done, arguments.protocol) if done else f"{results(project, grid)}: nothing has been run")


if __name__ == "__main__":
    main()
