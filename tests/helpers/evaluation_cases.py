"""Made-up detections for the tests here, and slow obvious versions of the protocols."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.boxes.geometry import iou
from stages.scoring.objects import FlatDetections, GroundTruth


def truth_of(rows: Sequence[tuple[Any, ...]], n_images: int, n_classes: int) -> GroundTruth:
    """rows of (image, label, box, difficult=False, crowd=False), in image order."""
    rows = [(*row, *(False,) * (5 - len(row))) for row in rows]
    image, labels, boxes, difficult, crowd = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return GroundTruth(
        np.array(image, np.int64),
        np.array(labels, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(difficult, bool),
        np.array(crowd, bool),
        n_images,
        n_classes,
    )


def detections_of(rows: Sequence[tuple[Any, ...]]) -> FlatDetections:
    """rows of (image, label, box, score), in image order."""
    image, labels, boxes, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return FlatDetections(
        np.array(image, np.int64),
        np.array(labels, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
    )


def random_case(
    seed: int,
    n_images: int = 12,
    n_classes: int = 3,
    difficult: float = 0.2,
    crowd: float = 0.0,
    ties: bool = True,
) -> tuple[GroundTruth, FlatDetections]:
    """Objects, and detections that are jittered objects or noise, with many equal scores."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(n_images):
        for _ in range(rng.integers(0, 5)):
            corner, side = rng.uniform(0, 200, 2), rng.uniform(15, 90, 2)
            box = np.concatenate([corner, corner + side]).astype(np.float32)
            label = int(rng.integers(n_classes))
            objects.append((image, label, box, rng.random() < difficult, rng.random() < crowd))
            for _ in range(rng.integers(0, 4)):
                moved = box + rng.normal(0, rng.uniform(0, 0.25) * side.mean(), 4).astype(np.float32)
                moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
                shown = label if rng.random() < 0.8 else int(rng.integers(n_classes))
                found.append((image, shown, moved, rng.normal(1)))
        for _ in range(rng.integers(0, 4)):
            corner = rng.uniform(0, 200, 2)
            box = np.concatenate([corner, corner + rng.uniform(10, 80, 2)])
            found.append((image, int(rng.integers(n_classes)), box, rng.normal()))
    if ties:
        found = [(i, label, box, round(float(score), 1)) for i, label, box, score in found]
    return truth_of(objects, n_images, n_classes), detections_of(found)


def slow_voc_flags(
    truth: GroundTruth, found: FlatDetections, label: int, min_iou: float = 0.5
) -> tuple[list[int], list[str]]:
    """VOCevaldet.m read line by line: 'tp', 'fp' or 'ignored' of each detection of a class, best first."""
    order = [i for i in range(len(found)) if found.labels[i] == label]
    order.sort(key=lambda i: -float(found.scores[i]))
    taken, flags = set(), []
    for i in order:
        best, best_object = -np.inf, None
        for k in range(len(truth.labels)):
            if truth.labels[k] == label and truth.image[k] == found.image[i]:
                overlap = float(iou(found.boxes[i : i + 1], truth.boxes[k : k + 1])[0, 0])
                if overlap > best:
                    best, best_object = overlap, k
        if best >= min_iou:
            if truth.difficult[best_object] or truth.crowd[best_object]:
                flags.append("ignored")
            elif best_object not in taken:
                flags.append("tp")
                taken.add(best_object)
            else:
                flags.append("fp")
        else:
            flags.append("fp")
    return order, flags


def slow_aps(flags: Sequence[str], n_objects: int) -> tuple[float, float]:
    """Area and 11-point AP from the flags, written as VOCap.m and the VOC 2007 code are."""
    points, tp, fp = [], 0, 0
    for flag in flags:
        tp, fp = tp + (flag == "tp"), fp + (flag == "fp")
        if tp + fp:
            points.append((tp / n_objects, tp / (tp + fp)))
    area, last = 0.0, 0.0
    for k, (recall, _) in enumerate(points):
        area += (recall - last) * max(p for _, p in points[k:])
        last = recall
    eleven = 0.0
    for t in range(11):
        eleven += max((p for r, p in points if round(r * n_objects) * 10 >= t * n_objects), default=0.0) / 11
    return area, eleven


def resample(truth: GroundTruth, found: FlatDetections, drawn: Sequence[int]) -> tuple[GroundTruth, FlatDetections]:
    """The dataset whose images are ``drawn``, repeats being images of their own."""
    objects = [(k, np.flatnonzero(truth.image == i)) for k, i in enumerate(drawn)]
    rows = [(k, np.flatnonzero(found.image == i)) for k, i in enumerate(drawn)]
    o, d = np.concatenate([r for _, r in objects]), np.concatenate([r for _, r in rows])
    new_truth = GroundTruth(
        np.repeat([k for k, _ in objects], [len(r) for _, r in objects]),
        truth.labels[o],
        truth.boxes[o],
        truth.difficult[o],
        truth.crowd[o],
        len(drawn),
        truth.n_classes,
    )
    image = np.repeat([k for k, _ in rows], [len(r) for _, r in rows])
    return new_truth, FlatDetections(image, found.labels[d], found.boxes[d], found.scores[d])
