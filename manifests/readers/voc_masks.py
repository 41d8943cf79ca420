"""VOC's masks, ``SegmentationClass/`` and ``SegmentationObject/``, given to the images that a reader found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from cache.errors import DatasetError
from manifests.dataset import MaskSource
from manifests.files import exists
from manifests.listing import inner_folder
from manifests.masks.examine import Examined, Part, examine_all

from .findings import Findings, FoundImage, FoundObject
from .mask_checks import examined_or_left_out, foreign_values, note_by_colour

CLASSES = "SegmentationClass"
OBJECTS = "SegmentationObject"
# In the order of VOC's colormap: the first is value 1.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def add_voc_masks(
    root: Path, found: Sequence[FoundImage], classes: Sequence[str] | None, findings: Findings
) -> tuple[list[FoundImage], dict[str, int]]:
    """Give each annotated image its masks, object n of a map being the n-th ``<object>``.

    Args:
        root: the folder with ``SegmentationClass/`` and, maybe, ``SegmentationObject/``.
        found: the images; an object's ``details["mask"]`` is its place in its XML, from 1.
        classes: the first is value 1 of the class maps. None: VOC's own where no object is of another class, else
            those found, sorted by name.
        findings: gets what is wrong; an image whose masks cannot be used is left out.

    Returns:
        The images to take, and the classes' category ids, which are their values in the class maps.
    """
    folders = [inner_folder(root, name) for name in (CLASSES, OBJECTS)]
    if folders[0] is None:
        findings.fatal(f"{root}: has no {CLASSES}/; add the masks, or import without --segmentation")
        return list(found), {}
    if folders[1] is None:
        findings.note(f"there is no {OBJECTS}/, so that all that one class has in an image is one object")
    place = (folders[0].name, None if folders[1] is None else folders[1].name)
    annotated = [image for image in found if image.annotated]
    usable = {image.file_name: source for image in annotated if (source := _source(root, image, place, findings))}
    examined = dict(zip(usable, examine_all(root, list(usable.values())), strict=True))
    note_by_colour(examined.values(), findings)
    categories = _categories(annotated, examined.values(), classes, findings)
    by_voc = classes is None and categories.keys() <= set(VOC_CLASSES)  # a class of VOC's has a name, used or not
    values = range(len(VOC_CLASSES) + 1) if by_voc else range(1)
    with_masks = [
        taken
        for image in found
        if (taken := _with_masks(image, examined.get(image.file_name), categories, values, findings)) is not None
    ]
    return with_masks, categories


def _source(root: Path, image: FoundImage, place: tuple[str, str | None], findings: Findings) -> MaskSource | None:
    """An image's maps, by its name; None where one is missing, which is a problem."""
    name = PurePosixPath(image.file_name).with_suffix(".png").as_posix()
    files = [f"{folder}/{name}" for folder in place if folder is not None]
    missing = [file for file in files if not exists(root / file)]
    for file in missing:
        findings.problem(
            f"{file}: there is no such file, but {image.file_name} is in the dataset; add the mask or take the image "
            "out of its lists",
            "no such mask",
        )
    if missing:
        return None
    return MaskSource("voc" if len(files) == 2 else "class_map", files[0], object_map=files[1] if files[1:] else "")


def _categories(
    found: Sequence[FoundImage],
    examined: Iterable[Examined | DatasetError],
    classes: Sequence[str] | None,
    findings: Findings,
) -> dict[str, int]:
    if classes is not None:
        return {label: i for i, label in enumerate(classes, start=1)}
    labels = {item.label for image in found for item in image.objects}
    if not labels <= set(VOC_CLASSES):
        shown = ", ".join(f"{i} {label}" for i, label in enumerate(sorted(labels)[:8], start=1))
        findings.note(
            f"the class maps' values are taken as the classes sorted by name ({shown}); give --classes in the order of "
            "the values if they are others"
        )
        return {label: i for i, label in enumerate(sorted(labels), start=1)}
    drawn = {part.category_id for one in examined if isinstance(one, Examined) for part in one.parts}
    return {label: i for i, label in enumerate(VOC_CLASSES, start=1) if label in labels or i in drawn}


def _with_masks(
    image: FoundImage,
    examined: Examined | DatasetError | None,
    categories: Mapping[str, int],
    values: Iterable[int],
    findings: Findings,
) -> FoundImage | None:
    """The image with its masks, and with each object's number where the maps have it; None: it cannot be used.

    ``values`` are known besides those of ``categories``.
    """
    if not image.annotated:
        return image
    examined = examined_or_left_out(examined, image.file_name, findings)
    if examined is None:
        return None
    if line := foreign_values(examined, categories, values):
        findings.problem(line)
        return None
    if examined.masks.kind == "class_map":
        bare = [replace(item, details=without_mask(item)) for item in image.objects]
        return replace(image, objects=bare, masks=examined.masks, mask_size=examined.size)
    parts = {part.number: part for part in examined.parts if part.numbered}
    objects = [_numbered(image, item, parts, categories, findings) for item in image.objects]
    if lone := len(parts.keys() - {item.details.get("mask") for item in objects}):
        findings.note(f"{examined.masks.object_map}: {lone} of its objects have no <object> of their class", "lone")
    return replace(image, objects=objects, masks=examined.masks, mask_size=examined.size)


def _numbered(
    image: FoundImage,
    item: FoundObject,
    parts: Mapping[int, Part],
    categories: Mapping[str, int],
    findings: Findings,
) -> FoundObject:
    """The object with its number in the object map, or without where the map has no such object of its class."""
    part = parts.get(item.details["mask"])
    if part is not None and part.category_id == categories.get(item.label):
        return item
    if part is None:
        findings.note(f"{image.where}: {item.where}: has no pixel in {OBJECTS}", f"no pixel in {OBJECTS}")
    elif item.label in categories:
        other = {category: label for label, category in categories.items()}.get(part.category_id, "background")
        findings.note(
            f"{image.where}: {item.where}: is a {item.label!r}, but {other!r} in {CLASSES}; its mask is taken as that, "
            "and as no box's",
            "another class in the mask",
        )
    return replace(item, details=without_mask(item))


def without_mask(item: FoundObject) -> dict[str, Any]:
    """An object's details without its number in the object map."""
    return {key: value for key, value in item.details.items() if key != "mask"}
