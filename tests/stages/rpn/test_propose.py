"""The proposal step against torchvision's, against an obvious version of the authors', and by property."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from stages.boxes.geometry import iou
from stages.rpn.anchors import Anchors, Places
from stages.rpn.propose import ProposalRule, mean_sizes, propose

PLACES = Places(8, 8, 16, 16)
ANCHORS = Anchors((32, 64, 128), (0.5, 1, 2))
MAP = 12, 18  # of an image of 192 x 288


def outputs(seed: int, n: int, levels: float = 64) -> tuple[np.ndarray, np.ndarray]:
    """Scores, many of them equal, and deltas, some of them wild."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=n) * levels) / levels
    deltas = rng.normal(size=(n, 4)) * rng.choice([0.05, 0.3, 3], (n, 1), p=[0.5, 0.45, 0.05])
    return scores.astype(np.float32), deltas.astype(np.float32)


def slow(
    anchors: np.ndarray, scores: np.ndarray, deltas: np.ndarray, width: int, height: int, rule: ProposalRule
) -> tuple[list[list[float]], list[int]]:
    """One anchor at a time, as the authors' program is written."""
    boxes = []
    for (x1, y1, x2, y2), (tx, ty, tw, th) in zip(anchors.tolist(), deltas.tolist(), strict=True):
        w, h = x2 - x1, y2 - y1
        x, y = x1 + w / 2 + tx * w, y1 + h / 2 + ty * h
        w, h = w * np.exp(min(tw, np.log(1000 / 16))), h * np.exp(min(th, np.log(1000 / 16)))
        moved = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2], np.float32)
        boxes.append(np.clip(moved, 0, np.array([width, height, width, height], np.float32)))
    order = [
        i
        for i in np.argsort(-scores, kind="stable").tolist()
        if np.diff(boxes[i].reshape(2, 2), axis=0).min() >= rule.min_side_px
    ]
    kept: list[int] = []
    for i in order[: rule.before_nms]:
        if len(kept) == rule.after_nms:
            break
        if (
            rule.nms_iou is None
            or not kept
            or iou(boxes[i][None], np.array([boxes[k] for k in kept])).max() <= rule.nms_iou
        ):
            kept.append(i)
    return [boxes[i].tolist() for i in kept], kept


@pytest.mark.parametrize("before", [None, 40, 500, 10**6])
@pytest.mark.parametrize("nms_iou", [None, 0.3, 0.7])
@pytest.mark.parametrize("after", [None, 1, 60])
def test_as_an_obvious_version(before: int | None, nms_iou: float | None, after: int | None) -> None:
    anchors = ANCHORS.grid(MAP, PLACES)
    scores, deltas = outputs(3, len(anchors))
    rule = ProposalRule(before, nms_iou, after)
    found = propose(anchors, scores, deltas, 288, 192, rule)
    boxes, rows = slow(anchors, scores, deltas, 288, 192, rule)
    assert found.rows.tolist() == rows
    np.testing.assert_allclose(found.boxes, np.array(boxes), atol=2e-5)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.scores, scores[rows])
    np.testing.assert_array_equal(found.shapes(9), np.array(rows) % 9)


def torchvisions(before: int, after: int, sizes: tuple[int, ...]) -> RegionProposalNetwork:
    """Its RPN without a head, at test time."""
    counts = {"training": before, "testing": before}, {"training": after, "testing": after}
    generator = AnchorGenerator((sizes,), ((0.5, 1.0, 2.0),))
    return RegionProposalNetwork(generator, torch.nn.Identity(), 0.7, 0.3, 256, 0.5, *counts, 0.7).eval()


@pytest.mark.parametrize("after", [50, 300])
@pytest.mark.parametrize("seed", range(3))
def test_as_torchvision(seed: int, after: int) -> None:
    """Its anchors, its order (small ones go after the cut; so cut nothing), and no equal scores."""
    n = 12 * 18 * 9
    rpn = torchvisions(n, after, (32, 64, 128))
    anchors = rpn.anchor_generator(ImageList(torch.zeros(1, 3, 192, 288), [(192, 288)]), [torch.zeros(1, 8, 12, 18)])
    rng = np.random.default_rng(seed)
    scores = (rng.permutation(n) / n * 8 - 4).astype(np.float32)
    deltas = rng.normal(0, 0.3, (n, 4)).astype(np.float32)
    decoded = rpn.box_coder.decode(torch.from_numpy(deltas), anchors).view(1, n, 4)
    theirs, probabilities = rpn.filter_proposals(decoded, torch.from_numpy(scores)[None], [(192, 288)], [n])
    rule = ProposalRule(before_nms=None, after_nms=after, min_side_px=1e-3)
    ours = propose(anchors[0].numpy(), scores, deltas, 288, 192, rule)
    np.testing.assert_allclose(ours.boxes, theirs[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-ours.scores)), probabilities[0].numpy(), atol=1e-6)


