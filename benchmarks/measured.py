"""What was measured of the cells of a grid: read after each experiment, kept in ``reports/TABLE.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.plans import Plan
from benchmarks.tables.grid import PROTOCOLS, Cost, Done, Grid
from cache import Artifact, atomic_write, make_dirs
from cache.errors import ParamsError
from manifests import load_dataset
from pipeline.detectors import Layout
from pipeline.timings import read_timings
from pipeline.workspace import open_store
from stages.scoring.objects import GroundTruth
from stages.scoring.proposals import IOU_STEPS, coverage, proposal_overlaps
from stages.scoring.reading import read_proposals


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
    layout = Layout(project, plan.detector)
    mean_ap, recall = {}, {}
    if plan.scored:
        metrics = json.loads((layout.reports / "metrics.json").read_text(encoding="utf-8"))
        mean_ap = {name: metrics[name]["mAP"] for name in PROTOCOLS}
    else:
        recall = _recall(project, project / plan.proposals)
    proposals = Artifact.read(project / plan.proposals)
    costs = {}
    now = last_runs(project, plan)
    for of, node in plan.nodes:
        # A run that is older may have made other results than are there now: what it took does not say of which.
        ran = now[of, node] != before.get((of, node))
        costs[f"{of}/{node}"] = _cost(Layout(project, of), node, ran, known)
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
        done = [Done(**{**one, "costs": {name: Cost(**cost) for name, cost in one["costs"].items()}}) for one in found]
        sound = all(_is_sound(grid, one) for one in done)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ParamsError(f"{path}: not what this version writes; move it away and run the grid again")
    return done


def _is_sound(grid: Grid, one: Done) -> bool:
    """Say whether a cell's figures are all that its table prints; they come from a file that anyone may have edited."""
    if not isinstance(one.row, str) or one.column not in grid.columns:
        return False
    if grid.rows and one.row not in grid.rows:
        return True  # of another version's table: it is not printed
    proposals_alone = bool(grid.cell(one.row, one.column, [one.row]).target)
    figures = one.recall if proposals_alone else one.mean_ap
    steps = {f"{iou:.2f}" for iou in IOU_STEPS} if figures else set()  # no object: no recall
    if set(figures) != (steps if proposals_alone else set(PROTOCOLS)):
        return False
    seconds = [value for cost in one.costs.values() for value in cost.seconds.values()]
    numbers = [*one.recall.values(), *seconds]
    optional = [*one.mean_ap.values(), one.proposals]
    texts = [*one.settings, *(cost.of for cost in one.costs.values())]
    return (
        all(map(_is_number, numbers))
        and all(value is None or _is_number(value) for value in optional)
        and all(isinstance(text, str) for text in texts)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def keep(project: Path, grid: Grid, known: Sequence[Done], done: Done) -> None:
    """Add a cell to what is known, in place of what was measured of it before."""
    others = [one for one in known if (one.row, one.column) != (done.row, done.column)]
    path = results(project, grid)
    make_dirs(path.parent)
    atomic_write(path, json.dumps([asdict(one) for one in [*others, done]], indent=1).encode())
