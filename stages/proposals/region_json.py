"""Regions in COCO's form of results: a JSON list of ``{"image_id": 9, "segmentation": RLE, "score": 0.5}``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.errors import DatasetError, StageError
from manifests.files import read_bytes
from manifests.text import parse_json


def read_region_json(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Read the regions of every image, by the image's id or name as written; their order is the file's.

    An entry whose ``segmentation`` is null names an image, which may have no region. StageError where the file is none
    of this form: each entry needs an ``image_id`` and a ``segmentation``.
    """
    try:
        rows = parse_json(read_bytes(path, str(path)), str(path))
    except DatasetError as error:
        raise StageError(str(error)) from None
    if not isinstance(rows, list):
        raise StageError(f"{path}: is no JSON list of regions; see docs/proposal-file.md")
    found: dict[str, list[Mapping[str, Any]]] = {}
    for number, row in enumerate(rows):
        image = row.get("image_id") if isinstance(row, dict) else None
        if isinstance(image, bool) or not isinstance(image, int | str) or "segmentation" not in row:
            raise StageError(f"{path}: entry {number} has no image_id and segmentation; see docs/proposal-file.md")
        regions = found.setdefault(str(image), [])
        if row["segmentation"] is not None:
            regions.append(row)
    return found
