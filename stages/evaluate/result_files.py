"""Detections in the two forms that other tools read: COCO results JSON and VOC comp4 text files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np

from .objects import Detections


def coco_results(
    detections: Detections, image_ids: Sequence[int], category_ids: Sequence[int]
) -> list[dict[str, object]]:
    """COCO's results form: ``bbox`` is x, y, width, height in px, 0-based; nothing is rounded."""
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(
        detections.image.tolist(),
        detections.labels.tolist(),
        boxes.tolist(),
        detections.scores.tolist(),
        strict=True,
    )
    return [
        {"image_id": image_ids[image], "category_id": category_ids[label], "bbox": box, "score": score}
        for image, label, box, score in rows
    ]


def comp4_name(class_name: str) -> str:
    """File name of a class's comp4 results; characters that a file name cannot hold are percent-encoded."""
    return f"comp4_det_test_{quote(class_name, safe=' ()+,')}.txt"


def comp4_lines(detections: Detections, label: int, image_names: Sequence[str]) -> str:
    """One class in VOC's form, ``image score x1 y1 x2 y2``: 1-based, right and bottom edge inclusive, not rounded.

    Best score first (VOC allows any order); equal scores keep the detections' order.
    """
    rows = np.flatnonzero(detections.labels == label)
    rows = rows[np.argsort(-detections.scores[rows].astype(np.float64), kind="stable")]
    boxes = detections.boxes[rows].astype(np.float64)
    boxes[:, :2] += 1
    lines = [
        f"{image_names[image]} {score!r} " + " ".join(map(repr, box)) + "\n"
        for image, score, box in zip(
            detections.image[rows].tolist(), detections.scores[rows].tolist(), boxes.tolist(), strict=True
        )
    ]
    return "".join(lines)


def voc_image_ids(file_names: Sequence[str]) -> list[str]:
    """VOC's image ids: file names without folder and extension, whitespace percent-encoded.

    Where two images of different folders share a name, all images keep their folder, so that ids stay unique.
    """
    paths = [PurePosixPath(name) for name in file_names]
    stems = [path.stem for path in paths]
    if max(Counter(stems).values(), default=0) > 1:
        stems = [str(path.with_suffix("")) for path in paths]
    if max(Counter(stems).values(), default=0) > 1:
        stems = [str(path) for path in paths]
    return ["".join(quote(c) if c.isspace() else c for c in stem) for stem in stems]
