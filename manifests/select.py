"""Which images and classes of a registered dataset a run uses."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from cache.errors import StageError
from cache.text import nearest
from manifests import Dataset, DatasetError, ImageRecord, ImageSource
from manifests.limit import with_objects

TRAIN, TEST = "train", "test"
# The part of a run's test split that manifest.drop_duplicates lists: searched as all of it, and left out of its scores.
DUPLICATES = f"{TEST}/duplicates"


def select(
    dataset: Dataset,
    train: str | Sequence[str],
    test: str,
    classes: Sequence[str] | None,
    duplicates: Collection[ImageRecord] = (),
) -> Dataset:
    """Choose the images of ``train`` and ``test``, which become splits "train" and "test", in the dataset's order.

    Args:
        dataset: a registered one.
        train: the split to train on; or a list of splits, whose images are taken together and are each in a split
            "train/NAME", too, for every NAME of the list that has them (:func:`training_images`).
        test: the split to test on.
        classes: keep only objects of these, in this order (images are kept even if none is left in them: they give
            negatives), or pictures of these, where a picture has one class; None keeps all. Category ids stay.
        duplicates: images that are left out: of train altogether; of test they are in a split :data:`DUPLICATES`, too,
            since the run's scores are told with them and without.

    Raises:
        StageError: one line per problem: a split or class that does not exist, an image in both splits, a ``train``
            that nobody has annotated, a class without an object in it, a split of which ``duplicates`` leave nothing.
    """
    chosen = dataset if classes is None else _with_classes(dataset, classes)
    named = _names(train)
    problems = [
        _no_split(dataset, key, split)
        for key, splits in ((TRAIN, named), (TEST, (test,)))
        for split in splits
        if split not in dataset.splits
    ]
    if problems:
        raise StageError("\n".join(problems))
    bare = [name for name in named if any(not image.annotated for image in dataset.split(name))]
    if bare:
        raise StageError(
            f"manifest.train: split {bare[0]!r} of dataset {dataset.name} was imported as one that nobody has "
            "annotated (--unannotated), so that nothing can be learnt from it; name another"
        )
    both = [image.file_name for image in chosen.images if set(named) & set(image.splits) and test in image.splits]
    if both:
        raise StageError(
            f"manifest.train {_quoted(named)} and manifest.test {test!r} share {len(both)} images (such as {both[0]}); "
            "name two splits without a common image"
        )
    images = tuple(_reduced(image, named, not isinstance(train, str), test) for image in chosen.images)
    result = replace(chosen, images=tuple(image for image in images if image is not None))
    if duplicates:
        result = _without(result, {image.id for image in duplicates})
    _require_positives(result, _quoted(named))
    return result


def _reduced(image: ImageRecord, train: Sequence[str], is_list: bool, test: str) -> ImageRecord | None:
    """Put an image into the run's split, and into the parts of it where these were listed; None: it is in neither."""
    if test in image.splits:
        return replace(image, split=TEST, splits=(TEST,))
    parts = [_part(name) for name in train if name in image.splits]
    if not parts:
        return None
    return replace(image, split=TRAIN, splits=(TRAIN, *parts) if is_list else (TRAIN,))


def _without(dataset: Dataset, duplicates: Collection[int]) -> Dataset:
    """Leave the duplicates out of a run's train split, and mark those of its test split; by their ids.

    Of a dataset without boxes both go: its pictures are scored by view and layer, once.
    """
    images = tuple(
        replace(image, splits=(*image.splits, DUPLICATES)) if image.id in duplicates else image
        for image in dataset.images
        if (image.split == TEST and dataset.has_boxes) or image.id not in duplicates
    )
    for split in (TRAIN, TEST):
        if not any(image.split == split and DUPLICATES not in image.splits for image in images):
            raise StageError(
                f"manifest.drop_duplicates: the file lists every image of {split}, so that nothing is left of it; "
                "list of each pair only the one to leave out"
            )
    return replace(dataset, images=images)


