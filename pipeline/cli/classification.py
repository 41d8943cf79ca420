"""``rcnn classification``: put a run of classify aside, for a committee, and list what was."""

from pathlib import Path

import click

from cache import StoreError, atomic_write
from cache.text import format_table
from pipeline.workspace import open_store
from stages.classification.runs import run_of
from stages.classification.saved_runs import VIEWS, lists_of, read_lists, saved_bytes, saved_run_names
from stages.classification.scoring import DENSE
from stages.graph import CLASSIFY, SAVED_RUNS, at, place

from .put_aside import check_free, check_name


@click.group()
def classification() -> None:
    """Save a run of classify under a name, for classify.committee."""


@classification.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Replace another run saved under this name.")
@click.pass_obj
def save(project: Path, name: str, force: bool) -> None:
    """Save what the last run of classify found of each picture as classification/saved/NAME.json.

    classify.committee: [NAME] then averages its class probabilities with those of another network. `rcnn cache gc`
    keeps its objects, also with --workspace, until the file is removed.
    """
    check_name(name)
    folder = (project / at(place(CLASSIFY)).outputs["manifest"]).parent
    lists, target = lists_of(folder), project / SAVED_RUNS / f"{name}.json"
    run = run_of(lists, folder)
    check_free(target, saved_bytes(lists), "results", force=force)
    store = open_store(project)
    if lacking := len(store.missing(CLASSIFY.name, run.keys)):
        raise StoreError(
            f"{folder}: {lacking} of its {len(run.keys)} objects are not in the store {store.root}; `rcnn cache pull` "
            "may have them, `dvc repro -f -s classification/dvc.yaml:classify` computes them"
        )
    for one in lists.values():
        store.register(one)
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, saved_bytes(lists))
    click.echo(
        f"{target}: {lists[VIEWS].summary['network']}; {len(run.looked.pictures)} pictures; "
        f"classify.committee: [{name}] averages it with another"
    )


@classification.command("ls")
@click.pass_obj
def list_saved(project: Path) -> None:
    """What is saved: name, dataset, pictures, network, its views and scales, and how many objects are missing."""
    store, folder = open_store(project), project / SAVED_RUNS
    rows = []
    for name in saved_run_names(folder):
        lists = read_lists(folder, name)
        run = run_of(lists, folder / f"{name}.json")
        looked, lacking = run.looked, len(store.missing(CLASSIFY.name, run.keys))
        seen = " ".join([*sorted(looked.methods - set(DENSE)), *(f"dense:{scale}px" for scale in looked.scales_px)])
        gaps = f"{lacking} missing" if lacking else ""
        rows.append((name, looked.dataset, len(looked.pictures), lists[VIEWS].summary["network"], seen, gaps))
    click.echo(format_table(("name", "dataset", "pictures", "network", "views", ""), rows, right=(2,)))
