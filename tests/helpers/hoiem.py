"""Hoiem et al.'s ground truth of VOC 2007's test set and one detector's results, out of shared/golden/hoiem."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from manifests import Dataset, ImageRecord
from stages.scoring.objects import FlatDetections

FOLDER = Path(__file__).parents[2] / "../shared/golden/hoiem"
DETAILED = ("aeroplane", "bicycle", "bird", "boat", "cat", "chair", "diningtable")  # with characteristics made by hand


@dataclass(frozen=True)
class Hoiem:
    """``table``: by characteristic the value of each object that has one, numbered through all images."""

    dataset: Dataset
    detections: FlatDetections
    table: dict[str, dict[int, str]]


def read_hoiem() -> Hoiem:
    """Read all of it; 1-based inclusive boxes become ours."""
    loaded = scipy.io.loadmat(FOLDER / "VOC2007_annotations_test.mat", squeeze_me=True, struct_as_record=False)
    files = sorted((FOLDER / "detections").glob("*.txt"))
    classes = tuple(file.stem for file in files)
    table: defaultdict[str, dict[int, str]] = defaultdict(dict)
    records, n_objects = [], 0
    for number, image in enumerate(loaded["ann"].rec, 1):
        objects = np.atleast_1d(image.objects)
        records.append(_record(number, image, objects, classes))
        for index, one in enumerate(objects, n_objects):
            for name, value in _characteristics(one):
                table[name][index] = value
        n_objects += len(objects)
    return Hoiem(Dataset("voc2007", classes, tuple(records)), _detections(files, records), table)


def _record(number: int, image: Any, objects: Any, classes: tuple[str, ...]) -> ImageRecord:
    return ImageRecord(
        id=number,
        file_name=f"JPEGImages/{image.filename}",
        width=int(image.imgsize[0]),
        height=int(image.imgsize[1]),
        sha256=f"{number:064x}",
        split="test",
        boxes=np.array([one.bbox for one in objects], np.float32) - np.array([1, 1, 0, 0], np.float32),
        labels=np.array([classes.index(getattr(one, "class")) for one in objects], np.int64),
        difficult=np.array([one.difficult for one in objects], bool),
        truncated=np.array([one.truncated for one in objects], bool),
    )


def _characteristics(one: Any) -> list[tuple[str, str]]:
    if not one.detailedannotation:
        return []
    found = [("occlusion", str(one.details.occ_level))]
    for group, parts in (("side", one.details.side_visible), ("part", one.details.part_visible)):
        found += [(f"{group}.{name}", str(getattr(parts, name))) for name in parts._fieldnames]
    return found


def _detections(files: list[Path], records: list[ImageRecord]) -> FlatDetections:
    """Sort the detections by image; within one by class, in the file's order."""
    at = {record.name: row for row, record in enumerate(records)}
    rows = []
    for label, file in enumerate(files):
        for line in file.read_text().splitlines():
            name, score, *box = line.split()
            rows.append((at[name], label, float(score), *map(float, box)))
    found = np.array(rows)
    found = found[np.argsort(found[:, 0], kind="stable")]
    boxes = (found[:, 3:] - np.array([1, 1, 0, 0])).astype(np.float32)
    return FlatDetections(
        found[:, 0].astype(np.int64), found[:, 1].astype(np.int64), boxes, found[:, 2].astype(np.float32)
    )
