"""Positives of an SVM: objects, and the regions near them where appendix B's variant is asked for."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_context import Messages

from cache.errors import StageError
from stages.svm.mining import collect_positives, positive_classes

CLASSES = ("a", "b", "c")


def image_of(seed: int) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    n, objects = int(rng.integers(1, 30)), int(rng.integers(0, 4))
    corner = rng.integers(0, 12, (objects + n, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 12, (objects + n, 2))], 1).astype(np.float32)
    is_gt = np.arange(objects + n) < objects
    gt_class = np.where(is_gt, rng.integers(0, 3, objects + n), -1)
    features = np.arange(objects + n, dtype=np.float32)[:, None]
    return SimpleNamespace(image_id=seed, boxes=boxes, is_gt=is_gt, gt_class=gt_class, features=features)


def inclusive_iou(a: list[float], b: list[float]) -> float:
    """IoU in the authors' convention, both edges of a box being pixels of it."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = ([x1 + 1, y1 + 1, x2, y2] for x1, y1, x2, y2 in (a, b))
    w, h = min(ax2, bx2) - max(ax1, bx1) + 1, min(ay2, by2) - max(ay1, by1) + 1
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1) - w * h)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32), st.sampled_from([None, 0.3, 0.5, 0.7, 1.0]))
def test_as_a_loop_over_regions_and_objects(seed: int, limit: float | None) -> None:
    image = image_of(seed)
    found = positive_classes(image, 3, limit)
    for i, box in enumerate(image.boxes.tolist()):
        overlap = [0.0, 0.0, 0.0]  # the largest with an object of each class
        for k in np.flatnonzero(image.is_gt):
            j = image.gt_class[k]
            overlap[j] = max(overlap[j], inclusive_iou(box, image.boxes[k].tolist()))
        if image.is_gt[i]:
            expected = image.gt_class[i]
        elif limit is not None and max(overlap) >= limit:
            expected = overlap.index(max(overlap))
        else:
            expected = -1
        assert found[i] == expected


def test_collected_in_the_order_of_images_and_rows() -> None:
    images = [image_of(seed) for seed in range(12)]
    for limit in (None, 0.5):
        rows = collect_positives(images, CLASSES, limit, Messages())
        for j in range(3):
            expected = [image.features[positive_classes(image, 3, limit) == j] for image in images]
            np.testing.assert_array_equal(rows[j], np.concatenate(expected))
    assert sum(map(len, rows)) > sum(int(image.is_gt.sum()) for image in images)


def test_a_class_without_an_object_is_named() -> None:
    image = SimpleNamespace(
        image_id=1,
        boxes=np.array([[0, 0, 4, 4]] * 2, np.float32),
        is_gt=np.array([True, False]),
        gt_class=np.array([1, -1]),
        features=np.zeros((2, 1), np.float32),
    )
    for limit in (None, 0.5):
        with pytest.raises(StageError) as caught:
            collect_positives([image], CLASSES, limit, Messages())
        assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["class 'a'", "class 'c'"]
