"""``rcnn cache``: what is cached, what it was made of, whether it is whole, and what may go."""

import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import click

from cache import Artifact, Store, StoreError
from cache.cores import usable_cores
from cache.listing import ObjectInfo, Usage, dataset_of, entries, find, infos, results, summarise
from cache.maintenance import gc as collect
from cache.maintenance import verify as check_all
from cache.outputs import refuse_within
from cache.text import format_bytes, format_table, nearest
from cache.transfer import copy
from pipeline.cli.types import Number
from pipeline.leftovers import sweep
from pipeline.progress import Reporter
from pipeline.workspace import open_store, saved_results, stage_artifacts, untouchable, workspace_artifacts
from stages.detections.saved import IMPORTED
from stages.graph import STAGES

from .cache_tables import flatten, objects_table, results_table, when

_SHOWN = 5  # objects named where many are wrong


@click.group()
def cache() -> None:
    """List, show, verify and clean what is cached."""


@cache.command("ls")
@click.argument("stage", required=False)
@click.option("--dataset", help="Only results of this dataset.")
@click.option("--limit", type=click.IntRange(min=0), default=50, help="At most so many objects; 0 is all.")
@click.pass_obj
def list_objects(project: Path, stage: str | None, dataset: str | None, limit: int) -> None:
    """What is cached, result by result; with STAGE, object by object.

    A result is one run of a stage: its dataset, how many images, and the parameters and inputs (first digits of their
    digests) in which it differs from the defaults or from another result of the stage. A * marks the workspace's own.
    Objects are set apart by the parameters in which those shown differ, and the inputs in which those of an image do.
    """
    store = open_store(project)
    _check_stage(stage)
    own = workspace_artifacts(project)
    if stage is None:
        found = summarise(store, own).artifacts
        _check_dataset(dataset, {u.dataset for u in found})
        click.echo(results_table([u for u in found if dataset in (None, u.dataset)], {a.digest for a in own}))
        return
    wanted = None
    if dataset is not None:
        known = results(store, own)
        _check_dataset(dataset, {dataset_of(a) for a in known})
        wanted = {key for a in known if a.stage == stage and dataset_of(a) == dataset for key in a.keys.values()}
    found_entries = (entry for entry in entries(store, stage) if wanted is None or entry.key in wanted)
    objects = list(infos(store, islice(found_entries, limit or None)))
    click.echo(objects_table(store, objects))
    if more := sum(1 for _ in found_entries):
        click.echo(f"… {more} more; --limit 0 shows all", err=True)


@cache.command("du")
@click.pass_obj
def disk_usage(project: Path) -> None:
    """Bytes per stage, and how many of them nothing refers to."""
    store = open_store(project)
    found = summarise(store, workspace_artifacts(project))
    nothing = Usage(0, 0)
    rows = [
        (stage, u.objects, format_bytes(u.nbytes), format_bytes(found.unreferenced.get(stage, nothing).nbytes))
        for stage, u in found.stages.items()
    ]
    for name, usage in (("(temporary)", found.temporary), ("(quarantine)", found.quarantine)):
        if usage.objects:
            rows.append((name, usage.objects, format_bytes(usage.nbytes), format_bytes(usage.nbytes)))
    total = sum(u.nbytes for u in (*found.stages.values(), found.temporary, found.quarantine))
    rows.append(("total", sum(u.objects for u in found.stages.values()), format_bytes(total), ""))
    click.echo(format_table(("stage", "objects", "bytes", "unreferenced"), rows, right=(1, 2, 3)))
    click.echo(f"store: {store.root}", err=True)


@cache.command("show")
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="The whole description as JSON.")
@click.pass_obj
def show(project: Path, key: str, as_json: bool) -> None:
    """What the object KEY (a prefix is enough) was made of, and what it holds."""
    store = open_store(project)
    found = _one(find(store, key.lower()), key)
    text = store.describe(found.stage, found.key)
    if as_json:
        click.echo(json.dumps(text, indent=2, sort_keys=True))
        return
    click.echo(f"{found.stage} object {found.key}")
    click.echo(f"written {when(found.created)}, {format_bytes(found.nbytes)} in {found.files} files: {found.path}")
    for part in ("recipe", "environment", "attrs", "arrays"):
        click.echo(f"\n{part}")
        for name, value in flatten(text[part] or {"unknown": "written before records named it"}).items():
            click.echo(f"  {name}: {value}")


@cache.command("verify")
@click.option("--stage", help="Only this stage's objects.")
@click.option("--quarantine", is_flag=True, help="Move damaged objects away, so that their stage computes them again.")
@click.pass_obj
def verify(project: Path, stage: str | None, quarantine: bool) -> None:
    """Re-read every object and name each that is damaged (exit code 2 if there is one)."""
    _check_stage(stage)
    log = Reporter("verify")
    report = check_all(
        open_store(project), stage, lambda done, total: log.progress(done, total, "objects"), quarantine=quarantine
    )
    click.echo(f"{report.checked.objects} objects, {format_bytes(report.checked.nbytes)} read")
    for problem in report.problems:
        click.echo(str(problem))
    gaps = _gaps(project)
    for line in gaps:
        click.echo(line)
    if report.problems:
        moved = f"; {report.quarantined} moved to quarantine" if quarantine else "; --quarantine moves them away"
        again = " ".join(f"`dvc repro -f -s {name}`" for name in report.damaged_stages)
        click.echo(f"{len(report.problems)} problems{moved}; then compute them again: {again}", err=True)
    if report.problems or gaps:
        sys.exit(2)
    click.echo("all sound")


