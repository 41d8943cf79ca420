"""``dvc repro -s manifest``: registered dataset -> the manifest of this run.

Reads ``artifacts/datasets/<dataset>/manifest.json``, writes ``artifacts/manifest/manifest.json``: the images of two
splits, called "train" and "test" from here on. Re-reads every image file once to see that none changed (about 1 GB
for VOC 2007: seconds).
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from manifests import ImageSource, load_dataset, save_dataset
from stages.contract import Context, Stage
from stages.settings import Settings, distinct

_WARNED = 5  # pairs named one by one


class ManifestSettings(Settings):
    """Which images and classes are used."""

    train: Annotated[str, Field(min_length=1, description="split to train on, e.g. train or trainval")] = "train"
    test: Annotated[str, Field(min_length=1, description="split to test on")] = "test"
    classes: Annotated[
        Annotated[tuple[str, ...], AfterValidator(distinct)] | None,
        Field(min_length=1, description="classes to detect, in this order; null: all that the dataset has"),
    ] = None


def run(ctx: Context) -> None:
    """Choose splits and classes, check the files, and write the manifest."""
    from manifests.select import check_files, select, shared_pictures

    settings: ManifestSettings = ctx.settings("manifest")
    registered = ctx.input("registered")
    dataset = select(load_dataset(registered), settings.train, settings.test, settings.classes)
    # Where the images lie is no part of the result, so source.json beside the manifest is not a declared input.
    check_files(dataset.images, ImageSource.registered(registered.parent), ctx.workers)
    shared = shared_pictures(dataset.images)
    for train, test in shared[:_WARNED]:
        ctx.log.warning(f"{test} (test) is the same picture as {train} (train); its score says nothing")
    if len(shared) > _WARNED:
        ctx.log.warning(f"... and {len(shared) - _WARNED} more pictures are in train and in test")
    counts = {split: len(dataset.split(split)) for split in ("train", "test")}
    ctx.log.info(
        f"{dataset.name}: {counts['train']} train and {counts['test']} test images, {len(dataset.classes)} classes"
    )
    save_dataset(dataset, ctx.output("manifest"))


STAGE = Stage(
    name="manifest",
    version=1,
    settings={"manifest": ManifestSettings},
    groups=("manifest",),
    inputs={"registered": "artifacts/datasets/${dataset}/manifest.json"},
    outputs={"manifest": "artifacts/manifest/manifest.json"},
    run=run,
)
