"""Splits that nobody has annotated: to test on, for whoever keeps the annotations, or just to see what is found."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cache.text import nearest
from manifests.dataset import Dataset

from .findings import Findings, FoundImage
from .options import TRAIN_NAMES, ReadOptions


def take_unannotated(found: Sequence[FoundImage], options: ReadOptions, findings: Findings) -> list[FoundImage]:
    """Take the images of the splits ``options.unannotated`` as such; every other image stays as it is.

    The rule, for all formats: an image is annotated where it has an object, whatever files it has besides. None of such
    a split may be, unless ``options.ignore_annotations`` leaves what there is out; and no image may be in such a split
    and in another. What breaks it is fatal, with one line for each split.
    """
    splits = list(dict.fromkeys(split for image in found for split in image.splits))
    for name in options.unannotated:
        members = [image for image in found if name in image.splits]
        for line in _broken(name, members, splits, options):
            findings.fatal(line)
        if members:
            unread = sum(image.unread for image in members)
            left = f"; the annotations of {unread} of them are left out, unread" if unread else ""
            findings.note(f"split {name}: its {len(members)} images are taken as nobody's having annotated them{left}")
    return [_bare(image) if options.is_unannotated(image.splits) else image for image in found]


def _bare(image: FoundImage) -> FoundImage:
    return replace(image, objects=(), unreadable=0, annotated=False, masks=None)


def _broken(name: str, members: Sequence[FoundImage], splits: Sequence[str], options: ReadOptions) -> Iterator[str]:
    """Tell what is wrong with the images of one split that is said to have no annotations."""
    if not splits:
        yield (
            f"--unannotated {name}: the source has no splits, and drawn ones are annotated alike; put the pictures of "
            f"each split into a folder of its own, or into a list"
        )
    elif not members:
        yield (
            f"--unannotated {name}: the source has no such split{nearest(name, splits)}; it has: {', '.join(splits)}"
        )
    annotated = [image for image in members if image.objects or image.unreadable]
    if annotated:
        yield (
            f"split {name}: {len(annotated)} of its {len(members)} images are annotated (such as "
            f"{annotated[0].where}), though --unannotated names it; leave it out there, or these annotations by "
            "--ignore-annotations"
        )
    elsewhere = sorted({split for image in members for split in image.splits} - set(options.unannotated))
    if elsewhere:
        yield (
            f"split {name}: has images that are in {', '.join(elsewhere)}, too; name all such splits in --unannotated, "
            "or keep each image in one"
        )


def without_objects(dataset: Dataset, findings: Findings) -> None:
    """Refuse a split to train on in which no image has an object, and note any other."""
    for name in dataset.splits:
        images = [image for image in dataset.split(name) if image.annotated]
        if not images or any(len(image.boxes) for image in images):
            continue
        said = f"split {name}: none of its {len(images)} images has an object"
        if name.lower() in TRAIN_NAMES:
            findings.fatal(f"{said}, and without there is nothing to train on; add its annotations, or remove it")
        else:
            findings.note(f"{said}; if nobody has annotated them, say so by --unannotated {name}")
