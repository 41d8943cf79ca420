"""Labels, mini-batches and transforms against torchvision's, obvious versions of the authors', and by property."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from cache.errors import StageError
from stages.boxes.coding import decode
from stages.boxes.geometry import iou, mirrored_boxes
from stages.rpn.anchors import Anchors, Places, inside
from stages.rpn.targets import LabelRule, draw, label_anchors, transform_statistics, transforms_of

WIDTH, HEIGHT = 288, 192
ANCHORS = Anchors((32, 64, 128), (0.5, 1, 2)).grid((12, 18), Places(8, 8, 16, 16))
ALL = LabelRule(border_px=None)


def objects_of(seed: int, m: int) -> np.ndarray:
    """Whole-pixel objects of the image, so that ties happen."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(12, 150, (m, 2))
    corner = rng.integers(0, np.maximum([WIDTH, HEIGHT] - sides, 1))
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


def slow(objects: np.ndarray, rule: LabelRule) -> list[int]:
    """The labels by the paper's words, one anchor after another."""
    within = inside(ANCHORS, WIDTH, HEIGHT, rule.border_px)
    overlaps = iou(ANCHORS, objects)
    best = overlaps[within].max(axis=0, initial=0)
    labels = []
    for row, is_within in zip(overlaps.tolist(), within.tolist(), strict=True):
        if not is_within:
            labels.append(-1)
        elif any(
            value >= rule.positive_iou or (value == top and value > 0) for value, top in zip(row, best, strict=True)
        ):
            labels.append(1)
        else:
            labels.append(0 if all(value < rule.negative_iou for value in row) else -1)
    return labels


@given(st.integers(0, 10**6), st.integers(0, 6), st.sampled_from([0.0, 20.0, None]))
@settings(deadline=None, max_examples=25)
def test_as_the_papers_words(seed: int, m: int, border: float | None) -> None:
    rule = LabelRule(border_px=border)
    found = label_anchors(ANCHORS, objects_of(seed, m), WIDTH, HEIGHT, rule)
    assert found.labels.tolist() == slow(objects_of(seed, m), rule)
    assert found.labels.dtype == np.int8
    if m == 0:
        assert not len(found.positive) and len(found.negative)


@pytest.mark.parametrize("seed", range(5))
def test_as_torchvision(seed: int) -> None:
    """Its RPN's labels and matched boxes, in double, with anchors that cross the edge; every object meets an anchor."""
    objects = objects_of(seed, 7)
    counts = {"training": 1, "testing": 1}
    generator = AnchorGenerator(((32, 64, 128),), ((0.5, 1.0, 2.0),))
    images = ImageList(torch.zeros(1, 3, HEIGHT, WIDTH), [(HEIGHT, WIDTH)])
    anchors = generator(images, [torch.zeros(1, 8, 12, 18)])[0].double()
    rpn = RegionProposalNetwork(generator, torch.nn.Identity(), 0.7, 0.3, 256, 0.5, counts, counts, 0.7)
    target = {"boxes": torch.from_numpy(objects).double()}
    labels, matched = rpn.assign_targets_to_anchors([anchors], [target])
    ours = label_anchors(anchors.numpy(), objects, WIDTH, HEIGHT, ALL)
    np.testing.assert_array_equal(ours.labels, labels[0].numpy())
    rows = ours.positive
    assert len(rows) > 7
    np.testing.assert_array_equal(objects[ours.objects[rows]], matched[0][rows].numpy())
    theirs = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(matched[0][rows], anchors[rows])
    np.testing.assert_allclose(transforms_of(anchors.numpy(), objects, ours, rows), theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("thresholds", [(0.6, 0.2), (0.5, 0.5)])
def test_other_limits_as_torchvisions_matcher(thresholds: tuple[float, float]) -> None:
    objects = objects_of(9, 5)
    matches = Matcher(*thresholds, allow_low_quality_matches=True)(torch.from_numpy(iou(objects, ANCHORS)))
    found = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, LabelRule(*thresholds, border_px=None))
    expected = np.where(matches >= 0, 1, np.where(matches == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
    np.testing.assert_array_equal(found.labels, expected)
    np.testing.assert_array_equal(found.objects[found.positive], matches.numpy()[found.positive])


def test_an_object_that_no_anchor_meets_makes_none_positive() -> None:
    """The authors' program makes every one positive."""
    corner = np.array([[0, 0, 3, 3]], float)  # no inside anchor reaches it
    rule = LabelRule()
    rows = np.flatnonzero(inside(ANCHORS, WIDTH, HEIGHT, 0))
    assert iou(ANCHORS[rows], corner).max() == 0 and len(rows) > 300
    found = label_anchors(ANCHORS, corner, WIDTH, HEIGHT, rule)
    assert not len(found.positive)
    np.testing.assert_array_equal(found.negative, rows)


def test_a_crowd_region_is_no_background_but_objects_in_it_count() -> None:
    objects, crowd = np.array([[20, 20, 60, 60]], float), np.array([[0, 0, 150, 150]], float)
    plain = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, ALL)
    found = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, ALL, crowd)
    assert label_anchors(ANCHORS, objects, WIDTH, HEIGHT, ALL, crowd[:0]).labels.tolist() == plain.labels.tolist()
    np.testing.assert_array_equal(found.positive, plain.positive)
    sides = np.minimum(ANCHORS[:, 2:], 150) - np.maximum(ANCHORS[:, :2], 0)
    share = sides.clip(0).prod(axis=1) / (ANCHORS[:, 2:] - ANCHORS[:, :2]).prod(axis=1)
    dropped = (plain.labels == 0) & (share > 0.7)
    assert dropped.sum() > 20
    np.testing.assert_array_equal(found.labels, np.where(dropped, -1, plain.labels))


