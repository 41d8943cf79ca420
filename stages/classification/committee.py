"""A committee: several networks' class probabilities, averaged (OverFeat's Table 2: seven accurate models)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cache import Store
from cache.errors import StageError

from .runs import STAGE, ClassifyRun, Looked, run_of
from .saved_runs import read_lists
from .scoring import Scores

PARAMETER = "classify.committee"
ROW = "committee: {}"  # of the report: the method's name with this before it


def read_members(folder: Path, names: Sequence[str], own: Looked, store: Store) -> dict[str, ClassifyRun]:
    """Read the runs saved under these names that are to be averaged with one that looks at ``own``.

    StageError, one line for each thing in which one of them does not fit, or of which the store lacks objects; where a
    file is unknown or damaged as :func:`~stages.classification.saved_runs.read_lists`.
    """
    members = {name: run_of(read_lists(folder, name), folder / f"{name}.json") for name in names}
    lines = [f"{PARAMETER}: {name}: {line}" for name, run in members.items() for line in (*_misfits(own, run.looked),)]
    if not lines:
        lines = [f"{PARAMETER}: {name}: {line}" for name, run in members.items() for line in _gaps(own, run, store)]
    if lines:
        raise StageError("\n".join(lines))
    return members


def shared_methods(asked: Sequence[str], members: Mapping[str, ClassifyRun]) -> list[str]:
    """Return those of the ``asked`` ways to test that all members can do; StageError where there is none."""
    shared = [name for name in asked if all(name in run.looked.methods for run in members.values())]
    if not shared:
        raise StageError(
            f"{PARAMETER}: {', '.join(members)} and this run have none of {', '.join(asked)} in common; save them with "
            "one classify.views"
        )
    return shared


def mean_of(scores: Sequence[Scores]) -> Scores:
    """Return the mean of several networks' class probabilities [C], each of which counts once."""
    mean: Scores = np.mean(np.stack(scores), axis=0)
    return mean


def _misfits(own: Looked, other: Looked) -> Iterator[str]:
    """Say in what a member looked at something else."""
    if own.dataset != other.dataset:
        yield f"is of dataset {other.dataset}, and this run of {own.dataset}; save one of this dataset"
        return
    if own.classes != other.classes:
        yield (
            f"tells {', '.join(other.classes)} apart, and this run {', '.join(own.classes)}, in this order; set "
            "manifest.classes alike"
        )
    mine, theirs = set(own.pictures), set(other.pictures)
    if mine != theirs:
        yield (
            f"tested {len(theirs)} pictures, and this run {len(mine)}, of which {len(mine & theirs)} are the same; set "
            "manifest.test alike"
        )
    if own.views and other.views and own.short_side_px != other.short_side_px:
        yield (
            f"looked at pictures of {other.short_side_px} px, and this run at {own.short_side_px}; set "
            "classify.short_side_px alike"
        )
    lacking = [scale for scale in own.scales_px if scale not in other.scales_px]
    if other.scales_px and lacking:
        yield (
            f"has dense views at {_px(other.scales_px)} px, and this run at {_px(own.scales_px)}; save it with these "
            "classify.scales_px"
        )


def _gaps(own: Looked, run: ClassifyRun, store: Store) -> Iterator[str]:
    """Say how many objects that are to be read of a member the store lacks: nobody can compute them here."""
    keys = {*(run.of_views if own.views else ())}
    keys |= {key for scale in own.scales_px for key in run.of_scales.get(scale, ())}
    if lacking := len(store.missing(STAGE, keys)):
        yield (
            f"{lacking} of its {len(keys)} objects are not in the store {store.root}; `rcnn cache pull` may have them, "
            "or classify with the weights that made them, and save it again"
        )


def _px(scales: Sequence[int]) -> str:
    return ", ".join(map(str, scales))
