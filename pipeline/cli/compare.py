"""``rcnn compare``."""

import os
from pathlib import Path

import click

from cache.errors import ParamsError
from pipeline.detectors import Layout, detector_names, layout_of
from pipeline.graph import comparing, final_detections
from pipeline.leftovers import running
from pipeline.params import load_params
from pipeline.run import run_placed


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.pass_obj
def compare(project: Path, names: tuple[str, ...]) -> None:
    """Compare detectors by their last results: reports/comparison/index.html and comparison.json.

    NAME: folders of detectors/, or rcnn for the root's; the others are compared to the first. Without names all that
    have results. `dvc repro comparison/dvc.yaml` makes what is missing of all, and then the same page.
    """
    os.chdir(project)
    layout = Layout(Path())
    if len(set(names)) < len(names):
        raise click.UsageError("a detector is named twice; name each once")
    for name in names:
        layout_of(layout.project, name)
    there = [name for name in names or detector_names(layout.project) if Path(final_detections(name)).exists()]
    lacking = [name for name in names if name not in there]
    if lacking:
        files = [Layout(layout.project, name).dvc_file.as_posix() for name in lacking]
        raise ParamsError(f"{', '.join(lacking)}: no results yet; run `dvc repro {' '.join(files)}`")
    if not there:
        raise ParamsError("no detector has results yet; run `dvc repro`")
    with running(layout.project):
        run_placed(comparing(there), layout, load_params(layout))
    click.echo("reports/comparison/index.html")
