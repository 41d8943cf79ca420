"""The manifest's JSON form: COCO's, plus what detection needs to know and COCO leaves out.

Added to COCO: ``info.name``, ``info.manifest_version``; per image ``sha256``, ``split``, ``splits``, in a dataset
of one class per picture ``category_id``, of one that nobody has annotated ``annotated: false``, of one that may show
more objects than are annotated ``exhaustive: false``, ``unscored`` (category ids), of one with masks ``masks`` (a
:class:`MaskSource`, without what has its default); per annotation ``difficult`` and ``truncated`` (0/1) and, where the
source has them, ``occluded``, ``hidden`` (a share), ``pose``, ``segmentation``, ``mask``.
``bbox`` is ``[x, y, w, h]``, float, 0-based, exclusive right/bottom edge.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from cache.errors import DatasetError

from .dataset import Dataset, ImageRecord, MaskSource, Segment
from .files import read_bytes, why_unsafe, write_with_folders

# 2: one class per picture; 3: images that nobody has annotated; 4: masks, what share of an object is hidden, images
# that are annotated in part or not scored in some class. The lowest that says all is written, so that a dataset without
# the newer things has the bytes that it always had.
MANIFEST_VERSION = 4
_SHOWN = 50  # lines of one report; a wholly wrong file would give one per annotation
_Flag = Annotated[int, Field(ge=0, le=1)]
_DETAILS = ("occluded", "hidden", "pose", "segmentation", "mask")
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Info(_Part):
    name: Annotated[str, Field(min_length=1)]
    manifest_version: int


class _Segment(_Part):
    id: Annotated[int, Field(ge=1, lt=2**24)]
    category_id: int
    void: _Flag = 0


class _Masks(_Part):
    kind: Literal["voc", "sbd", "panoptic", "coco", "class_map"]
    class_map: str | None = None
    class_sha256: _Sha256 | None = None
    object_map: str | None = None
    object_sha256: _Sha256 | None = None
    segments: list[_Segment] = []
    void: int | None = 255
    shift: int = 0


class _Image(_Part):
    id: int
    file_name: str
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    sha256: _Sha256
    split: Annotated[str, Field(min_length=1)]
    splits: Annotated[list[str], Field(min_length=1)]
    category_id: int | None = None
    annotated: bool = True
    exhaustive: bool = True
    unscored: list[int] = []
    masks: _Masks | None = None


class _Annotation(_Part):
    id: int
    image_id: int
    category_id: int
    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    area: Annotated[FiniteFloat, Field(ge=0)]
    iscrowd: _Flag
    difficult: _Flag
    truncated: _Flag
    occluded: _Flag | None = None
    hidden: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    pose: str | None = None
    segmentation: dict[str, Any] | list[Any] | None = None
    mask: Annotated[int, Field(ge=0)] | None = None


class _Category(_Part):
    id: int
    name: Annotated[str, Field(min_length=1)]


class _Document(_Part):
    info: _Info
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def load_dataset(path: str | Path) -> Dataset:
    """Read and check a manifest; DatasetError with every violation of the schema."""
    path = Path(path)
    return dataset_from_json(read_bytes(path, str(path)), str(path))


def save_dataset(dataset: Dataset, path: str | Path) -> None:
    """Write the manifest atomically; equal datasets give equal bytes."""
    write_with_folders(Path(path), dataset_to_json(dataset))


def dataset_to_json(dataset: Dataset) -> bytes:
    """The manifest's bytes: one image, annotation or category per line, so that two versions diff well.

    DatasetError where a detail that is kept as the source has it (a segmentation, say) is no JSON.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in dataset.images:
        images.append(
            {"id": record.id, "file_name": record.file_name, "width": record.width, "height": record.height}
            | {"sha256": record.sha256, "split": record.split, "splits": list(record.splits)}
            | ({} if record.category is None else {"category_id": dataset.category_ids[record.category]})
            | ({} if record.annotated else {"annotated": False})
            | ({} if record.exhaustive else {"exhaustive": False})
            | ({"unscored": [dataset.category_ids[label] for label in record.unscored]} if record.unscored else {})
            | ({} if record.masks is None else {"masks": _masks_json(record.masks)})
        )
        for annotation in _annotations(record, dataset.category_ids):
            annotations.append({"id": len(annotations) + 1} | annotation)
    categories = [{"id": i, "name": c} for i, c in zip(dataset.category_ids, dataset.classes, strict=True)]
    info = {"name": dataset.name, "manifest_version": _version(dataset)}
    parts = [f'"info": {_line(info)}'] + [
        f'"{key}": [' + ",".join("\n" + _line(row) for row in rows) + "\n]"
        for key, rows in (("images", images), ("annotations", annotations), ("categories", categories))
    ]
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 40) : error.end + 20]
        raise DatasetError(f"dataset {dataset.name}: {near!a} holds half a surrogate pair; correct the text") from None