def test_a_zero_transform_is_the_anchor_and_without_regression_all_are() -> None:
    anchors = Anchors((32,), (1,)).grid((3, 3), Places(40, 40, 32, 32))
    scores = np.arange(9, dtype=np.float32)
    rule = ProposalRule()
    found = propose(anchors, scores, np.zeros((9, 4), np.float32), 200, 200, rule)
    np.testing.assert_array_equal(found.boxes, anchors[::-1])
    wild = propose(anchors, scores, np.full((9, 4), np.nan, np.float32), 200, 200, replace(rule, regress=False))
    np.testing.assert_array_equal(wild.boxes, anchors[::-1])


def test_the_least_side_is_the_original_images() -> None:
    anchors = np.array([[0, 0, 31, 100], [0, 0, 100, 32], [90, 10, 130, 200]], float)
    none = np.zeros((3, 4), np.float32)
    found = propose(anchors, np.zeros(3, np.float32), none, 121.5, 300, ProposalRule(), scale=2)  # type: ignore[arg-type]
    assert found.rows.tolist() == [1]  # the third is cut to 31.5 px at the image's edge
    assert len(propose(anchors, np.zeros(3, np.float32), none, 300, 300, ProposalRule(), scale=2.1)) == 1


@pytest.mark.parametrize("fill", [np.nan, -1e9, 1e9])
def test_nothing_left_is_no_proposal(fill: float) -> None:
    """NaN, or moved far out of the image: zero proposals, and no warning."""
    anchors = ANCHORS.grid(MAP, PLACES)
    deltas = np.zeros((len(anchors), 4), np.float32)
    deltas[:, 0] = fill
    found = propose(anchors, np.zeros(len(anchors), np.float32), deltas, 288, 192, ProposalRule())
    assert len(found) == 0 and found.boxes.shape == (0, 4)


def test_an_image_of_one_pixel_has_none() -> None:
    anchors = ANCHORS.grid((1, 1), PLACES)
    assert len(propose(anchors, np.zeros(9, np.float32), np.zeros((9, 4), np.float32), 1, 1, ProposalRule())) == 0


def test_scores_that_are_no_number_come_last() -> None:
    anchors = Anchors((32,), (1,)).grid((3, 3), Places(40, 40, 32, 32))
    scores = np.array([0, np.nan, 2, np.nan, 4, 5, np.nan, 7, -np.inf], np.float32)
    found = propose(anchors, scores, np.zeros((9, 4), np.float32), 200, 200, ProposalRule(after_nms=6))
    assert found.rows.tolist() == [7, 5, 4, 2, 0, 8]


def test_a_random_rank_does_not_look_at_scores() -> None:
    anchors = ANCHORS.grid(MAP, PLACES)
    scores, deltas = outputs(0, len(anchors))
    rule = ProposalRule(None, None, 100, rank="random")

    def drawn(scores: NDArray[np.float32]) -> list[int]:
        rows = propose(anchors, scores, deltas, 288, 192, rule, rng=np.random.default_rng(5)).rows
        return [int(row) for row in rows]

    assert drawn(scores) == drawn(-scores)
    assert len(set(drawn(scores))) == 100  # without replacement
    many = [propose(anchors, scores, deltas, 288, 192, rule, rng=np.random.default_rng(k)).rows for k in range(60)]
    share = np.bincount(np.concatenate(many), minlength=len(anchors)) / 60
    large = propose(anchors, scores, deltas, 288, 192, replace(rule, after_nms=None), rng=np.random.default_rng(0)).rows
    assert abs(np.corrcoef(share[large], scores[large])[0, 1]) < 0.1
    with pytest.raises(ValueError, match="drawn from a generator"):
        propose(anchors, scores, deltas, 288, 192, rule)


@given(st.integers(0, 10**6), st.sampled_from([None, 100, 700]), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
@settings(deadline=None, max_examples=25)
def test_scaled_up_or_down_it_proposes_the_same(seed: int, before: int | None, by: float) -> None:
    """By a power of two, which no float rounds: image, anchors and the least side."""
    anchors = ANCHORS.grid(MAP, PLACES)
    scores, deltas = outputs(seed, len(anchors))
    rule = ProposalRule(before)
    one = propose(anchors, scores, deltas, 288, 192, rule)
    other = propose(anchors * by, scores, deltas, int(288 * by), int(192 * by), rule, scale=by)
    np.testing.assert_array_equal(other.boxes / np.float32(by), one.boxes)
    np.testing.assert_array_equal(other.rows, one.rows)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_proposals_lie_in_the_image_apart_and_best_first(seed: int) -> None:
    anchors = ANCHORS.grid(MAP, PLACES)
    scores, deltas = outputs(seed, len(anchors))
    found = propose(anchors, scores, deltas, 288, 192, ProposalRule())
    assert (found.boxes[:, :2] >= 0).all() and (found.boxes[:, 2:] <= [288, 192]).all()
    assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 16).all()
    assert (np.diff(found.scores) <= 0).all()
    overlaps = iou(found.boxes, found.boxes)
    assert (overlaps[~np.eye(len(found), dtype=bool)] <= 0.7).all()


def test_mean_sizes_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 5, 25, 15], [0, 0, 7, 9]], np.float32)
    found = mean_sizes(boxes, np.array([2, 2, 0]), 4)
    np.testing.assert_array_equal(found, [[7, 9], [np.nan, np.nan], [15, 15], [np.nan, np.nan]])
