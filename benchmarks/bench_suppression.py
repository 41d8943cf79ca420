"""Suppression and evaluation of 5,000 images x 20 classes x 100 boxes, one thread.

Suppression beside torchvision's ``batched_nms`` image by image; VOC 2007, VOC 2010 and COCO scores beside pycocotools'
COCO scores alone. The peers are given what they take (tensors; an index built from dictionaries), outside the timing.
They get so few images that the run stays short; this side's time for all 5,000 is reported too. The boxes are jittered
objects, half of them of the right class, so that suppression and matching have something to do.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import batched_nms

from benchmarks import harness
from benchmarks.harness import Figure, median_ratio, seconds, take_turns
from stages.boxes.nms import class_nms
from stages.scoring.metrics import score
from stages.scoring.objects import FlatDetections, GroundTruth

IMAGES = 5000
N_CLASSES = 20
BOXES = 100
OBJECTS = 6  # per image
NMS_IOU = 0.3
NMS_IMAGES = 500  # beside the peer
EVALUATION_IMAGES = 200


def made_up(n_images: int) -> tuple[GroundTruth, FlatDetections]:
    """Six objects per image, and of each class 100 boxes near them, best first."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 350, (n_images, OBJECTS, 2))
    objects = np.concatenate([corner, corner + rng.uniform(30, 150, corner.shape)], axis=-1).astype(np.float32)
    n = n_images * OBJECTS
    no = np.zeros(n, bool)
    image = np.repeat(np.arange(n_images), OBJECTS)
    truth = GroundTruth(image, rng.integers(0, N_CLASSES, n), objects.reshape(-1, 4), no, no, n_images, N_CLASSES)
    image = np.repeat(np.arange(n_images), N_CLASSES * BOXES)
    boxes = objects[image, rng.integers(0, OBJECTS, len(image))]
    boxes += rng.normal(0, 10, boxes.shape).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    scores = np.sort(rng.normal(size=(n_images * N_CLASSES, BOXES)).astype(np.float32))[:, ::-1].reshape(-1)
    labels = np.tile(np.repeat(np.arange(N_CLASSES), BOXES), n_images)
    return truth, FlatDetections(image, labels, boxes, scores)


def suppress(found: FlatDetections, n_images: int) -> int:
    """Boxes that are left of so many images."""
    step = N_CLASSES * BOXES
    return sum(
        len(class_nms(found.boxes[b : b + step], found.scores[b : b + step], found.labels[b : b + step], NMS_IOU))
        for b in range(0, n_images * step, step)
    )


def evaluate(found: FlatDetections, truth: GroundTruth) -> dict[str, Any]:
    """Every AP, without the bootstrap, which pycocotools does not have."""
    names = [str(j) for j in range(N_CLASSES)]
    return score(found, truth, names, 0.5, np.zeros((0, truth.n_images), np.int64)).metrics


def first_images(truth: GroundTruth, found: FlatDetections, n: int) -> tuple[GroundTruth, FlatDetections]:
    """The part of both that belongs to the first n images."""
    return replace(truth.take(truth.image < n), n_images=n), found.take(found.image < n)


def coco(boxed: GroundTruth | FlatDetections, n_images: int) -> COCO:
    """pycocotools' index of objects or detections."""
    b = boxed.boxes.astype(np.float64)
    xywh = np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1).tolist()
    rows = zip(boxed.image.tolist(), boxed.labels.tolist(), xywh, strict=True)
    annotations: list[dict[str, Any]] = [
        {"id": n, "image_id": i, "category_id": j, "bbox": x, "area": x[2] * x[3], "iscrowd": 0}
        for n, (i, j, x) in enumerate(rows, 1)
    ]
    if isinstance(boxed, FlatDetections):
        for one, value in zip(annotations, boxed.scores.tolist(), strict=True):
            one["score"] = value
    index = COCO()
    images, categories = ([{"id": k} for k in range(count)] for count in (n_images, N_CLASSES))
    index.dataset = {"images": images, "categories": categories, "annotations": annotations}
    index.createIndex()
    return index


def pycocotools_ap(truth: COCO, found: COCO) -> float:
    """COCO AP over area "all" with at most 100 detections, which is all that this side computes too."""
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl, evaluation.params.maxDets = [[0, 1e10]], ["all"], [100]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return float(precision[precision > -1].mean())


def suppression(found: FlatDetections) -> Figure:
    step = N_CLASSES * BOXES
    tensors = [torch.from_numpy(a) for a in (found.boxes, found.scores, found.labels)]

    def peer() -> int:
        return sum(
            len(batched_nms(*(t[b : b + step] for t in tensors), NMS_IOU)) for b in range(0, NMS_IMAGES * step, step)
        )

    left = suppress(found, NMS_IMAGES)
    if peer() != left:
        raise AssertionError("torchvision keeps another number of boxes")
    theirs, ours = take_turns(peer, lambda: suppress(found, NMS_IMAGES))
    whole = seconds(lambda: suppress(found, IMAGES))
    return Figure(
        f"non-maximum suppression, {IMAGES:,} images x {N_CLASSES} classes x {BOXES}",
        f"{whole:.2f} s",
        f"torchvision batched_nms, {NMS_IMAGES} of the images: {median(theirs):.2f} s (this {median(ours):.2f} s)",
        median_ratio(theirs, ours),
        1,
        f"the same {left:,} boxes left of {NMS_IMAGES * step:,}",
    )


def evaluation(truth: GroundTruth, found: FlatDetections) -> Figure:
    few_truth, few_found = first_images(truth, found, EVALUATION_IMAGES)
    with contextlib.redirect_stdout(io.StringIO()):
        known, claimed = coco(few_truth, EVALUATION_IMAGES), coco(few_found, EVALUATION_IMAGES)
        apart = abs(pycocotools_ap(known, claimed) - evaluate(few_found, few_truth)["coco"]["AP"])
        theirs, ours = take_turns(
            lambda: pycocotools_ap(known, claimed), lambda: evaluate(few_found, few_truth), rounds=3, warm_up=False
        )
    if apart > 1e-6:
        raise AssertionError(f"COCO AP is {apart:.1e} from pycocotools'")
    whole = seconds(lambda: evaluate(found, truth))
    return Figure(
        f"VOC 2007, VOC 2010 and COCO AP, {IMAGES:,} images x {N_CLASSES} classes x {BOXES}",
        f"{whole:.1f} s",
        f"pycocotools' COCO AP, {EVALUATION_IMAGES} of the images: {median(theirs):.2f} s (this {median(ours):.3f} s)",
        median_ratio(theirs, ours),
        5,
        f"COCO AP within {apart:.0e}",
    )


def figures(device: str) -> Iterator[Figure]:
    """Both figures; the device makes no difference."""
    torch.set_num_threads(1)
    truth, found = made_up(IMAGES)
    yield suppression(found)
    yield evaluation(truth, found)


if __name__ == "__main__":
    harness.main(figures)
