"""Labelled RoIs, their draw and their targets, against torchvision and slow transcriptions of py-faster-rcnn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from stages.boxes.coding import decode
from stages.fast.rois import FIXED_STD, LabelledRois, TargetNorm, draw_rois, labelled_rois, target_norm
from stages.finetune.windows import Limits, image_windows

GT = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
CLASSES = np.array([2, 0])
NO_CROWD = np.zeros(2, bool)


def rows(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def scene(seed: int, n: int = 60, m: int = 4, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects, their classes, and proposals of which many overlap one; no two overlaps of a box are equal."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (m, 2))
    gt = np.concatenate([corner, corner + rng.uniform(20, 60, (m, 2))], axis=1).astype(np.float32)
    near = gt[rng.integers(0, m, n)] + rng.uniform(-9, 9, (n, 4))
    return gt, rng.integers(0, n_classes, m), near.astype(np.float32)


def counted(n_fg: int, n_bg: int) -> LabelledRois:
    """So many RoIs of a kind, in mixed order."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 3], [n_bg, n_fg]))
    boxes = np.tile(rows((0, 0, 5, 5)), (len(labels), 1))
    return LabelledRois(boxes, labels, boxes)


def test_labels_and_objects_of_hand_computed_overlaps() -> None:
    asked = rows((0, 0, 10, 5), (0, 0, 10, 4.9), (20, 0, 30, 20), (50, 50, 60, 60), (0, 0, 30, 10))
    rois = labelled_rois(GT, CLASSES, NO_CROWD, asked)
    np.testing.assert_array_equal(rois.boxes, np.concatenate([GT, asked]))
    assert rois.labels.tolist() == [3, 1, 3, 0, 1, 0, 0]
    np.testing.assert_array_equal(rois.objects[:5], GT[[0, 1, 0, 0, 1]])
    assert [str(a.dtype) for a in (rois.boxes, rois.objects, rois.labels)] == ["float32", "float32", "int64"]


def test_background_may_have_to_be_near_an_object() -> None:
    asked = rows((0, 0, 10, 100), (0, 0, 10, 101), (50, 50, 60, 60))  # IoU .1, below, 0
    rois = labelled_rois(GT, CLASSES, NO_CROWD, asked, Limits(bg_low=0.1))
    np.testing.assert_array_equal(rois.boxes, np.concatenate([GT, asked[:1]]))
    between = labelled_rois(GT, CLASSES, NO_CROWD, rows((0, 0, 10, 6)), Limits(0.7, 0.3))
    assert between.labels.tolist() == [3, 1]


def test_crowd_is_no_object_and_neither_what_lies_in_it_nor_what_has_no_area_is_a_roi() -> None:
    asked = rows((20, 0, 28, 8), (20, 0, 40, 10), (3, 3, 3, 9))
    rois = labelled_rois(GT, CLASSES, np.array([False, True]), asked)
    np.testing.assert_array_equal(rois.boxes, np.concatenate([GT[:1], asked[1:2]]))
    assert rois.labels.tolist() == [3, 0]


def test_an_image_without_objects_is_all_background_without_a_target() -> None:
    rois = labelled_rois(GT[:0], CLASSES[:0], NO_CROWD[:0], GT)
    assert rois.labels.tolist() == [0, 0]
    np.testing.assert_array_equal(rois.transforms(), np.zeros((2, 4)))
    assert len(labelled_rois(GT[:0], CLASSES[:0], NO_CROWD[:0], GT[:0])) == 0


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_as_torchvisions_matcher_and_coder(seed: int) -> None:
    gt, classes, proposals = scene(seed)
    rois = labelled_rois(gt, classes, np.zeros(len(gt), bool), proposals)
    everything = torch.from_numpy(np.concatenate([gt, proposals]))
    matched = Matcher(0.5, 0.5, allow_low_quality_matches=False)(box_iou(torch.from_numpy(gt), everything))
    expected = torch.where(matched >= 0, torch.from_numpy(classes)[matched.clamp(min=0)] + 1, 0)
    assert rois.labels.tolist() == expected.tolist()
    fg = (matched >= 0).numpy()
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    coded = coder.encode_single(torch.from_numpy(gt)[matched[matched >= 0]].double(), everything[matched >= 0].double())
    np.testing.assert_allclose(rois.transforms()[fg], coded.numpy(), atol=1e-5)
    np.testing.assert_array_equal(rois.transforms()[~fg], 0)
    np.testing.assert_allclose(decode(rois.boxes[fg], rois.transforms()[fg]), rois.objects[fg], atol=1e-4)


@given(st.integers(0, 10**6), st.booleans())
@settings(deadline=None, max_examples=20)
def test_boxes_and_labels_are_those_that_fine_tuning_trains_on(seed: int, crowded: bool) -> None:
    gt, classes, proposals = scene(seed)
    crowd = np.arange(len(gt)) < (1 if crowded else 0)
    rois = labelled_rois(gt, classes, crowd, proposals, Limits(bg_low=0.1))
    boxes, labels = image_windows(gt, classes, crowd, proposals, n_classes=3, limits=Limits(bg_low=0.1))
    np.testing.assert_array_equal(rois.boxes, boxes)
    np.testing.assert_array_equal(rois.labels, labels)


