"""Table 6 of the SPP-net paper on a project's dataset, as DVC experiments: mAP by layer and method, and time per image.

    python -m benchmarks.table6 PROJECT                      # runs the grid, then prints the table
    python -m benchmarks.table6 PROJECT --rows pool5 fc6 --columns spp1 rcnn
    python -m benchmarks.table6 PROJECT --set 'spp:features.spp.levels=[6]' --set ft:finetune.lr=0.001
    python -m benchmarks.table6 PROJECT --show               # prints what has been run so far

The project has a git commit, and params.yaml with the network, the dataset and, for the rows that begin with ft, its
``finetune.iterations``. Each cell is one ``dvc exp run`` in the project's folder (named table6-ROW-COLUMN, so that
``dvc exp show`` lists it, too); params.yaml is put back after each. Features are computed once by column and with or
without fine-tuning, whatever the number of rows. ``--set WHERE:NAME=VALUE`` adds a setting; WHERE is a row, a column,
``spp``, ``ft`` or ``all``. What was run is kept in ``reports/table6.json``, cell by cell; remove that file where the
dataset is another.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cache import Artifact, atomic_write
from pipeline.detectors import Layout
from pipeline.timings import read_timings
from stages.finetune.settings import FinetuneSettings

RESULTS = Path("reports/table6.json")
# Fine-tuned or not, the SVM's layer, box regression.
ROWS = {
    "pool5": (False, "pool5", False),
    "fc6": (False, "fc6", False),
    "ftfc6": (True, "fc6", False),
    "ftfc7": (True, "fc7", False),
    "ftfc7bb": (True, "fc7", True),
}
# The paper's for SPP: near duplicates of negatives dropped, and the authors' ridge; R-CNN's stand in params.yaml.
_SPP = ("features.method=spp", "svm.duplicate_iou=0.7", "bbox.ridge_lambda=4000", "bbox.min_iou=0.5")
COLUMNS = {
    "spp1": ("features.spp.scales_px=[688]", *_SPP),
    "spp5": ("features.spp.scales_px=[480,576,688,864,1200]", *_SPP),
    "rcnn": ("features.method=warp", "svm.duplicate_iou=null"),
}
TITLES = {"spp1": "SPP (1-sc)", "spp5": "SPP (5-sc)", "rcnn": "R-CNN"}
Experiment = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True)
class Cell:
    """One experiment: mAP in [0, 1] by protocol, the digest of the features that it used, and what these took: median
    seconds per image by part; empty where they came from elsewhere."""

    row: str
    column: str
    settings: Sequence[str]
    mean_ap: Mapping[str, float]
    features: str
    seconds: Mapping[str, float] = field(default_factory=dict)


def settings_of(row: str, column: str, rows: Sequence[str], more: Sequence[tuple[str, str]] = ()) -> list[str]:
    """``NAME=VALUE`` of one cell, ``more`` over the grid's own.

    All cells store the layers of all ``rows``, so that a column's features are shared.
    """
    tuned, layer, regression = ROWS[row]
    layers = sorted({"pool5", *(ROWS[name][1] for name in rows)})
    settings = [*COLUMNS[column], f"features.layers=[{','.join(layers)}]", f"svm.layer={layer}"]
    settings += [f"bbox.enabled={str(regression).lower()}", "bbox.layer=pool5"]
    settings += [] if tuned else ["finetune.iterations=0"]
    where = {"all", row, column} | ({"ft"} if tuned else set()) | ({"spp"} if column.startswith("spp") else set())
    settings += [setting for scope, setting in more if scope in where]
    return list({setting.partition("=")[0]: setting for setting in settings}.values())


def run_grid(
    project: Path,
    rows: Sequence[str],
    columns: Sequence[str],
    more: Sequence[tuple[str, str]],
    experiment: Experiment,
) -> None:
    """Run every cell by ``experiment`` (its name, its settings) and keep its figures; params.yaml ends as it was."""
    params = project / "params.yaml"
    text = params.read_bytes()
    for column in columns:
        for row in rows:
            settings = settings_of(row, column, rows, more)
            try:
                experiment(f"table6-{row}-{column}", settings)
            finally:
                atomic_write(params, text)
            _keep(project, measured(project, row, column, settings))


def measured(project: Path, row: str, column: str, settings: Sequence[str]) -> Cell:
    """The figures of the experiment that has just been run."""
    metrics = json.loads((project / "reports/metrics.json").read_text(encoding="utf-8"))
    features = Artifact.read(project / "artifacts/features/manifest.json").digest
    seconds = dict(read_timings(Layout(project)).get("features", {}).get("per_image", {}).get(features, {}))
    seconds.pop("measured", None)
    mean_ap = {name: metrics[name]["mAP"] for name in ("voc2007", "voc2010")}
    return Cell(row, column, list(settings), mean_ap, features, seconds)


def read_cells(project: Path) -> list[Cell]:
    """What has been run."""
    path = project / RESULTS
    return [Cell(**cell) for cell in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def _keep(project: Path, cell: Cell) -> None:
    others = [one for one in read_cells(project) if (one.row, one.column) != (cell.row, cell.column)]
    text = json.dumps([asdict(one) for one in [*others, cell]], indent=1)
    atomic_write(project / RESULTS, text.encode())


def table(cells: Sequence[Cell], protocol: str = "voc2010") -> str:
    """The paper's table in Markdown: mAP in per cent, seconds per image, and how many times faster than R-CNN."""
    by_place = {(cell.row, cell.column): cell for cell in cells}
    columns = [column for column in COLUMNS if any(cell.column == column for cell in cells)]
    lines = [["", *(TITLES[column] for column in columns)], ["---"] * (1 + len(columns))]
    for row in [row for row in ROWS if any(cell.row == row for cell in cells)]:
        found = [by_place.get((row, column)) for column in columns]
        lines.append([row, *("–" if cell is None else f"{100 * cell.mean_ap[protocol]:.1f}" for cell in found)])
    costs = {column: _cost([cell for cell in cells if cell.column == column]) for column in columns}
    for part in ("conv", "fc", "rest"):
        lines.append([f"{part} time", *(_seconds(cost.get(part, 0.0) if cost else None) for cost in costs.values())])
    totals = {column: sum(cost.values()) if cost else None for column, cost in costs.items()}
    lines.append(["total time", *(_seconds(total) for total in totals.values())])
    lines.append(["times faster than R-CNN", *(_faster(totals, column) for column in columns)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cost(cells: Sequence[Cell]) -> dict[str, float]:
    """Mean over a column's distinct features, with fine-tuning and without, of those whose time is known."""
    known = list({cell.features: cell.seconds for cell in cells if cell.seconds}.values())
    parts = {part for seconds in known for part in seconds}
    return {part: sum(seconds.get(part, 0.0) for seconds in known) / len(known) for part in parts}


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} s"


def _faster(totals: Mapping[str, float | None], column: str) -> str:
    own, rcnn = totals[column], totals.get("rcnn")
    return "–" if column == "rcnn" or not own or not rcnn else f"{rcnn / own:.0f}x"


def _dvc(project: Path) -> Experiment:
    """Runs an experiment in the project's folder; ends the program where DVC fails."""

    def run(name: str, settings: Sequence[str]) -> None:
        given = [part for setting in settings for part in ("-S", setting)]
        dvc = [sys.executable, "-m", "dvc", "exp"]
        # a former one of this name; not --force, which would train again, too
        subprocess.run([*dvc, "remove", "-q", name], cwd=project, capture_output=True, check=False)
        command = [*dvc, "run", "--name", name, *given]
        print(" ".join(command[2:]), file=sys.stderr, flush=True)
        if subprocess.run(command, cwd=project, check=False).returncode:
            sys.exit(f"{name}: dvc exp run failed; what was run before is kept, --show prints it")

    return run


def _scoped(text: str) -> tuple[str, str]:
    scope, _, setting = text.partition(":")
    known = {"all", "ft", "spp", *ROWS, *COLUMNS}
    if scope not in known or "=" not in setting:
        raise argparse.ArgumentTypeError(f"{text!r} is not WHERE:NAME=VALUE with WHERE of {', '.join(sorted(known))}")
    return scope, setting


def _problems(project: Path, rows: Sequence[str], more: Sequence[tuple[str, str]]) -> Iterator[str]:
    from cache.errors import ParamsError
    from pipeline.workspace import open_params

    try:
        iterations = open_params(project).groups.of("finetune", FinetuneSettings).iterations
    except ParamsError as error:
        yield str(error)
        return
    given = any(setting.startswith("finetune.iterations=") for _, setting in more)
    if any(ROWS[row][0] for row in rows) and not given and iterations == 0:
        yield f"{project / 'params.yaml'}: finetune.iterations is 0; set it, or leave out the rows that begin with ft"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--set", dest="more", action="append", type=_scoped, default=[], metavar="WHERE:NAME=VALUE")
    parser.add_argument("--protocol", choices=("voc2007", "voc2010"), default="voc2010", help="whose mAP is shown")
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    project = arguments.project
    if not arguments.show:
        if problems := list(_problems(project, arguments.rows, arguments.more)):
            print("\n".join(problems), file=sys.stderr)
            sys.exit(2)
        run_grid(project, arguments.rows, arguments.columns, arguments.more, _dvc(project.absolute()))
    cells = read_cells(project)
    print(table(cells, arguments.protocol) if cells else f"{project / RESULTS}: nothing has been run")


if __name__ == "__main__":
    main()
