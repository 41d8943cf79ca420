"""What was measured of the cells of a grid: read after each experiment, kept in ``reports/grids/NAME.json``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cache import Artifact, atomic_write, make_dirs
from cache.errors import ParamsError
from manifests.select import without_duplicates
from pipeline.detectors import Layout
from pipeline.timings import read_timings
from pipeline.workspace import current_dataset, open_store
from stages.scoring.objects import GroundTruth
from stages.scoring.proposals import IOU_STEPS, coverage, proposal_overlaps
from stages.scoring.reading import read_proposals

from .declared import ALWAYS, PROTOCOLS, CellName, Grid
from .origins import CellOrigin
from .plans import Plan, WhatIsScored

_Number = Annotated[float, AllowInfNan(False)]
_STEPS = frozenset(f"{iou:.2f}" for iou in IOU_STEPS)


class Cost(BaseModel):
    """What one node took for an image: median seconds by part, empty where that is not known, of the result ``of``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    of: str
    seconds: dict[str, _Number]


class Done(BaseModel):
    """What was measured of one cell.

    Attributes:
        settings: as DVC was given them.
        more: what ``--set`` set, as it was given; roles: detectors that are not those of their role's name.
        origin: what the figures depend on.
        mean_ap: in [0, 1], by protocol; empty where nothing was detected.
        ap: of each class, likewise.
        costs: of the nodes that a test image passes, in order, by ``DETECTOR/NODE``.
        proposals: mean number of a test image's proposals.
        recall: of the proposals of test images, by the IoU asked for; empty where mAP or mean IoU was measured.
        mean_iou: of a segmentation, in [0, 1]; None where none was measured. iou: of background and each class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    row: str
    column: str
    seed: int | None = None
    settings: list[str]
    more: dict[str, Any] = Field(default_factory=dict)
    roles: dict[str, str] = Field(default_factory=dict)
    origin: CellOrigin
    mean_ap: dict[str, _Number | None] = Field(default_factory=dict)
    ap: dict[str, dict[str, _Number | None]] = Field(default_factory=dict)
    costs: dict[str, Cost] = Field(default_factory=dict)
    proposals: _Number | None = None
    recall: dict[str, _Number] = Field(default_factory=dict)
    mean_iou: _Number | None = None
    iou: dict[str, _Number | None] = Field(default_factory=dict)

    @property
    def cell(self) -> CellName:
        """Its place in the grid."""
        return CellName(self.row, self.column, self.seed)


_DONE = TypeAdapter(list[Done])


def last_runs(project: Path, plan: Plan) -> dict[tuple[str, str], Any]:
    """What is known of the last run that computed something, of each node of the way of a test image."""
    known = {(of, node): read_timings(Layout(project, of)).get(node, {}) for of, node in plan.nodes}
    return {place: (timing.get("finished"), timing.get("seconds")) for place, timing in known.items()}


def measured(project: Path, plan: Plan, before: Mapping[tuple[str, str], Any], known: Sequence[Done]) -> Done:
    """Read the figures of the experiment that has just been run.

    Args:
        before: the nodes' last runs before it.
        known: what was measured of other cells, and of this one before.
    """
    proposals = Artifact.read(project / plan.proposals)
    costs = {}
    now = last_runs(project, plan)
    for of, node in plan.nodes:
        # A run that is older may have made other results than are there now: what it took does not say of which.
        ran = now[of, node] != before.get((of, node))
        costs[f"{of}/{node}"] = _cost(Layout(project, of), node, ran, known)
    return Done(
        row=plan.cell.row,
        column=plan.cell.column,
        seed=plan.cell.seed,
        settings=[setting.for_dvc for setting in plan.settings],
        more=dict(plan.more),
        roles=dict(plan.roles),
        origin=plan.origin,
        **_figures(project, plan),
        costs=costs,
        proposals=proposals.summary.get("splits", {}).get("test", {}).get("mean_boxes"),
    )


def _figures(project: Path, plan: Plan) -> dict[str, Any]:
    """Read the figures of what is measured of a cell, by their names in :class:`Done`."""
    reports = Layout(project, plan.detector).reports
    if plan.measured is WhatIsScored.PROPOSALS:
        return {"recall": _recall(project, project / plan.proposals)}
    if plan.measured is WhatIsScored.SEGMENTATION:
        found = json.loads((reports / "segmentation.json").read_text(encoding="utf-8"))
        return {"mean_iou": found["mean_iou"], "iou": found["iou"]}
    found = json.loads((reports / "scores.json").read_text(encoding="utf-8"))
    return {
        "mean_ap": {name: found[name]["mAP"] for name in PROTOCOLS if name in found},
        "ap": {name: found[name]["AP"] for name in PROTOCOLS if name in found},
    }


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
    return Cost(of=digest, seconds=seconds or dict(next(others, {})))


def _recall(project: Path, proposals: Path) -> dict[str, float]:
    """Recall of the proposals at the IoUs at which the evaluation measures it, on the images that it scores."""
    dataset = current_dataset(project)
    records = without_duplicates(dataset.split("test"))
    truth = GroundTruth.of(records, len(dataset.classes))
    best = proposal_overlaps(truth, read_proposals(open_store(project), Artifact.read(proposals), records))
    found = coverage(best[~truth.ignored])
    return (
        {} if found is None else {f"{iou:.2f}": float(part) for iou, part in zip(IOU_STEPS, found.recall, strict=True)}
    )


def results(project: Path, grid: Grid) -> Path:
    """Where what was run of a grid is kept."""
    return project / "reports" / "grids" / f"{grid.name}.json"


def read_done(project: Path, grid: Grid) -> list[Done]:
    """Return what has been run; ParamsError where the file is not one of this program's.

    Cells that the grid's file does not name, as it is now, are among them.
    """
    path = results(project, grid)
    if not path.exists():
        return []
    try:
        done = _DONE.validate_json(path.read_bytes())
        sound = all(_is_whole(grid, one) for one in done)
    except (OSError, ValidationError):
        sound = False
    if not sound:
        raise ParamsError(f"{path}: not what this version writes; move it away and run the grid again")
    return done


def _is_whole(grid: Grid, one: Done) -> bool:
    """Say whether a cell's figures are all that its table prints; they come from a file that anyone may have edited."""
    if next(shown(grid, [one]), None) is None:
        return True  # of another version's table: it is not printed
    names, segmented = set(one.mean_ap), one.mean_iou is not None or bool(one.iou)
    match WhatIsScored.at(grid.cell(one.row, one.column).target):
        case WhatIsScored.PROPOSALS:
            return set(one.recall) in (_STEPS, set()) and not names and not segmented  # no object: no recall
        case WhatIsScored.SEGMENTATION:
            return bool(one.iou) and not names and not one.recall
        case WhatIsScored.DETECTIONS:
            whole = names == set(one.ap) and set(ALWAYS) <= names <= set(PROTOCOLS)
            return whole and not one.recall and not segmented


def shown(grid: Grid, done: Sequence[Done]) -> Iterator[Done]:
    """Yield what the grid's file names of what has been run."""
    for one in done:
        known = not grid.rows or one.row in grid.rows
        of_seed = one.seed in grid.seeds if grid.seeds else one.seed is None
        if known and one.column in grid.columns and of_seed:
            yield one


def keep(project: Path, grid: Grid, known: Sequence[Done], done: Done) -> None:
    """Add a cell to what is known, in place of what was measured of it before."""
    others = [one for one in known if one.cell != done.cell]
    path = results(project, grid)
    make_dirs(path.parent)
    atomic_write(path, _DONE.dump_json([*others, done], indent=1))