@pytest.mark.parametrize("shape", [(1, 1), (20, 2000), (40, 40)])
def test_an_image_smaller_than_every_anchor_is_refused_in_one_line(shape: tuple[int, int]) -> None:
    width, height = shape
    anchors = Anchors((128,), (0.5, 1, 2)).grid((max(height // 16, 1), max(width // 16, 1)), Places(8, 8, 16, 16))
    with pytest.raises(StageError, match=rf"^no anchor lies within a resized image of {width} x {height} px; [^\n]*$"):
        label_anchors(anchors, np.zeros((0, 4)), width, height, LabelRule())
    assert len(label_anchors(anchors, np.zeros((0, 4)), width, height, ALL).negative) == len(anchors)


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(deadline=None, max_examples=20)
def test_the_order_of_objects_does_not_matter(seed: int, m: int) -> None:
    objects = objects_of(seed, m)
    order = np.random.default_rng(seed).permutation(m)
    one = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, LabelRule())
    other = label_anchors(ANCHORS, objects[order], WIDTH, HEIGHT, LabelRule())
    np.testing.assert_array_equal(one.labels, other.labels)
    overlaps = iou(ANCHORS[one.positive], objects)
    first, second = (overlaps[np.arange(len(overlaps)), of[one.positive]] for of in (one.objects, order[other.objects]))
    np.testing.assert_array_equal(first, second)  # the same object, or one that ties


@given(st.integers(0, 10**6), st.integers(0, 5))
@settings(deadline=None, max_examples=20)
def test_a_mirror_image_has_mirrored_labels(seed: int, m: int) -> None:
    """Cells that are centred in the image, as here, have mirror images among them."""
    objects = objects_of(seed, m)
    flipped = mirrored_boxes(objects, WIDTH)
    np.testing.assert_array_equal(mirrored_boxes(flipped, WIDTH), objects)
    one = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, LabelRule()).labels.reshape(12, 18, 9)
    other = label_anchors(ANCHORS, flipped, WIDTH, HEIGHT, LabelRule()).labels.reshape(12, 18, 9)
    np.testing.assert_array_equal(one, other[:, ::-1])


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.5, 2.0, 4.0]))
@settings(deadline=None, max_examples=20)
def test_scaled_up_or_down_the_labels_are_the_same(seed: int, m: int, by: float) -> None:
    objects = objects_of(seed, m)
    one = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, LabelRule())
    other = label_anchors(ANCHORS * by, objects * by, int(WIDTH * by), int(HEIGHT * by), LabelRule())
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(
        transforms_of(ANCHORS, objects, one, one.positive),
        transforms_of(ANCHORS * by, objects * by, other, other.positive),
    )


