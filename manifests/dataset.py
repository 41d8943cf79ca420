"""What the pipeline runs on: images with boxes, classes and splits, as immutable records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import DatasetError


@dataclass(frozen=True)
class Segment:
    """A segment of a panoptic map: its pixels' value ``id``, and what they show; ``void``: nothing is said of them."""

    id: int
    category_id: int
    void: bool = False


@dataclass(frozen=True)
class MaskSource:
    """Where an image's masks are, and in which form; :func:`manifests.masks.read_masks` reads them.

    Files are relative to the dataset's mask root (``ImageSource.masks``), each with the SHA-256 of its bytes, so that
    a changed one is refused, and makes other keys once the dataset is imported again. "" is no file.

    A pixel of a class map has value v: ``void``, or category id v + ``shift``, or background where no category of the
    dataset has that id. An object map numbers the objects from 1. The record's box row i is the object of number
    ``details[i]["mask"]``.

    kind: "voc" (class map, object map), "sbd" (object map with each object's category, a .mat file), "panoptic" (object
    map whose numbers are those of ``segments``), "coco" (no file: polygons and RLE in ``details[i]["segmentation"]``)
    or "class_map" (a class map, and an object map or none: then each class is one object, numbered by its value).
    """

    kind: str
    class_map: str = ""
    class_sha256: str = ""
    object_map: str = ""
    object_sha256: str = ""
    segments: tuple[Segment, ...] = ()
    void: int | None = 255
    shift: int = 0

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """The files that there are, each with its SHA-256."""
        pairs = ((self.class_map, self.class_sha256), (self.object_map, self.object_sha256))
        return tuple((file, sha256) for file, sha256 in pairs if file)


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and its objects.

    ``boxes`` are float32 [n, 4] ``x1, y1, x2, y2``, pixels of the upright image, 0-based, right/bottom exclusive;
    ``labels`` int64 [n] index ``Dataset.classes``. ``crowd`` marks COCO's ``iscrowd`` regions, ``difficult`` and
    ``truncated`` VOC's flags. The flags default to False.
    ``splits``: every split the source puts the image in, ``split`` (the most specific one) among them.
    ``details``: per object what else the source says and we keep: ``occluded``, ``hidden`` (the share of it that
    something hides), ``pose``, ``segmentation``, ``area``, ``mask`` (the object's number in the image's object map).
    ``category``: the class of the whole picture (an index like the labels), in a dataset that has no boxes.
    ``annotated``: False of an image that nobody has looked for objects in, so that it has none and may show many.
    ``exhaustive``: False of an image that may show more objects of the classes than are annotated: those are positives,
    and the rest of it is not known to be background.
    ``unscored``: classes that detections of are neither right nor wrong in this image (ILSVRC's blacklist).
    ``masks``: where the masks of its objects are, in a dataset that has masks.
    """

    id: int
    file_name: str  # relative to the dataset's image root, forward slashes
    width: int  # of the upright image, px
    height: int
    sha256: str  # of the file's bytes
    split: str
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_] = None  # type: ignore[assignment]
    truncated: NDArray[np.bool_] = None  # type: ignore[assignment]
    crowd: NDArray[np.bool_] = None  # type: ignore[assignment]
    splits: tuple[str, ...] = ()
    details: tuple[Mapping[str, Any], ...] = ()
    category: int | None = None
    annotated: bool = True
    exhaustive: bool = True
    unscored: tuple[int, ...] = ()
    masks: MaskSource | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "boxes", np.array(self.boxes, np.float32).reshape(-1, 4))
        n = len(self.boxes)
        put(self, "labels", np.array(self.labels, np.int64).reshape(-1))
        for flag in ("difficult", "truncated", "crowd"):
            value = getattr(self, flag)
            put(self, flag, np.zeros(n, bool) if value is None else np.array(value, bool).reshape(-1))
        put(self, "splits", tuple(self.splits) or (self.split,))
        put(self, "unscored", tuple(self.unscored))
        put(self, "details", tuple(self.details) or tuple({} for _ in range(n)))
        lengths = {key: len(getattr(self, key)) for key in ("labels", "difficult", "truncated", "crowd", "details")}
        wrong = [f"{length} {key}" for key, length in lengths.items() if length != n]
        if wrong:
            raise ValueError(f"{self.file_name}: {n} boxes but {', '.join(wrong)}")
        if n and not self.annotated:
            raise ValueError(f"{self.file_name}: {n} boxes, but it is said not to be annotated")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImageRecord):
            return NotImplemented
        return all(
            np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
            for a, b in ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        )

    def __hash__(self) -> int:
        return hash((self.id, self.file_name, self.sha256))

    @property
    def name(self) -> str:
        """The file name without folder and extension: VOC's image id."""
        return PurePosixPath(self.file_name).stem

    @property
    def areas(self) -> NDArray[np.float64]:
        """float64 [n], px squared: the segmentation's area where the source gives it (COCO), else the box's."""
        b = self.boxes.astype(np.float64)
        box_areas = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
        return np.array([d.get("area", a) for d, a in zip(self.details, box_areas, strict=True)], np.float64)


@dataclass(frozen=True)
class Dataset:
    """A dataset's manifest. Written as one COCO JSON document, see :mod:`manifests.manifest_json`.

    ``category_ids`` are the ids of ``classes`` in the source's (and the manifest's) JSON; 1..N by default.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[ImageRecord, ...]
    category_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "classes", tuple(self.classes))
        put(self, "images", tuple(self.images))
        put(self, "category_ids", tuple(self.category_ids) or tuple(range(1, len(self.classes) + 1)))
        if len(self.category_ids) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes but {len(self.category_ids)} category ids")

    @property
    def has_boxes(self) -> bool:
        """Whether this is a detection dataset; else every picture has a ``category`` and no boxes."""
        return not any(image.category is not None for image in self.images)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of all splits that hold an image, sorted."""
        return tuple(sorted({name for image in self.images for name in image.splits}))

    def split(self, name: str) -> list[ImageRecord]:
        """The images of one split, in the manifest's order; DatasetError naming the splits there are."""
        records = [image for image in self.images if name in image.splits]
        if not records:
            there_are = ", ".join(self.splits) or "none"
            raise DatasetError(f"dataset {self.name}: there is no split {name!r}; choose one of: {there_are}")
        return records

    def image(self, id_or_name: int | str) -> ImageRecord:
        """The image with this id (int), or this file name, or this name without folder, or without extension, too."""
        if isinstance(id_or_name, int):
            found = [image for image in self.images if image.id == id_or_name]
        else:
            found = [image for image in self.images if image.file_name == id_or_name]
            found = found or [image for image in self.images if PurePosixPath(image.file_name).name == id_or_name]
            found = found or [image for image in self.images if image.name == id_or_name]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(image.file_name for image in found[:4])
            raise DatasetError(f"dataset {self.name}: {id_or_name!r} is ambiguous; choose one of: {names}")
        raise DatasetError(f"dataset {self.name}: there is no image {id_or_name!r}; {_examples(self.images)}")


def _examples(images: Sequence[ImageRecord]) -> str:
    if not images:
        return "it has no images"
    return "it has " + ", ".join(f"{image.id} ({image.name})" for image in images[:3]) + ", ..."
