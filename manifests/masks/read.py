"""An image's masks, whatever form they come in: its objects, their classes, and what is left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.digest import digest_json
from cache.errors import DatasetError
from manifests.dataset import ImageRecord, MaskSource
from manifests.source import ImageSource

from .label_map import VOID, Labels, decode_label_map, read_panoptic_map
from .mat_file import read_sbd
from .rle import Mask, draw_segmentation

# What a class map has of a class outside the objects of its object map is an object, too, numbered from here on.
LOOSE = 1 << 24
Fetch = Callable[[str, str], bytes]  # file name, SHA-256 -> its bytes


@dataclass(frozen=True)
class Masks:
    """What an image shows, pixel by pixel.

    objects: bool [m, H, W], pixels of each object, none of them void. COCO's may overlap.
    classes: int64 [m], indices into the dataset's classes.
    rows: int64 [m], the record's box that is the object's, -1 where it has none. Objects with a box come first, in the
        boxes' order, then the others by their number in the object map.
    void: bool [H, W], pixels that nothing is said of: VOC's 255, COCO's crowds and unlabelled pixels.
    """

    objects: NDArray[np.bool_]
    classes: NDArray[np.int64]
    rows: NDArray[np.int64]
    void: NDArray[np.bool_]

    def class_map(self) -> NDArray[np.uint8]:
        """uint8 [H, W]: 0 background, c + 1 class c, 255 void; where objects overlap the smaller one lies on top."""
        if len(self.classes) and int(self.classes.max()) > VOID - 2:
            raise DatasetError(f"class {int(self.classes.max())}: a map of classes holds 254; use fewer classes")
        drawn = np.zeros(self.void.shape, np.uint8)
        areas = self.objects.sum(axis=(1, 2))
        for i in np.argsort(-areas, kind="stable"):
            drawn[self.objects[i]] = self.classes[i] + 1
        drawn[self.void] = VOID
        return drawn


@dataclass(frozen=True)
class Parts:
    """What a mask source holds, in its own terms: objects by number, each with its category id.

    ``categories`` of an object map with a class map are what most of each object's pixels have, 0 where these are none.
    ``present`` are the category ids of all pixels that are not void, also of those that are few in their object;
    ``by_colour`` the files whose palette has VOC's colours in another order, and which are read by these.
    """

    numbers: Sequence[int]
    categories: Sequence[int]
    objects: Sequence[Mask]
    void: Mask
    present: Sequence[int]
    by_colour: tuple[str, ...] = ()


def read_masks(source: ImageSource, record: ImageRecord, category_ids: Sequence[int]) -> Masks:
    """Read an image's masks.

    Args:
        source: of the registered dataset.
        record: the image; ``record.masks`` says where they are.
        category_ids: the dataset's. Objects of other categories (``manifest.classes`` leaves some out) become
            background, as they do for a detector.

    Raises:
        DatasetError: one line per problem: there are none; a file is gone, changed, cut short, of another size; RLE
            that does not fit.
    """
    parts = read_parts(source.mask_bytes, record, category_ids)
    class_of = {category: index for index, category in enumerate(category_ids)}
    row_of = _rows(record)
    kept = [i for i, category in enumerate(parts.categories) if category in class_of and parts.objects[i].any()]
    kept.sort(key=lambda i: (row_of.get(parts.numbers[i], len(record.boxes)), parts.numbers[i]))
    shape = (record.height, record.width)
    return Masks(
        objects=np.stack([parts.objects[i] for i in kept]) if kept else np.zeros((0, *shape), bool),
        classes=np.array([class_of[parts.categories[i]] for i in kept], np.int64),
        rows=np.array([row_of.get(parts.numbers[i], -1) for i in kept], np.int64),
        void=parts.void,
    )


def masks_digest(record: ImageRecord, category_ids: Sequence[int]) -> str:
    """Compute the SHA-256 (hex) of all that :func:`read_masks` depends on, without reading a file: for keys."""
    where = record.masks
    if where is None:
        raise _no_masks(record)
    said: dict[str, Any] = {
        "kind": where.kind,
        "files": [sha256 for _, sha256 in where.files],
        "segments": [[one.id, one.category_id, one.void] for one in where.segments],
        "values": [where.void, where.shift],
        "size": [record.height, record.width],
        "categories": list(category_ids),
        "rows": [[number, row] for number, row in _rows(record).items()],
    }
    if where.kind == "coco":
        drawn = [detail.get("segmentation") for detail in record.details]
        said["coco"] = [drawn, record.labels.tolist(), record.crowd.tolist()]
    return digest_json(said)


def read_parts(fetch: Fetch, record: ImageRecord, category_ids: Sequence[int]) -> Parts:
    """Read a record's masks in their source's own terms; errors as :func:`read_masks`."""
    where = record.masks
    if where is None:
        raise _no_masks(record)
    if where.kind == "coco":
        return _coco_parts(record, category_ids)
    parts = map_parts(fetch, where)
    height, width = parts.void.shape
    if (height, width) != (record.height, record.width):
        raise DatasetError(
            f"{where.files[0][0]}: is {width} x {height} but its image {record.file_name} is {record.width} x "
            f"{record.height}; make the mask of the image's size"
        )
    return parts


def map_parts(fetch: Fetch, where: MaskSource) -> Parts:
    """Read the objects of a mask source that lies in files of its own."""
    if where.kind == "panoptic":
        return _panoptic_parts(read_panoptic_map(fetch(*where.files[0]), where.object_map), where)
    if where.kind == "sbd":
        return _sbd_parts(*read_sbd(fetch(*where.files[0]), where.object_map))
    classes, by_colour = decode_label_map(fetch(where.class_map, where.class_sha256), where.class_map)
    files = [where.class_map] * by_colour
    if not where.object_map:
        return replace(_class_parts(classes, where), by_colour=tuple(files))
    numbers, by_colour = decode_label_map(fetch(where.object_map, where.object_sha256), where.object_map)
    files += [where.object_map] * by_colour
    if numbers.shape != classes.shape:
        (height, width), (class_height, class_width) = numbers.shape, classes.shape
        raise DatasetError(
            f"{where.object_map}: is {width} x {height} but {where.class_map} is {class_width} x {class_height}; "
            "make both of the image's size"
        )
    return replace(_object_parts(classes, numbers, where), by_colour=tuple(files))


def _class_parts(classes: Labels, where: MaskSource) -> Parts:
    """Each class of a class map as one object, numbered by its value."""
    values = _values(classes, where)
    categories = [value + where.shift for value in values]
    return Parts(values, categories, [classes == v for v in values], _void(classes, where), categories)


def _object_parts(classes: Labels, numbers: Labels, where: MaskSource) -> Parts:
    """The objects of an object map, each of the class that most of its pixels have in the class map.

    Pixels of a class that are no object's are one more object for each class, so that none is lost.
    """
    void = _void(classes, where)
    numbers = np.where(numbers == where.void, 0, numbers)
    numbers = np.where(numbers == 0, classes + LOOSE, numbers)
    numbers[void] = 0
    found = [int(number) for number in np.unique(numbers) if number]
    objects = [numbers == number for number in found]
    categories = [int(np.bincount(classes[mask]).argmax()) + where.shift for mask in objects]
    return Parts(found, categories, objects, void, [value + where.shift for value in _values(classes, where)])


def _sbd_parts(numbers: Labels, categories: NDArray[np.int64]) -> Parts:
    """The objects of SBD, whose maps have no void pixels."""
    found = [int(number) for number in np.unique(numbers) if number]
    of_each = [int(categories[number - 1]) for number in found]
    return Parts(found, of_each, [numbers == number for number in found], np.zeros(numbers.shape, bool), of_each)


def _values(classes: Labels, where: MaskSource) -> list[int]:
    """The values of a class map but for void."""
    return [int(value) for value in np.unique(classes) if value != where.void]


def _void(labels: Labels, where: MaskSource) -> Mask:
    return labels == where.void if where.void is not None else np.zeros(labels.shape, bool)


def _panoptic_parts(ids: Labels, where: MaskSource) -> Parts:
    """The segments of a panoptic map, void ones left out, and its other ids, whose category is -1, which none has.

    Void is what no segment has, or a void one.
    """
    category_of = {one.id: one.category_id for one in where.segments}
    left_out = {0, *(one.id for one in where.segments if one.void)}
    numbers = [number for number in np.unique(ids).tolist() if number not in left_out]
    void = ~np.isin(ids, [number for number in numbers if number in category_of])
    categories = [category_of.get(number, -1) for number in numbers]
    return Parts(numbers, categories, [ids == number for number in numbers], void, categories)


def _coco_parts(record: ImageRecord, category_ids: Sequence[int]) -> Parts:
    """The segmentations of a record's objects, numbered by their rows; a crowd's pixels that no object has are void."""
    shape = (record.height, record.width)
    objects: dict[int, Mask] = {}
    void, problems = np.zeros(shape, bool), []
    for row, detail in enumerate(record.details):
        if detail.get("segmentation") is None:
            continue
        try:
            mask = draw_segmentation(detail["segmentation"], shape)
        except ValueError as error:
            problems.append(f"{record.file_name}: object {row + 1}: {error}; correct or remove it")
            continue
        if record.crowd[row]:
            void |= mask
        else:
            objects[row] = mask
    if problems:
        raise DatasetError(problems)
    for mask in objects.values():
        void &= ~mask
    categories = [category_ids[record.labels[row]] for row in objects]
    return Parts(list(objects), categories, list(objects.values()), void, categories)


def _rows(record: ImageRecord) -> Mapping[int, int]:
    """The box's row by the object's number."""
    if record.masks is not None and record.masks.kind == "coco":
        return {row: row for row in range(len(record.boxes))}
    return {int(detail["mask"]): row for row, detail in enumerate(record.details) if "mask" in detail}


def _no_masks(record: ImageRecord) -> DatasetError:
    return DatasetError(
        f"{record.file_name}: has no masks; import its dataset with masks (`rcnn dataset import voc PATH "
        "--segmentation`, sbd, panoptic, masks), or leave the image out"
    )
