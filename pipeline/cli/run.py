"""``rcnn run``."""

import os
from pathlib import Path

import click

from pipeline.graph import ALL_STAGE_NAMES, load_stage
from pipeline.leftovers import running
from pipeline.params import load_params
from pipeline.run import run_stage


@click.command()
@click.argument("stages", nargs=-1, required=True, metavar="STAGE...")
@click.pass_obj
def run(project: Path, stages: tuple[str, ...]) -> None:
    """Run each STAGE with the parameters of params.yaml, whatever is fresh.

    Cached objects are reused, so this too computes only what is missing. Stages, in the order in which they run: scenes
    (the built-in dataset), manifest, proposals, pretrain, finetune, features, svm, bbox, detect, combine, evaluate,
    report; and of classification/dvc.yaml: classify, classify_svm.
    `dvc repro` runs what has changed, in order; use it unless you want one stage by hand.
    """
    for name in stages:
        load_stage(name)
    os.chdir(project)  # paths in params.yaml are relative to the project
    project = Path()
    params = load_params(project / "params.yaml")
    with running(project):
        for name in sorted(stages, key=ALL_STAGE_NAMES.index):
            run_stage(name, project, params)
