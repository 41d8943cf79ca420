"""``rcnn detector``: the detectors of a project, side by side on one dataset."""

import json
import re
import shutil
from itertools import takewhile
from pathlib import Path

import click
import yaml

from cache import atomic_write
from cache.errors import ParamsError
from cache.text import format_table
from pipeline.detectors import Layout, check_new_name, detector_names, kind_named, layout_of
from pipeline.dvc_files import write_all
from pipeline.graph import nodes_of, regions_of
from pipeline.params import load_params, own_groups, read_kind
from pipeline.params_init.text import with_values
from stages.detections.saved import saved_names
from stages.graph import KINDS, OWN_PROPOSALS, ROOT, SAVED, Kind


@click.group()
def detector() -> None:
    """Add, list and remove detectors: each a folder detectors/NAME with its own params.yaml (docs/detectors.md)."""


@detector.command()
@click.argument("name")
@click.option("--kind", "kind_name", type=click.Choice(list(KINDS)), help="What it is.  [default: as --like]")
@click.option("--like", metavar="NAME", help="Detector whose parameters to begin with.  [default: one of this kind]")
@click.option("--of", "joined", metavar="NAME,NAME...", help="Of kind combined: the detectors that it joins.")
@click.pass_obj
def add(project: Path, name: str, kind_name: str | None, like: str | None, joined: str | None) -> None:
    """Make the detector NAME: detectors/NAME/params.yaml to edit, and the dvc.yaml that runs it."""
    check_new_name(project, name)
    if like is None and kind_name is None:
        raise click.UsageError("say what it is: --kind KIND, or --like NAME")
    model = None if like is None else layout_of(project, like)
    kind = kind_named(kind_name, "--kind") if kind_name else read_kind(model or Layout(project))
    if joined is not None and kind.detections is not None:
        raise click.UsageError(f"--of goes with --kind combined; a detector of kind {kind.name} joins no others")
    names = tuple(part.strip() for part in joined.split(",") if part.strip()) if joined else ()
    saved = saved_names(project / SAVED)
    for other in names:
        if other not in saved:
            layout_of(project, other)
    if len(names) == 1 and names[0] not in saved:
        raise click.UsageError("name at least two detectors that it joins, or detections that are saved: --of a,b")
    layout = Layout(project, name)
    text = _joining(project, names) if kind.detections is None and like is None else _params_text(project, kind, model)
    layout.folder.mkdir(parents=True)
    try:
        atomic_write(layout.params_file, text.encode())
        nodes_of(layout, load_params(layout))
        write_all(project)
    except BaseException:
        shutil.rmtree(layout.folder)
        raise
    click.echo(
        f"{layout.params_file}: {kind.meaning}. Edit it, then `dvc repro {layout.dvc_file.as_posix()}`; "
        f"`rcnn -d {name} metrics` prints its scores"
    )


@detector.command("ls")
@click.pass_obj
def list_detectors(project: Path) -> None:
    """The detectors there are: kind, dataset-wide scores of the last evaluation, and what each is."""
    rows = []
    for name in detector_names(project):
        layout = Layout(project, name)
        kind = read_kind(layout)
        rows.append((name, kind.name, _score(layout), kind.meaning))
    click.echo(format_table(("name", "kind", "mAP (VOC 2010)", "what it is"), rows, right=(2,)))


@detector.command()
@click.argument("name")
@click.option("--delete", is_flag=True, help="Really remove; without it, only say what would be removed.")
@click.pass_obj
def remove(project: Path, name: str, delete: bool) -> None:
    """Remove the detector NAME: its parameters, its small files in artifacts/ and its report.

    Its cached objects stay until `rcnn cache gc`.
    """
    if name == ROOT:
        raise ParamsError(f"{ROOT} is the project's own detector (params.yaml, dvc.yaml) and cannot be removed")
    layout = layout_of(project, name)
    for other in detector_names(project):
        if other != name and name in _joined_by(Layout(project, other)):
            raise ParamsError(f"{name}: is joined by the detector {other}; remove that one first, or edit its combine")
        if other != name and name in _proposed_by(Layout(project, other)):
            raise ParamsError(f"{name}: the detector {other} takes its proposals; edit the regions of that one first")
    folders = [folder for folder in (layout.folder, layout.artifacts, layout.reports) if folder.exists()]
    for folder in folders:
        if delete:
            shutil.rmtree(folder)
        click.echo(f"{'removed' if delete else 'would remove'} {folder}")
    if delete:
        write_all(project)
    else:
        click.echo("Nothing was removed; --delete removes them.")


@detector.command()
@click.pass_obj
def write(project: Path) -> None:
    """Write every dvc.yaml anew, after combine.detectors, a detector's regions or the program's stages have changed."""
    written = write_all(project)
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo("every dvc.yaml is as it should be")


def _joined_by(layout: Layout) -> tuple[str, ...]:
    try:
        nodes = nodes_of(layout, load_params(layout))
    except ParamsError:
        return ()
    return tuple(name.removeprefix("detector.") for name in nodes["combine"].inputs if name.startswith("detector."))


def _proposed_by(layout: Layout) -> set[str]:
    """Name the other detectors whose proposals this one takes."""
    try:
        regions = regions_of(layout, load_params(layout))
    except ParamsError:
        return set()
    sources = [] if regions is None else [source for _, source in regions]
    return {source.partition("/")[0] for source in sources if source != OWN_PROPOSALS}


def _score(layout: Layout) -> str:
    try:
        found = json.loads((layout.reports / "metrics.json").read_text(encoding="utf-8"))
        return f"{100 * found['voc2010']['mAP']:.1f}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "-"


def _params_text(project: Path, kind: Kind, model: Layout | None) -> str:
    """Return a new detector's params.yaml: the groups of ``model``, of one of this kind, or the defaults."""
    if model is None:
        candidates = (Layout(project, name) for name in detector_names(project))
        model = next((one for one in candidates if read_kind(one).name == kind.name), None)
    head = f"# {kind.meaning}. What all detectors share stands in the project's own params.yaml.\n\nkind: {kind.name}\n"
    wanted = own_groups(kind)
    blocks = {} if model is None else _blocks(model.params_file.read_text(encoding="utf-8"))
    parts = []
    for group, settings in wanted.items():
        default = yaml.safe_dump({group: settings().model_dump(mode="json")}, sort_keys=False, default_flow_style=None)
        parts.append(blocks.get(group, default).strip("\n"))
    return head + "\n" + "\n\n".join(parts) + "\n"


def _joining(project: Path, names: tuple[str, ...]) -> str:
    """Return the params.yaml of a detector that joins others."""
    if not names:
        raise click.UsageError("name the detectors that it joins: --of rcnn,sppnet")
    text = _params_text(project, KINDS["combined"], Layout(project))
    document = yaml.safe_load(text)
    document["combine"]["detectors"] = list(names)
    if len(names) == 1:
        document["combine"]["nms_iou"] = 1  # its windows as they are: no two overlap by more
    head = "".join(takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
    return with_values(text, head, document, {})


def _blocks(text: str) -> dict[str, str]:
    """Split a params.yaml into the texts of its top-level keys, each with the comments on its lines and within."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if found := re.match(r"([A-Za-z_][\w]*):", line):
            lines = blocks.setdefault(found[1], [])
        if not line.startswith("#"):
            lines.append(line)
    return {name: "\n".join(found) for name, found in blocks.items()}
