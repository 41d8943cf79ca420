"""``dvc repro -s manifest``: registered dataset -> the manifest of this run.

Reads ``artifacts/datasets/<dataset>/manifest.json``, writes ``artifacts/manifest/manifest.json``: the images of two
splits, called "train" and "test" from here on; where ``manifest.train`` lists several, each image is also in a split
"train/NAME" for each of these that has it. Re-reads every file of images and masks once to see that none changed (about
1 GB for VOC 2007: seconds).
"""

from collections.abc import Iterator
from pathlib import Path

from cache.text import counted
from manifests import Dataset, DatasetError, ImageRecord, ImageSource, load_dataset, save_dataset
from manifests.drop_list import read_drop_list
from manifests.limit import limited
from manifests.select import DUPLICATES, check_files, select, shared_pictures
from stages.contract import Context

from .settings import ManifestSettings

_WARNED = 5  # pairs named one by one


def run(ctx: Context) -> None:
    """Choose splits and classes, check the files, and write the manifest."""
    settings = ctx.settings(ManifestSettings)
    registered = ctx.input("registered")
    whole = load_dataset(registered)
    drop = settings.drop_duplicates
    listed = [] if drop is None else _listed(Path(drop), whole)
    dataset = select(whole, settings.train, settings.test, settings.classes, listed)
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
    if listed:
        ctx.log.info(_left_out(dataset, listed))
    for warned, line in _in_part(dataset):
        (ctx.log.warning if warned else ctx.log.info)(line)
    save_dataset(dataset, ctx.output("manifest"))


def _listed(path: Path, dataset: Dataset) -> list[ImageRecord]:
    """Read the list of duplicates; an error names the parameter as well."""
    try:
        return read_drop_list(path, dataset)
    except DatasetError as error:
        raise DatasetError([f"manifest.drop_duplicates: {line}" for line in error.problems]) from None


def _left_out(dataset: Dataset, listed: list[ImageRecord]) -> str:
    """Say what became of the images that are listed as duplicates."""
    marked = sum(DUPLICATES in image.splits for image in dataset.images)
    return (
        f"{counted(len(listed), 'duplicate')} listed: {counted(marked, 'test image')} searched but left out of the "
        f"scores, {len(listed) - marked} left out of the run"
    )


def _in_part(dataset: Dataset) -> Iterator[tuple[bool, str]]:
    """Tell of images that are annotated in part; each line with whether it is a warning."""
    partial = {split: [one for one in dataset.split(split) if not one.exhaustive] for split in ("train", "test")}
    if partial["train"]:
        objects = sum(len(one.labels) for one in partial["train"])
        yield (
            False,
            (
                f"{len(partial['train'])} train images are annotated in part: their {objects} objects are positives, "
                "nothing else of them is used"
            ),
        )
    if partial["test"]:
        yield (
            True,
            (
                f"{len(partial['test'])} of {len(dataset.split('test'))} test images are annotated in part: what is "
                "found of their other objects counts as wrong"
            ),
        )