def annotation_ids(dataset: Dataset) -> list[range]:
    """Return the ids that the objects of each image have in the dataset's manifest, in the images' order."""
    ends = list(accumulate(len(record.boxes) for record in dataset.images))
    return [range(end - len(record.boxes) + 1, end + 1) for record, end in zip(dataset.images, ends, strict=True)]


def _masks_json(masks: MaskSource) -> dict[str, Any]:
    """The fields that have not their default, for the manifest."""
    written = {f.name: getattr(masks, f.name) for f in fields(masks) if getattr(masks, f.name) != f.default}
    if masks.segments:
        written["segments"] = [
            {"id": one.id, "category_id": one.category_id} | ({"void": 1} if one.void else {}) for one in masks.segments
        ]
    return written


def _masks(read: _Masks) -> MaskSource:
    return MaskSource(
        kind=read.kind,
        class_map=read.class_map or "",
        class_sha256=read.class_sha256 or "",
        object_map=read.object_map or "",
        object_sha256=read.object_sha256 or "",
        segments=tuple(Segment(one.id, one.category_id, bool(one.void)) for one in read.segments),
        void=read.void,
        shift=read.shift,
    )


def _version(dataset: Dataset) -> int:
    hidden = any("hidden" in detail for record in dataset.images for detail in record.details)
    partial = any(record.unscored or not record.exhaustive for record in dataset.images)
    if hidden or partial or any(record.masks is not None for record in dataset.images):
        return 4
    if not all(record.annotated for record in dataset.images):
        return 3
    return 1 if dataset.has_boxes else 2


def _line(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        row = ", ".join(f"{key} {value[key]!a}" for key in ("id", "image_id") if key in value)
        raise DatasetError(f"annotation {row}: holds NaN or infinity; correct its segmentation") from None


def _annotations(record: ImageRecord, category_ids: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for i in range(len(record.boxes)):
        bbox = _bbox(record.boxes[i])
        details = record.details[i]
        yield {
            "image_id": record.id,
            "category_id": category_ids[record.labels[i]],
            "bbox": bbox,
            "area": float(details.get("area", bbox[2] * bbox[3])),
            "iscrowd": int(record.crowd[i]),
            "difficult": int(record.difficult[i]),
            "truncated": int(record.truncated[i]),
        } | {key: details[key] for key in _DETAILS if details.get(key) is not None}


def _bbox(box: NDArray[np.float32]) -> list[float]:
    """float32 ``x1, y1, x2, y2`` -> ``x, y, w, h`` in as few decimals as give the same four float32 back."""
    x, y = float(str(box[0])), float(str(box[1]))
    return [x, y, _extent(x, box[2]), _extent(y, box[3])]


def _extent(start: float, end: np.float32) -> float:
    exact = float(end) - start
    for decimals in range(1, 12):
        value = round(exact, decimals)
        if np.float32(start + value) == end:
            return value
    return exact


def dataset_from_json(data: bytes, name: str) -> Dataset:
    """Check a manifest's bytes against the schema and build the dataset; ``name`` is used in errors only."""
    document = _parse(data, name)
    problems = list(_inconsistencies(document))
    if problems:
        raise DatasetError(f"{name}: {line}" for line in _cut(problems))
    class_of = {category.id: i for i, category in enumerate(document.categories)}
    by_image: dict[int, list[_Annotation]] = {image.id: [] for image in document.images}
    for annotation in document.annotations:
        by_image[annotation.image_id].append(annotation)
    records = tuple(_record(image, by_image[image.id], class_of) for image in document.images)
    classes = tuple(category.name for category in document.categories)
    return Dataset(document.info.name, classes, records, tuple(class_of))


def _parse(data: bytes, name: str) -> _Document:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{name}: is not JSON ({error}); import the dataset again") from None
    info = raw.get("info") if isinstance(raw, dict) else None
    version = info.get("manifest_version") if isinstance(info, dict) else None
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise DatasetError(
            f"{name}: was written by a newer version (manifest version {version}, this one reads up to "
            f"{MANIFEST_VERSION}); update this program, or import the dataset again"
        )
    try:
        return _Document.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in e['loc']) or 'document'}: {e['msg']} (found {str(e['input'])[:60]!r})"
            for e in error.errors(include_url=False)
        ]
        raise DatasetError(f"{name}: {line}; import the dataset again" for line in _cut(lines)) from None