@pytest.mark.parametrize(("batch", "fraction"), [(256, 0.5), (64, 0.25), (7, 0.5), (10**5, 0.5)])
@pytest.mark.parametrize("m", [0, 1, 300])
def test_counts_are_torchvisions_and_nothing_is_drawn_twice(batch: int, fraction: float, m: int) -> None:
    objects = objects_of(1, m)
    labels = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, LabelRule())
    found = draw(ANCHORS, objects, labels, np.random.default_rng(0), batch=batch, positive_fraction=fraction)
    positive, negative = BalancedPositiveNegativeSampler(batch, fraction)([torch.from_numpy(labels.labels)])
    assert found.n_positive == positive[0].sum() and len(found) - found.n_positive == negative[0].sum()
    assert len(np.unique(found.rows)) == len(found)
    assert (labels.labels[found.rows[: found.n_positive]] == 1).all()
    assert (labels.labels[found.rows[found.n_positive :]] == 0).all()
    assert found.transforms.shape == (found.n_positive, 4) and found.transforms.dtype == np.float32


def test_every_anchor_is_drawn_as_often_and_by_the_generator_alone() -> None:
    objects = objects_of(4, 3)
    labels = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, LabelRule())
    drawn = [draw(ANCHORS, objects, labels, np.random.default_rng(k), batch=64) for k in range(400)]
    again = draw(ANCHORS, objects, labels, np.random.default_rng(3), batch=64)
    np.testing.assert_array_equal(again.rows, drawn[3].rows)
    counts = np.bincount(np.concatenate([d.rows for d in drawn]), minlength=len(ANCHORS))[labels.negative]
    expected = sum(len(d) - d.n_positive for d in drawn) / len(labels.negative)
    assert abs(counts - expected).max() < 6 * np.sqrt(expected)


def test_transforms_take_anchors_to_their_objects() -> None:
    objects = objects_of(2, 4)
    labels = label_anchors(ANCHORS, objects, WIDTH, HEIGHT, LabelRule())
    found = draw(ANCHORS, objects, labels, np.random.default_rng(0))
    rows = found.rows[: found.n_positive]
    np.testing.assert_allclose(decode(ANCHORS[rows], found.transforms), objects[labels.objects[rows]], atol=1e-3)


def test_statistics_of_parts_are_those_of_all() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(3, [1, 2, 0.1, 5], (n, 4)) for n in (3, 0, 40, 1)]
    mean, std = transform_statistics(parts)
    together = np.concatenate(parts)
    np.testing.assert_allclose(mean, together.mean(axis=0))
    np.testing.assert_allclose(std, together.std(axis=0))
    for few in ([], [np.ones((2, 4))]):
        mean, std = transform_statistics(few)
        assert mean.tolist() == [float(len(few))] * 4 and std.tolist() == [1.0] * 4


def test_the_limits_themselves() -> None:
    """IoUs of 1, 7/10, below it, 3/10 and below it with one object: from 0.7 on positive, below 0.3 negative."""
    anchors = np.array([[0, 0, 10, high] for high in (10, 7, 6.9, 3, 2.9)])
    found = label_anchors(anchors, np.array([[0, 0, 10, 10]], float), 10, 10, LabelRule())
    assert found.labels.tolist() == [1, 1, -1, -1, 0]
    # another object's best is positive below the limit, and two that tie both are
    anchors = np.array([[0, 0, 10, 10], [20, 0, 30, 4], [20, 6, 30, 10], [20, 0, 30, 3]], float)
    found = label_anchors(anchors, np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float), 30, 10, LabelRule())
    assert found.labels.tolist() == [1, 1, 1, -1]
    assert found.objects[found.positive].tolist() == [0, 1, 1]