@cache.command("gc")
@click.option("--delete", is_flag=True, help="Really remove; without it nothing is touched.")
@click.option(
    "--workspace", is_flag=True, help="Keep only what the workspace's own results need, no other experiment's."
)
@click.option("--grace", type=Number(min=0), default=3600.0, help="Spare what was used in the last so many seconds.")
@click.pass_obj
def gc(project: Path, delete: bool, workspace: bool, grace: float) -> None:
    """Remove what no result refers to, and what killed runs left behind (a dry run unless --delete)."""
    report = collect(
        open_store(project),
        workspace_artifacts(project),
        dry_run=not delete,
        grace_s=grace,
        workspace_only=workspace,
    )
    swept = sweep(project, grace, dry_run=not delete)
    if swept is None:
        click.echo("a stage is running, or it cannot be told: what killed ones left beside outputs stays", err=True)
    report = replace(report, removals=(*report.removals, *(swept or ())))
    rows = [(kind, usage.objects, format_bytes(usage.nbytes)) for kind, usage in report.by_kind.items()]
    if rows:
        click.echo(format_table(("what", "number", "bytes"), rows, right=(1, 2)))
    done = "removed" if delete else "would be removed; --delete removes them"
    young = f", {report.young} spared for being recent" if report.young else ""
    click.echo(
        f"{len(report.removals)} entries, {format_bytes(report.nbytes)}, {done}; {report.referenced} kept{young}"
    )


def _which_results(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of push and pull."""
    everything = click.option("--all", "everything", is_flag=True, help="Every result, not only the workspace's own.")
    stages = click.option("--stage", "stages", multiple=True, help="Only this stage's results (repeatable).")
    return click.argument("url")(stages(everything(command)))


@cache.command("push")
@_which_results
@click.pass_obj
def push(project: Path, url: str, stages: tuple[str, ...], everything: bool) -> None:
    """Copy cached results to the store at URL (s3://bucket/folder, gs://..., a folder).

    What is there already is not copied again, so an interrupted push goes on where it was.
    """
    store, remote = open_store(project), Store(url)
    if isinstance(remote.root, Path):
        refuse_within(remote.root, untouchable(project), "give another folder, or a URL")
    own = _finished(store) if everything else workspace_artifacts(project)
    _copy("push", store, remote, _of_stages(own, stages))


@cache.command("pull")
@_which_results
@click.pass_obj
def pull(project: Path, url: str, stages: tuple[str, ...], everything: bool) -> None:
    """Copy the results that the workspace's artifact manifests name from the store at URL.

    After `git pull` and `dvc pull`, which bring the manifests, this brings what they name, and `dvc repro` has nothing
    to do.
    """
    remote = Store(url)
    if not remote.exists():
        raise StoreError(f"{url}: there is no store here; check the address")
    wanted = _finished(remote) if everything else workspace_artifacts(project)
    _copy("pull", remote, open_store(project), _of_stages(wanted, stages))


def _finished(store: Store) -> list[Artifact]:
    return [artifact for artifact in store.references().values() if not artifact.unfinished]


def _copy(name: str, source: Store, target: Store, artifacts: Sequence[Artifact]) -> None:
    log = Reporter(name)
    workers = 4 * usable_cores()  # they wait for the network and the disk, mostly
    done = copy(
        source, target, artifacts, workers, lambda n, of, nbytes: log.progress(n, of, "objects", format_bytes(nbytes))
    )
    click.echo(
        f"{done.copied} objects, {format_bytes(done.nbytes)}, copied from {source.root} to {target.root}; "
        f"{done.present} were there"
    )
    if done.problems:
        more = len(done.problems) - _SHOWN
        raise StoreError("\n".join(done.problems[:_SHOWN]) + (f"\nand {more} more objects" if more > 0 else ""))


def _of_stages(artifacts: Sequence[Artifact], stages: Sequence[str]) -> list[Artifact]:
    for stage in stages:
        _check_stage(stage)
    chosen = [artifact for artifact in artifacts if not stages or artifact.stage in stages]
    if not chosen:
        raise StoreError("there are no results to copy; `dvc pull` or `dvc repro` makes them")
    return chosen


def _gaps(project: Path) -> list[str]:
    """One line for each of the workspace's results, and saved ones, of which the store lacks objects."""
    store = open_store(project)

    def lacking(artifact: Artifact) -> int:
        return len(store.missing(artifact.stage, artifact.keys.values()))

    own = {artifact.stage: count for artifact in stage_artifacts(project) if (count := lacking(artifact))}
    saved = {path: count for path, lists in saved_results(project).items() if (count := sum(map(lacking, lists)))}
    there = "are not in the store; `rcnn cache pull` may have them"
    return [
        *(
            f"{stage}: {count} objects of the workspace's result {there}, `dvc repro -f -s {stage}` computes them"
            for stage, count in own.items()
        ),
        *(f"{path}: {count} objects of it {there}, else save or import it again" for path, count in saved.items()),
    ]


def _check_stage(stage: str | None) -> None:
    known = (*STAGES, IMPORTED)
    if stage is not None and stage not in known:
        raise click.UsageError(f"there is no stage {stage!r}{nearest(stage, known)}")


def _check_dataset(dataset: str | None, known: Collection[str]) -> None:
    if dataset is not None and dataset not in known:
        hint = nearest(dataset, sorted(known))
        there = ", ".join(sorted(known)) or "none"
        raise click.UsageError(f"no result is of dataset {dataset!r}{hint}; there are: {there}")


def _one(found: list[ObjectInfo], key: str) -> ObjectInfo:
    if not found:
        raise StoreError(f"no object's key begins with {key!r}; `rcnn cache ls STAGE` lists them")
    if len(found) > 1:
        some = ", ".join(f"{o.key[:12]} ({o.stage}, {o.image})" for o in found[:8])
        raise StoreError(f"{len(found)} objects' keys begin with {key!r}: {some}; give more digits")
    return found[0]