@given(st.integers(0, 10**6), st.integers(120, 400))
@settings(deadline=None, max_examples=20)
def test_the_mirror_images_targets_are_the_mirror_images_of_the_targets(seed: int, width: int) -> None:
    gt, classes, proposals = scene(seed)
    rois = labelled_rois(gt, classes, np.zeros(len(gt), bool), proposals)
    flipped = rois.mirrored(width)
    np.testing.assert_allclose(flipped.transforms(), rois.transforms() * [-1, 1, 1, 1], atol=1e-5)
    np.testing.assert_allclose(flipped.mirrored(width).boxes, rois.boxes, atol=1e-4)


@pytest.mark.parametrize(
    ("fg", "bg", "drawn"),
    [(200, 300, (16, 48)), (5, 300, (5, 59)), (0, 300, (0, 64)), (200, 0, (16, 0)), (3, 10, (3, 10)), (0, 0, (0, 0))],
)
def test_how_many_are_drawn(fg: int, bg: int, drawn: tuple[int, int]) -> None:
    rois = counted(fg, bg)
    chosen = draw_rois(rois, rng=np.random.default_rng(1))
    assert (int((rois.labels[chosen] > 0).sum()), int((rois.labels[chosen] == 0).sum())) == drawn
    assert len(set(chosen.tolist())) == len(chosen) and chosen.dtype == np.int64
    assert (np.diff((rois.labels[chosen] == 0).astype(int)) >= 0).all()  # foreground first


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(deadline=None, max_examples=60)
def test_counts_as_a_slow_transcription_of_the_authors(fg: int, bg: int, per_image: int, share: float) -> None:
    wanted = int(np.round(share * per_image))
    taken = min(wanted, fg)
    rest = min(per_image - taken, bg)
    rois = counted(fg, bg)
    chosen = draw_rois(rois, rois_per_image=per_image, fg_fraction=share, rng=np.random.default_rng(0))
    assert np.count_nonzero(rois.labels[chosen] > 0) == taken and len(chosen) == taken + rest


def test_every_roi_is_as_likely_as_another_of_its_kind() -> None:
    rois, rng, times = counted(10, 20), np.random.default_rng(0), np.zeros(30)
    for _ in range(4000):
        times[draw_rois(rois, rois_per_image=8, rng=rng)] += 1
    np.testing.assert_allclose(times[rois.labels > 0], 4000 * 2 / 10, rtol=0.15)
    np.testing.assert_allclose(times[rois.labels == 0], 4000 * 6 / 20, rtol=0.15)


def images(n: int = 6) -> list[LabelledRois]:
    parts = []
    for seed in range(n):
        gt, classes, proposals = scene(seed)
        parts.append(labelled_rois(gt, classes, np.zeros(len(gt), bool), proposals))
    return parts


@pytest.mark.parametrize("mirror", [False, True])
def test_statistics_are_those_of_all_foreground_transforms_gathered(mirror: bool) -> None:
    parts = images() + ([part.mirrored(300) for part in images()] if mirror else [])
    labels = np.concatenate([part.labels for part in parts])
    transforms = np.concatenate([part.transforms() for part in parts])
    norm = target_norm(iter(images()), 3, mirror=mirror)
    for j in range(3):
        np.testing.assert_allclose(norm.mean[j], transforms[labels == j + 1].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(norm.std[j], transforms[labels == j + 1].std(axis=0), atol=1e-6)
    normalised = norm.normalise(transforms, labels)
    for j in range(3):
        mine = normalised[labels == j + 1]
        np.testing.assert_allclose(mine.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(mine.std(axis=0), 1, atol=1e-4)
    assert normalised.dtype == np.float32 and not normalised[labels == 0].any()


def test_a_class_that_shows_nothing_is_normalised_as_in_joint_training() -> None:
    only_objects = labelled_rois(GT, CLASSES, NO_CROWD, rows())  # transforms are all 0
    norm = target_norm([only_objects], 4, mirror=False)
    np.testing.assert_array_equal(norm.mean, np.zeros((4, 4)))
    np.testing.assert_array_equal(norm.std, np.tile(FIXED_STD, (4, 1)))
    one = labelled_rois(GT, CLASSES, NO_CROWD, rows((0, 0, 10, 9)))  # class 2 has two, class 0 still one
    seen = target_norm([one], 4, mirror=False)
    np.testing.assert_allclose(seen.std[2], [0.1, np.std([0, 0.5 / 9]), 0.2, np.std([0, np.log(10 / 9)])])
    np.testing.assert_array_equal(seen.std[0], FIXED_STD)


@given(st.integers(0, 10**6), st.booleans())
@settings(deadline=None, max_examples=20)
def test_normalised_and_back(seed: int, fixed: bool) -> None:
    norm = TargetNorm.fixed(3) if fixed else target_norm(images(2), 3, mirror=True)
    rng = np.random.default_rng(seed)
    labels, transforms = rng.integers(1, 4, 20), rng.normal(size=(20, 4))
    predicted = np.zeros((20, 3, 4))
    predicted[np.arange(20), labels - 1] = norm.normalise(transforms, labels)
    np.testing.assert_allclose(norm.denormalise(predicted)[np.arange(20), labels - 1], transforms, atol=1e-5)
    if fixed:
        np.testing.assert_allclose(norm.normalise(transforms, labels), transforms / FIXED_STD, rtol=1e-6)
