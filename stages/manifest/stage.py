"""``dvc repro -s manifest``: registered dataset -> the manifest of this run.

Reads ``artifacts/datasets/<dataset>/manifest.json``, writes ``artifacts/manifest/manifest.json``: the images of two
splits, called "train" and "test" from here on; where ``manifest.train`` lists several, each image is also in a split
"train/NAME" for each of these that has it. Re-reads every image file once to see that none changed (about 1 GB for VOC
2007: seconds).
"""

from cache.text import counted
from manifests import ImageSource, load_dataset, save_dataset
from manifests.limit import limited
from manifests.select import check_files, select, shared_pictures
from stages.contract import Context

from .settings import ManifestSettings

_WARNED = 5  # pairs named one by one


def run(ctx: Context) -> None:
    """Choose splits and classes, check the files, and write the manifest."""
    settings = ctx.settings(ManifestSettings)
    registered = ctx.input("registered")
    dataset = select(load_dataset(registered), settings.train, settings.test, settings.classes)
    if settings.train_limit is not None:
        dataset = limited(dataset, "train", settings.train_limit, settings.train_limit_of)
    # Where the images lie is no part of the result, so source.json beside the manifest is not a declared input.
    check_files(dataset.images, ImageSource.registered(registered.parent), ctx.workers)
    shared = shared_pictures(dataset.images)
    for train, test in shared[:_WARNED]:
        ctx.log.warning(f"{test} (test) is the same picture as {train} (train); its score says nothing")
    if len(shared) > _WARNED:
        ctx.log.warning(f"... and {len(shared) - _WARNED} more pictures are in train and in test")
    counts = {split: len(dataset.split(split)) for split in ("train", "test")}
    ctx.log.info(
        f"{dataset.name}: {counts['train']} train and {counts['test']} test images, "
        f"{counted(len(dataset.classes), 'class', 'classes')}"
    )
    partial = {split: [one for one in dataset.split(split) if not one.exhaustive] for split in ("train", "test")}
    if partial["train"]:
        ctx.log.info(
            f"{len(partial['train'])} train images are annotated in part: their "
            f"{sum(len(one.labels) for one in partial['train'])} objects are positives, nothing else of them is used"
        )
    if partial["test"]:
        ctx.log.warning(
            f"{len(partial['test'])} of {counts['test']} test images are annotated in part: what is found of their "
            "other objects counts as wrong"
        )
    save_dataset(dataset, ctx.output("manifest"))