def _cut(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"... and {len(lines) - _SHOWN} more problems"]


def _repeated(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _inconsistencies(document: _Document) -> Iterator[str]:
    """What the schema's types cannot say: unique ids, known references, boxes inside their images."""
    images = {image.id: image for image in document.images}
    categories = {category.id for category in document.categories}
    for what, values in (
        ("image id", [image.id for image in document.images]),
        ("file name", [image.file_name for image in document.images]),
        ("annotation id", [annotation.id for annotation in document.annotations]),
        ("category id", [category.id for category in document.categories]),
        ("category name", [category.name for category in document.categories]),
    ):
        yield from (f"{what} {value!r} occurs more than once; keep one" for value in _repeated(values))
    for image in document.images:
        reason = why_unsafe(image.file_name)
        if reason:
            yield f"image {image.id} {image.file_name!r}: {reason}; use a plain path relative to the image root"
        for key in ("class", "object") if image.masks is not None else ():
            file, digest = (getattr(image.masks, f"{key}_{part}") for part in ("map", "sha256"))
            if file is not None and (reason := why_unsafe(file) or ("it has no digest" if digest is None else None)):
                yield f"image {image.id} {image.file_name!r}: mask {file!r}: {reason}; import the dataset again"
        if image.split not in image.splits:
            yield f"image {image.id} {image.file_name!r}: split {image.split!r} is not in splits; add it there"
        yield from (
            f"image {image.id} {image.file_name!r}: unscored category_id {one} is not in categories; drop it"
            for one in image.unscored
            if one not in categories
        )
    yield from _unclear_classes(document, categories)
    for annotation in document.annotations:
        where = f"annotation {annotation.id}"
        if annotation.category_id not in categories:
            yield f"{where}: category_id {annotation.category_id} is not in categories; add it or drop the object"
        owner = images.get(annotation.image_id)
        if owner is None:
            yield f"{where}: image_id {annotation.image_id} is not in images; add it or drop the object"
        elif not _fits(annotation.bbox, owner):
            yield (
                f"{where}: bbox {annotation.bbox} is empty or not inside its {owner.width} x {owner.height} image "
                f"{owner.file_name}; correct it"
            )
        if owner is not None and not owner.annotated:
            yield f"{where}: its image {owner.file_name!r} is said not to be annotated; drop one of the two"


def _unclear_classes(document: _Document, categories: set[int]) -> Iterator[str]:
    """Where pictures have a class of their own, each has one, and there are no boxes."""
    if all(image.category_id is None for image in document.images):
        return
    for image in document.images:
        if image.category_id not in categories:
            yield f"image {image.id} {image.file_name!r}: category_id {image.category_id} is not in categories"
    if document.annotations:
        yield "some images have a category_id, and there are annotations too; keep one of the two"


def _fits(bbox: list[float], image: _Image) -> bool:
    x, y, w, h = bbox
    x2, y2 = float(np.float32(x + w)), float(np.float32(y + h))
    return w > 0 and h > 0 and x >= 0 and y >= 0 and x2 <= image.width and y2 <= image.height


def _record(image: _Image, annotations: list[_Annotation], class_of: dict[int, int]) -> ImageRecord:
    xywh = np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4)
    return ImageRecord(
        id=image.id,
        file_name=image.file_name,
        width=image.width,
        height=image.height,
        sha256=image.sha256,
        split=image.split,
        splits=tuple(image.splits),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32),
        labels=np.array([class_of[a.category_id] for a in annotations], np.int64),
        difficult=np.array([a.difficult for a in annotations], bool),
        truncated=np.array([a.truncated for a in annotations], bool),
        crowd=np.array([a.iscrowd for a in annotations], bool),
        details=tuple(_details(a) for a in annotations),
        category=None if image.category_id is None else class_of[image.category_id],
        annotated=image.annotated,
        exhaustive=image.exhaustive,
        unscored=tuple(class_of[one] for one in image.unscored),
        masks=None if image.masks is None else _masks(image.masks),
    )


def _details(annotation: _Annotation) -> dict[str, Any]:
    kept = {key: getattr(annotation, key) for key in _DETAILS if getattr(annotation, key) is not None}
    # An area is a detail only where it says more than the box does.
    if annotation.area != annotation.bbox[2] * annotation.bbox[3]:
        kept["area"] = annotation.area
    return kept
