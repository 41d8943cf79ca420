"""Which images and classes of a registered dataset a run uses."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from cache.errors import StageError
from cache.text import nearest
from manifests import Dataset, DatasetError, ImageRecord, ImageSource

TRAIN, TEST = "train", "test"


def select(dataset: Dataset, train: str, test: str, classes: Sequence[str] | None) -> Dataset:
    """The images of splits ``train`` and ``test``, renamed to exactly "train" and "test", in the dataset's order.

    ``classes``: keep only objects of these, in this order (images are kept even if none is left in them: they give
    negatives), or pictures of these, where a picture has one class; None keeps all. Category ids stay. StageError, one
    line per problem: a split or class that does not exist, an image in both splits, a class without an object in
    ``train``.
    """
    chosen = dataset if classes is None else _with_classes(dataset, classes)
    problems = [
        _no_split(dataset, key, split) for key, split in ((TRAIN, train), (TEST, test)) if split not in dataset.splits
    ]
    if problems:
        raise StageError("\n".join(problems))
    both = [image.file_name for image in chosen.images if train in image.splits and test in image.splits]
    if both:
        raise StageError(
            f"manifest.train {train!r} and manifest.test {test!r} share {len(both)} images (such as {both[0]}); "
            "name two splits without a common image"
        )
    images = tuple(
        replace(image, split=name, splits=(name,))
        for image in chosen.images
        for name, split in ((TRAIN, train), (TEST, test))
        if split in image.splits
    )
    result = replace(chosen, images=images)
    _require_positives(result, train)
    return result


def _no_split(dataset: Dataset, key: str, split: str) -> str:
    there_are = ", ".join(f"{name} ({len(dataset.split(name))} images)" for name in dataset.splits)
    there_are = there_are or "none, it has no images"
    return f"manifest.{key}: dataset {dataset.name} has no split {split!r}; set it to one of: {there_are}"


def _with_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    unknown = [label for label in classes if label not in dataset.classes]
    if unknown:
        raise StageError("\n".join(_no_class(dataset, label) for label in unknown))
    old = [dataset.classes.index(label) for label in classes]
    new_label = np.full(len(dataset.classes), -1)
    new_label[old] = np.arange(len(old))
    if dataset.has_boxes:
        images = tuple(_relabelled(image, new_label[image.labels]) for image in dataset.images)
    else:  # without its class a picture teaches nothing
        shown = [(image, int(new_label[image.category])) for image in dataset.images]
        images = tuple(replace(image, category=label) for image, label in shown if label >= 0)
    return replace(
        dataset, classes=tuple(classes), category_ids=tuple(dataset.category_ids[i] for i in old), images=images
    )


def _no_class(dataset: Dataset, label: str) -> str:
    hint = nearest(label, dataset.classes) or f"; it has: {', '.join(dataset.classes)}"
    return f"manifest.classes: dataset {dataset.name} has no class {label!r}{hint}"


def _relabelled(image: ImageRecord, labels: np.ndarray) -> ImageRecord:
    """The image with its objects' new labels, without those of label -1."""
    keep = labels >= 0
    return replace(
        image,
        boxes=image.boxes[keep],
        labels=labels[keep],
        difficult=image.difficult[keep],
        truncated=image.truncated[keep],
        crowd=image.crowd[keep],
        details=tuple(detail for detail, kept in zip(image.details, keep, strict=True) if kept),
    )


def _require_positives(dataset: Dataset, train: str) -> None:
    """A class is learnt from single objects of ``train``, COCO's crowd regions are none; or from whole pictures."""
    counts = {split: np.zeros(len(dataset.classes), int) for split in (TRAIN, TEST)}
    for image in dataset.images:
        shown = image.labels[~image.crowd] if image.category is None else [image.category]
        np.add.at(counts[image.split], shown, 1)
    what = "object" if dataset.has_boxes else "picture"
    lacking = [
        f"class {label!r} has no {what} in split {train!r} ({counts[TEST][i]} in test); "
        "leave it out by manifest.classes, or move images of it there"
        for i, label in enumerate(dataset.classes)
        if counts[TRAIN][i] == 0
    ]
    if lacking:
        raise StageError("\n".join(lacking))


def shared_pictures(images: Iterable[ImageRecord]) -> list[tuple[str, str]]:
    """Pairs (train file, test file) that are the same picture to the byte; detections on them say nothing."""
    by_digest: dict[str, dict[str, str]] = defaultdict(dict)
    for image in images:
        by_digest[image.sha256].setdefault(image.split, image.file_name)
    return sorted((names[TRAIN], names[TEST]) for names in by_digest.values() if len(names) == 2)


def check_files(images: Sequence[ImageRecord], source: ImageSource, workers: int) -> None:
    """Check that every file is there and unchanged; DatasetError with a line for each that is not."""

    def check(image: ImageRecord) -> list[str]:
        try:
            source.read_bytes(image)
        except DatasetError as error:
            return error.problems
        return []

    with ThreadPoolExecutor(max(1, workers)) as pool:
        problems = list(dict.fromkeys(line for lines in pool.map(check, images) for line in lines))
    if problems:
        raise DatasetError(problems)
