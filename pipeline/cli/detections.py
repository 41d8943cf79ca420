"""``rcnn detections``: put a run's detections aside, so that another run can be combined with them."""

import re
from pathlib import Path

import click

from cache import Artifact, Store, StoreError
from cache.errors import ParamsError
from cache.listing import dataset_of
from cache.text import format_table
from cache.transfer import copy
from pipeline.graph import own_detections
from pipeline.hardware import default_workers
from pipeline.progress import Reporter
from pipeline.workspace import current_layout, open_store, saved_detections
from stages.detections.saved import NAME_PATTERN, checked, detector_of, saved_path
from stages.graph import SAVED


@click.group()
def detections() -> None:
    """Save a run's detections under a name, for combine.detectors."""


@detections.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another project's folder, whose cached detections are copied here (default: this project).",
)
@click.option("--force", is_flag=True, help="Replace other detections saved under this name.")
@click.pass_obj
def save(project: Path, name: str, source: Path | None, force: bool) -> None:
    """Save the detections of the last run, made before any combining, as detections/NAME.json.

    combine.detectors: [NAME] then joins them with those of other parameters. `rcnn cache gc` keeps their objects, also
    with --workspace, until the file is removed.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise click.UsageError(f"name {name!r}: letters, digits, '.', '_', '-' only, 64 at most, the first no sign")
    origin = source or project
    made = origin / own_detections(origin, current_layout(origin).name)
    artifact, target = checked(made), saved_path(project / SAVED, name)
    is_other = target.is_symlink() or (target.exists() and target.read_bytes() != artifact.to_bytes())
    if is_other and not force:
        raise ParamsError(f"{target}: other detections are saved under this name; choose another, or --force")
    _bring(origin, made, open_store(origin), open_store(project), artifact)
    target.parent.mkdir(exist_ok=True)
    artifact.write(target)
    click.echo(
        f"{target}: {detector_of(artifact)}; {len(artifact.entries)} images; "
        f"combine.detectors: [{name}] joins them with others"
    )


@detections.command("ls")
@click.pass_obj
def list_saved(project: Path) -> None:
    """What is saved: name, dataset, images, which detector's, and how many cached objects are missing."""
    store = open_store(project)
    rows = []
    for path, artifact in saved_detections(project).items():
        lacking = len(store.missing(artifact.stage, artifact.keys.values()))
        gaps = f"{lacking} missing" if lacking else ""
        rows.append((path.stem, dataset_of(artifact), len(artifact.entries), detector_of(artifact), gaps))
    click.echo(format_table(("name", "dataset", "images", "detector", ""), rows, right=(2,)))


def _bring(origin: Path, made: Path, source: Store, target: Store, artifact: Artifact) -> None:
    """See that this project's store has the objects, and keeps them; raises StoreError where it cannot."""
    if str(source.root) != str(target.root):
        log = Reporter("detections")
        done = copy(source, target, [artifact], default_workers(), lambda n, of, _: log.progress(n, of, "objects"))
        if done.problems:
            raise StoreError(f"{origin}: {len(done.problems)} objects cannot be had; the first: {done.problems[0]}")
        return
    if lacking := len(target.missing(artifact.stage, artifact.keys.values())):
        raise StoreError(
            f"{made}: {lacking} of its {len(artifact.entries)} objects are not in the store {target.root}; "
            "`rcnn cache pull` may have them, `dvc repro -f -s detect` computes them"
        )
    target.register(artifact)
