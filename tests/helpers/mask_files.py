"""Masks written in the forms of others: panoptic PNG and JSON, COCO's JSON, SBD's .mat, VOC's folders."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from dataset_files import jpeg, put, voc_object, voc_xml
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from manifests.masks import encode_rle, label_map_png

Drawn = NDArray[np.bool_]


def png(pixels: NDArray[Any]) -> bytes:
    """A grey or colour picture, as it is."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def panoptic_png(ids: NDArray[np.integer]) -> bytes:
    """Segment ids [H, W] as COCO's panoptic colours."""
    return png(np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8))


def sbd_mat(
    labels: NDArray[np.uint8], categories: Sequence[int], *, version: str = "5", compress: bool = True
) -> bytes:
    """A file of SBD's ``inst/``, of MATLAB's version 5 or 7.3."""
    buffer = io.BytesIO()
    if version == "5":
        entries = {"Segmentation": labels, "Categories": np.array(categories, np.uint8)[:, None]}
        savemat(buffer, {"GTinst": {**entries, "Boundaries": np.array([[1, "x"]], object)}}, do_compression=compress)
        return buffer.getvalue()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        group = file.create_group("GTinst")
        group["Segmentation"], group["Categories"] = labels.T, np.array([categories], np.float64)
    return b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM" + buffer.getvalue()[128:]


def box(mask: Drawn) -> list[int]:
    """x1, y1, x2, y2 of a mask, exclusive."""
    rows, columns = np.nonzero(mask)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def write_voc(root: Path, objects: Sequence[tuple[str, int, Drawn]], void: Drawn) -> Path:
    """A VOC folder of one image: objects are label, value in the class map, mask."""
    height, width = void.shape
    classes, numbers = (np.zeros(void.shape, np.uint8) for _ in range(2))
    for number, (_, value, mask) in enumerate(objects, start=1):
        classes[mask], numbers[mask] = value, number
    classes[void] = numbers[void] = 255
    boxes = [(label, box(mask)) for label, _, mask in objects]
    xml = "".join(voc_object(label, (x1 + 1, y1 + 1, x2, y2)) for label, (x1, y1, x2, y2) in boxes)
    return put(
        root,
        {
            "Annotations/a.xml": voc_xml(xml, width, height),
            "JPEGImages/a.jpg": jpeg(width, height),
            "SegmentationClass/a.png": label_map_png(classes),
            "SegmentationObject/a.png": label_map_png(numbers),
            "ImageSets/Segmentation/train.txt": "a\n",
        },
    )


def write_coco(root: Path, objects: Sequence[tuple[str, int, Drawn]], void: Drawn) -> Path:
    """The same image as COCO's JSON with run lengths, what is void being a crowd."""
    rows: list[dict[str, Any]] = []
    crowd = [("crowd", objects[0][1], void)] if void.any() else []
    for number, (label, category, mask) in enumerate([*objects, *crowd], start=1):
        x1, y1, x2, y2 = box(mask)
        row = {"id": number, "image_id": 1, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        rows.append(row | {"segmentation": encode_rle(mask), "iscrowd": int(label == "crowd"), "area": int(mask.sum())})
    return _write_json(root, "instances.json", {"annotations": rows}, objects, void.shape)


def write_panoptic(root: Path, objects: Sequence[tuple[str, int, Drawn]], void: Drawn) -> Path:
    """The same image as a panoptic map: what is no object is stuff, but for void pixels, which are in no segment."""
    ids = np.full(void.shape, 70_000, np.int64)
    for number, (_, _, mask) in enumerate(objects, start=1):
        ids[mask] = 300 * number
    ids[void] = 0
    segments = [
        {"id": 300 * number, "category_id": category, "iscrowd": 0}
        for number, (_, category, _) in enumerate(objects, start=1)
    ]
    segments += [{"id": 70_000, "category_id": 99, "iscrowd": 0}] if (ids == 70_000).any() else []
    put(root, {"masks/a.png": panoptic_png(ids)})
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    return _write_json(root, "panoptic.json", {"annotations": annotations}, objects, void.shape)


def _write_json(
    root: Path, name: str, parts: Mapping[str, Any], objects: Sequence[tuple[str, int, Drawn]], shape: tuple[int, ...]
) -> Path:
    height, width = shape
    named = {category: label for label, category, _ in objects}
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": width, "height": height, "split": "train"}],
        "categories": [
            *({"id": category, "name": label, "isthing": 1} for category, label in sorted(named.items())),
            {"id": 99, "name": "sky", "isthing": 0},
        ],
    }
    return put(root, {name: json.dumps(document | dict(parts)), "images/a.jpg": jpeg(width, height)})
