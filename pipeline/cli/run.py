"""``rcnn run``."""

import os
from pathlib import Path

import click

from cache.errors import ParamsError
from pipeline.detectors import Layout
from pipeline.dvc_files import check_written
from pipeline.graph import node_named, nodes_of
from pipeline.leftovers import running
from pipeline.params import load_params
from pipeline.run import run_node
from pipeline.workspace import current_layout


@click.command()
@click.argument("stages", nargs=-1, required=True, metavar="STAGE...")
@click.option(
    "--stage-version",
    type=int,
    help="The version that dvc.yaml was written for; written there, so that a new version of a stage runs again.",
)
@click.pass_obj
def run(project: Path, stages: tuple[str, ...], stage_version: int | None) -> None:
    """Run each STAGE with the parameters of params.yaml, whatever is fresh.

    Cached objects are reused, so this too computes only what is missing. Stages of R-CNN, in the order in which they
    run: scenes (the built-in dataset), manifest, proposals, pretrain, finetune, features, svm, bbox, detect, combine,
    evaluate, report; of classification/dvc.yaml: classify, classify_svm; of segmentation/dvc.yaml: region_overlaps,
    region_features, svr, paste, segment_evaluate; of analysis/dvc.yaml: diagnose, which every detector has. `rcnn -d
    NAME run STAGE` runs those of detector NAME. `dvc repro` runs what has changed, in order; use it unless you want one
    stage by hand.
    """
    name = current_layout(project).name
    os.chdir(project)  # paths in params.yaml are relative to the project
    layout = Layout(Path(), name)
    params = load_params(layout)
    nodes = nodes_of(layout, params)
    for stage in stages:
        version = node_named(stage, nodes).version
        if stage_version is not None and stage_version != version:
            raise ParamsError(
                f"{layout.dvc_file}: was written for version {stage_version} of {stage}, which is {version} here; "
                "run `rcnn detector write`"
            )
    if stage_version is not None:
        check_written(layout, params)
    with running(layout.project):
        for stage in sorted(stages, key=list(nodes).index):
            run_node(stage, layout, params)