def without_duplicates(images: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Return those of a run's images that no duplicates' list leaves out: on which its scores are taken."""
    return [image for image in images if DUPLICATES not in image.splits]


def training_images(dataset: Dataset, named: str | Sequence[str] | None) -> list[ImageRecord]:
    """Return the images that a task trains on: of a run's dataset, those from the splits ``named``, None: all of train.

    DatasetError where one of them is none of those that ``manifest.train`` listed.
    """
    images = dataset.split(TRAIN)
    if named is None:
        return images
    wanted = {image.id for name in _names(named) for image in dataset.split(_part(name))}
    return [image for image in images if image.id in wanted]


def is_searched(image: ImageRecord) -> bool:
    """Tell whether regions of an image of a run's dataset are proposed: of one to train on whose objects are annotated
    in part they would be neither positives nor negatives, and its objects alone are used.
    """
    return image.exhaustive or TRAIN not in image.splits


def require_exhaustive(
    images: Sequence[ImageRecord], stage: str, other: str = ", or by a detector of kind rcnn or sppnet"
) -> None:
    """Raise StageError where not all objects of the training images are annotated, and ``stage`` needs that.

    ``other`` says what else would do.
    """
    partial = [image for image in images if not image.exhaustive]
    if partial:
        raise StageError(
            f"{stage}: {len(partial)} of {len(images)} training images are annotated in part (exhaustive: false; such "
            f"as {partial[0].file_name}), and it would learn from their other objects that these are background; train "
            f"on other splits by manifest.train{other}"
        )


def unlisted(named: str | Sequence[str] | None, train: str | Sequence[str], parameter: str) -> Iterator[str]:
    """Tell of each split that a task names in ``parameter`` and that is not listed in ``manifest.train``."""
    if named is None:
        return
    if isinstance(train, str):
        yield (
            f"{parameter} = {_shown(named)}: manifest.train is the one split {train!r}, and all of it is trained on; "
            f"list the splits to choose from there, such as manifest.train: [train, val], or set {parameter} to null"
        )
        return
    for name in _names(named):
        if name not in train:
            yield (
                f"{parameter}: {name!r} is none of the splits that manifest.train lists ({', '.join(train)})"
                f"{nearest(name, train)}; name some of these, add it there, or set {parameter} to null for all"
            )


def _names(splits: str | Sequence[str]) -> tuple[str, ...]:
    return (splits,) if isinstance(splits, str) else tuple(splits)


def _part(name: str) -> str:
    """Name the part of a run's train split that comes from the dataset's split ``name``."""
    return f"{TRAIN}/{name}"


def _quoted(names: Sequence[str]) -> str:
    return " + ".join(map(repr, names))


def _shown(splits: str | Sequence[str]) -> str:
    return splits if isinstance(splits, str) else f"[{', '.join(splits)}]"


def _no_split(dataset: Dataset, key: str, split: str) -> str:
    there_are = ", ".join(f"{name} ({len(dataset.split(name))} images)" for name in dataset.splits)
    there_are = there_are or "none, it has no images"
    return f"manifest.{key}: dataset {dataset.name} has no split {split!r}; set it to one of: {there_are}"


def _with_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    unknown = [label for label in classes if label not in dataset.classes]
    if unknown:
        raise StageError("\n".join(f"manifest.classes: {no_class(dataset, label)}" for label in unknown))
    old = [dataset.classes.index(label) for label in classes]
    new_label = np.full(len(dataset.classes), -1)
    new_label[old] = np.arange(len(old))
    if dataset.has_boxes:
        images = tuple(_relabelled(image, new_label) for image in dataset.images)
    else:  # without its class a picture teaches nothing
        shown = [(image, int(new_label[image.category])) for image in dataset.images]
        images = tuple(replace(image, category=label) for image, label in shown if label >= 0)
    return replace(
        dataset, classes=tuple(classes), category_ids=tuple(dataset.category_ids[i] for i in old), images=images
    )


def no_class(dataset: Dataset, label: str) -> str:
    """Tell that a dataset has no such class, and which it may be."""
    hint = nearest(label, dataset.classes) or f"; it has: {', '.join(dataset.classes)}"
    return f"dataset {dataset.name} has no class {label!r}{hint}"


def _relabelled(image: ImageRecord, new_label: np.ndarray) -> ImageRecord:
    """The image with its objects' new labels, by their old ones, without those of label -1."""
    labels = new_label[image.labels]
    unscored = tuple(int(new_label[one]) for one in image.unscored if new_label[one] >= 0)
    return with_objects(replace(image, labels=labels, unscored=unscored), labels >= 0)


def _require_positives(dataset: Dataset, train: str) -> None:
    """A class is learnt from single objects of ``train``, COCO's crowd regions are none; or from whole pictures."""
    counts = {split: np.zeros(len(dataset.classes), int) for split in (TRAIN, TEST)}
    for image in dataset.images:
        shown = image.labels[~image.crowd] if image.category is None else [image.category]
        np.add.at(counts[image.split], shown, 1)
    what = "object" if dataset.has_boxes else "picture"
    lacking = [
        f"class {label!r} has no {what} in split {train} ({counts[TEST][i]} in test); "
        "leave it out by manifest.classes (`rcnn params init --min-objects 1` does), or move images of it there"
        for i, label in enumerate(dataset.classes)
        if counts[TRAIN][i] == 0
    ]
    if lacking:
        raise StageError("\n".join(lacking))


def shared_pictures(images: Iterable[ImageRecord]) -> list[tuple[str, str]]:
    """Pairs (train file, test file) that are the same picture to the byte; detections on them say nothing.

    Those that are left out of the scores are no matter.
    """
    by_digest: dict[str, dict[str, str]] = defaultdict(dict)
    for image in images:
        if DUPLICATES in image.splits:
            continue
        by_digest[image.sha256].setdefault(image.split, image.file_name)
    return sorted((names[TRAIN], names[TEST]) for names in by_digest.values() if len(names) == 2)


def check_files(images: Sequence[ImageRecord], source: ImageSource, workers: int) -> None:
    """Check that every file, of images and masks, is there and unchanged; DatasetError with a line for each other."""

    def check(image: ImageRecord) -> list[str]:
        try:
            source.read_bytes(image)
            for file in () if image.masks is None else image.masks.files:
                source.mask_bytes(*file)
        except DatasetError as error:
            return error.problems
        return []

    with ThreadPoolExecutor(max(1, workers)) as pool:
        problems = list(dict.fromkeys(line for lines in pool.map(check, images) for line in lines))
    if problems:
        raise DatasetError(problems)
