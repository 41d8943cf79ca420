"""Detections of one image against torchvision's own postprocessing, and a slow transcription of py-faster-rcnn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import nms

from stages.boxes.coding import MAX_LOG_SCALE, decode
from stages.boxes.geometry import clip, iou
from stages.detections.suppression import BoxSet, suppressed
from stages.fast.detections import best_of_image, candidates_of, detections_of

WIDTH, HEIGHT = 90, 70


def scene(seed: int, n: int = 40, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, transforms and RoIs; some boxes leave the image once they are moved."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.uniform(0, 1, (n, 2, 2)), axis=1) * (WIDTH - 4, HEIGHT - 4) + [[0, 0], [4, 4]]
    logits = (2 * rng.normal(size=(n, n_classes + 1))).astype(np.float32)
    return logits, 0.2 * rng.normal(size=(n, n_classes, 4)), ends.reshape(n, 4).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits), 1).numpy()


def torchvision_heads(most: int) -> RoIHeads:
    options = {"fg_iou_thresh": 0.5, "bg_iou_thresh": 0.5, "batch_size_per_image": 1, "positive_fraction": 0.5}
    return RoIHeads(
        *(None,) * 3, **options, bbox_reg_weights=(1.0,) * 4, score_thresh=0.05, nms_thresh=0.3, detections_per_img=most
    )


@given(st.integers(0, 10**6), st.sampled_from([5, 100]))
@settings(deadline=None, max_examples=25)
def test_as_torchvisions_postprocessing(seed: int, most: int) -> None:
    logits, transforms, rois = scene(seed)
    by_class = np.concatenate([np.zeros((len(rois), 1, 4)), transforms], axis=1).reshape(len(rois), -1)
    tensors = (torch.from_numpy(logits).double(), torch.from_numpy(by_class), [torch.from_numpy(rois).double()])
    boxes, scores, labels = (
        found[0].numpy() for found in torchvision_heads(most).postprocess_detections(*tensors, [(HEIGHT, WIDTH)])
    )
    candidates = candidates_of(softmax(logits), transforms, rois, WIDTH, HEIGHT)
    found = detections_of(candidates, max_per_image=most).bbox
    order = np.lexsort((-scores, labels))
    np.testing.assert_array_equal(found.labels, labels[order] - 1)
    np.testing.assert_allclose(found.scores, scores[order], atol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes[order], atol=1e-3)
    assert len(found) > 3 and found.scores.dtype == np.float32


@given(st.integers(0, 10**6), st.sampled_from([4, 10, 60]))
@settings(deadline=None, max_examples=25)
def test_as_a_slow_transcription_of_the_authors(seed: int, most: int) -> None:
    logits, transforms, rois = scene(seed, n_classes=4)
    probabilities = np.round(softmax(logits), 1)  # so that scores tie
    kept: list[tuple[int, float, list[float]]] = []
    for j in range(4):
        above = np.flatnonzero(probabilities[:, j + 1] > 0.05)
        boxes = clip(decode(rois[above], transforms[above, j]), WIDTH, HEIGHT)
        alive: list[int] = []
        for i in np.argsort(-probabilities[above, j + 1], kind="stable").tolist():
            if not alive or iou(boxes[[i]], boxes[alive]).max() <= 0.3:
                alive.append(i)
        kept += [(j, float(probabilities[above[i], j + 1]), boxes[i].tolist()) for i in alive]
    scores = np.sort([score for _, score, _ in kept])
    limit = scores[-most] if len(scores) > most else 0.0
    expected = [row for row in kept if row[1] >= limit]
    found = detections_of(candidates_of(probabilities, transforms, rois, WIDTH, HEIGHT), max_per_image=most).bbox
    assert found.labels.tolist() == [row[0] for row in expected]
    np.testing.assert_array_equal(found.scores, np.array([row[1] for row in expected], np.float32))
    np.testing.assert_array_equal(found.boxes, np.array([row[2] for row in expected], np.float32).reshape(-1, 4))


def test_candidates_by_class_best_first_with_the_rois_own_boxes_beside() -> None:
    logits, transforms, rois = scene(1)
    candidates = candidates_of(softmax(logits), transforms, rois, WIDTH, HEIGHT)
    assert (np.diff(candidates.labels) >= 0).all()
    falling = np.diff(candidates.scores) <= 0
    assert falling[np.diff(candidates.labels) == 0].all() and candidates.scores.min() > 0.05
    assert len(candidates.labels) == np.count_nonzero(softmax(logits)[:, 1:] > 0.05)
    own = {tuple(box) for box in clip(rois, WIDTH, HEIGHT).tolist()}
    assert {tuple(box) for box in candidates.no_bbox.tolist()} <= own
    plain = detections_of(candidates).no_bbox
    for j in range(3):
        mine = candidates.labels == j
        one = nms(*(torch.from_numpy(a[mine]).double() for a in (candidates.no_bbox, candidates.scores)), 0.3).numpy()
        np.testing.assert_array_equal(plain.boxes[plain.labels == j], candidates.no_bbox[mine][one])


def test_equal_scores_keep_the_rois_order() -> None:
    rois = np.array([[0, 0, 10, 10], [40, 0, 50, 10], [0, 0, 10, 10]], np.float32)
    probabilities = np.tile(np.array([0.4, 0.6], np.float32), (3, 1))
    transforms = np.zeros((3, 1, 4))
    transforms[2] = 0.01
    candidates = candidates_of(probabilities, transforms, rois, WIDTH, HEIGHT)
    np.testing.assert_array_equal(candidates.bbox[:2], rois[:2])
    np.testing.assert_array_equal(detections_of(candidates).bbox.boxes, rois[:2])
    assert len(detections_of(candidates, max_per_image=1).bbox) == 2  # both tie with the last that has a place


def test_the_floor_is_not_a_score_itself_and_none_is_none() -> None:
    probabilities = np.array([[0.95, 0.05], [0.94, 0.06], [1, 0]], np.float32)
    rois = np.array([[0, 0, 5, 5], [20, 0, 30, 5], [50, 0, 60, 5]], np.float32)
    found = candidates_of(probabilities, np.zeros((3, 1, 4)), rois, WIDTH, HEIGHT, score_floor=float(np.float32(0.05)))
    assert found.scores.tolist() == [np.float32(0.06)]
    assert len(candidates_of(probabilities, np.zeros((3, 1, 4)), rois, WIDTH, HEIGHT, score_floor=None).scores) == 3


@given(st.integers(0, 10**6), st.integers(1, 50))
@settings(deadline=None, max_examples=20)
def test_r_cnns_own_rule_takes_each_classs_best(seed: int, most: int) -> None:
    logits, transforms, rois = scene(seed)
    probabilities = softmax(logits)
    candidates = candidates_of(probabilities, transforms, rois, WIDTH, HEIGHT, score_floor=None, max_per_class=most)
    for j in range(3):
        rows = np.argsort(-probabilities[:, j + 1], kind="stable")[:most]
        mine = candidates.labels == j
        np.testing.assert_array_equal(candidates.scores[mine], probabilities[rows, j + 1])
        np.testing.assert_array_equal(
            candidates.bbox[mine], clip(decode(rois[rows], transforms[rows, j]), WIDTH, HEIGHT)
        )
    all_kept, found = suppressed(candidates, 0.3), detections_of(candidates, max_per_image=None)
    np.testing.assert_array_equal(found.bbox.boxes, all_kept.bbox.boxes)


def test_a_wild_transform_stays_finite_and_in_the_image() -> None:
    rois = np.array([[10, 10, 20, 20]], np.float32)
    wild = np.full((1, 1, 4), 1e3)
    box = candidates_of(np.array([[0.1, 0.9]], np.float32), wild, rois, WIDTH, HEIGHT).bbox
    assert np.isfinite(box).all() and (box >= 0).all() and (box <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    assert np.exp(MAX_LOG_SCALE) == pytest.approx(62.5)


def test_no_roi_no_detection() -> None:
    none = candidates_of(np.zeros((0, 4), np.float32), np.zeros((0, 3, 4)), np.zeros((0, 4)), WIDTH, HEIGHT)
    found = detections_of(none)
    assert len(found.bbox) == len(found.no_bbox) == 0 and found.bbox.boxes.shape == (0, 4)


def test_best_of_image_keeps_the_order_and_few_as_they_are() -> None:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = BoxSet(boxes, np.array([0.2, 0.9, 0.5], np.float32), np.array([0, 0, 1]))
    assert best_of_image(found, 3) is found
    assert best_of_image(found, 2).scores.tolist() == [np.float32(0.9), 0.5]
    np.testing.assert_array_equal(best_of_image(found, 2).boxes, boxes[1:])
