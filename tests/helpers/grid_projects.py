"""Projects that grids are run on, without DVC: an experiment leaves what a run of the pipeline leaves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from cache import Artifact
from pipeline import timings
from pipeline.cli import main
from pipeline.detectors import Layout
from pipeline.dvc_files import write_all
from pipeline.grids.declared import CellName, Given, Grid
from pipeline.grids.experiments import Experiment
from pipeline.grids.plans import More, Plan, planned
from pipeline.grids.reading import read_grid
from pipeline.grids.running import Asked, Setup, run_grid, set_up

HERE = Path(__file__).parents[2]
FILES = {path.stem: path for path in sorted((HERE / "grids").glob("*.yaml"))}
GRIDS = {name: read_grid(path) for name, path in FILES.items()}
# The project's detectors in the roles that the grids name.
ROLES = {"fast": "fast", "faster": "faster", "vgg": "faster", "fast_vgg": "fast"}
MORE: More = [
    ("eb", Given("proposals.file.path", "edges.h5", "--set")),
    ("0712", Given("manifest.train", ["trainval07", "trainval12"], "--set")),
    ("tnet", Given("network.weights", "caffenet.safetensors", "--set")),
    ("onet", Given("network.weights", "vgg16.safetensors", "--set")),
]


def make_roles(folder: Path) -> None:
    """Make a project with a detector in every role, and nothing run."""
    (folder / "params.yaml").write_bytes((HERE / "params.yaml").read_bytes())
    for role, kind in ROLES.items():
        (folder / "detectors" / role).mkdir(parents=True)
        shipped = HERE / "detectors" / kind / "params.yaml"
        (folder / "detectors" / role / "params.yaml").write_bytes(shipped.read_bytes())
    write_all(folder)


def called(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        project, table, *others = arguments
        patch.setattr("sys.argv", ["rcnn", "-C", project, "grid", str(FILES[table]), *others])
        main()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    with pytest.raises(SystemExit, match="2"):
        called(*arguments)
    return capsys.readouterr().err.splitlines()


def plan(project: Path, table: str, row: str, column: str = "", more: More = MORE) -> Plan:
    grid = GRIDS[table]
    return planned(project, grid, CellName(row, column or next(iter(grid.columns))), more, {})


def run(
    project: Path, table: str, rows: Sequence[str], experiment: Experiment, more: More = (), column: str = ""
) -> None:
    """Run rows of one column of a grid as the program does."""
    grid = GRIDS[table]
    names = [CellName(row, column or next(iter(grid.columns))) for row in rows]
    setup = Setup(names, lambda name: planned(project, grid, name, more, {}), again=True)
    run_grid(project, grid, setup, experiment)


def as_dvc(project: Path, settings: Sequence[str]) -> None:
    """Set parameters as ``dvc exp run`` does before it runs anything."""
    for file, overrides in to_path_overrides(settings).items():
        apply_overrides(project / file, overrides)


def set_by_hand(project: Path, made: Plan) -> dict[str, Any]:
    """What the settings make of each params.yaml, as ``dvc exp run -S`` sets them; AssertionError for unknown ones."""
    documents: dict[str, Any] = {}
    for setting in made.settings:
        written = setting.for_dvc if "params.yaml:" in setting.for_dvc else f"params.yaml:{setting.for_dvc}"
        file, _, assignment = written.partition(":")
        name, _, value = assignment.partition("=")
        document = documents.setdefault(file, yaml.safe_load((project / file).read_text(encoding="utf-8")))
        *groups, last = name.split(".")
        group: Any = document
        for one in groups:
            group = group[one]
        assert last in group, setting
        group[last] = yaml.safe_load(value)
    return documents


def kept(project: Path, table: str, row: str, figures: Mapping[str, Any]) -> Path:
    """Leave what a grid keeps of a cell that was run."""
    origin = plan(project, table, row).origin
    done = {"row": row, "column": "", "settings": [], "origin": origin.model_dump()}
    path = project / "reports/grids" / f"{table}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{**done, **figures}]))
    return path


BOTH = {"mean_ap": {"voc2007": 0.568, "voc2010": 0.5}, "ap": {"voc2007": {"cat": 0.568}, "voc2010": {"cat": None}}}


def listed(layout: Layout, node: str, costs: dict[str, float], of: str, *, computed: bool = True, s: float = 2) -> None:
    """Leave what a run of a node leaves: its list, made with the parameters ``of``, and its times; four images."""
    made = Artifact(node, 1, {"of": of}, {}, (), {"splits": {"test": {"mean_boxes": 298.5}}})
    (layout.artifacts / node).mkdir(parents=True, exist_ok=True)
    made.write(layout.artifacts / node / "manifest.json")
    counts = {"computed": 4 * computed, "reused": 4 * (not computed)}
    timings.record(layout, node, s, counts, {made.digest: costs} if computed and costs else {})


def scored(layout: Layout, voc2007: float) -> None:
    layout.reports.mkdir(parents=True, exist_ok=True)
    scores = {"voc2007": {"mAP": voc2007, "AP": {"cat": voc2007}}, "voc2010": {"mAP": 0.25, "AP": {"cat": 0.25}}}
    (layout.reports / "scores.json").write_text(json.dumps(scores))


TWO_BY_TWO = """
title: two by two
rows: {low: {set: {svm.C: 0.001}}, high: {set: {svm.C: 0.01}}}
columns: {a: {set: {features.context_px: 0}}, b: {set: {features.context_px: 5}}}
"""


def written(project: Path, text: str, name: str = "two") -> Path:
    path = project / f"{name}.yaml"
    path.write_text(text)
    return path


def ran(project: Path, grid: Grid, more: Sequence[str] = ()) -> None:
    """Run every cell of a grid, without computing anything."""

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        for node in ("proposals", "features", "detect"):
            listed(Layout(project), node, {}, name)
        scored(Layout(project), 0.5)

    run_grid(project, grid, set_up(project, grid, Asked(more=more)), experiment)
