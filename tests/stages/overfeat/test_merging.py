"""Greedy merging against the paper's steps (d) to (g), one by one over all pairs; a case by hand; what stays."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.overfeat.merging import MergedBoxes, greedy_merge


@dataclass
class Part:
    """A box of the set B: the sums of its members' sides, their scores' sum, and their rows."""

    sums: list[float]
    score: float
    members: list[int]

    @property
    def box(self) -> list[float]:
        return [total / len(self.members) for total in self.sums]


def match_score(one: list[float], other: list[float]) -> float:
    """The centres' distance by the mean diagonal, and what is lacking of an IoU of 1."""
    (cx, cy, diagonal), (ox, oy, other_diagonal) = (
        ((x1 + x2) / 2, (y1 + y2) / 2, math.sqrt((x2 - x1) * (x2 - x1) + (y2 - y1) * (y2 - y1)))
        for x1, y1, x2, y2 in (one, other)
    )
    distance = math.sqrt((cx - ox) * (cx - ox) + (cy - oy) * (cy - oy))
    mean = (diagonal + other_diagonal) / 2
    apart = 0.0 if distance == 0 else distance / mean if mean else math.inf
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (one, other)]
    union = areas[0] + areas[1] - shared
    return apart + (1 - (min(shared / union, 1.0) if union > 0 else 0.0))


def by_the_letter(boxes: NDArray[np.float64], scores: NDArray[np.float64], t: float) -> list[Part]:
    """All pairs in every step; Python's min takes the first of equals, and pairs come by their indices."""
    parts = [Part(box, score, [i]) for i, (box, score) in enumerate(zip(boxes.tolist(), scores.tolist(), strict=True))]
    while len(parts) > 1:
        of_pair = {(i, j): match_score(parts[i].box, parts[j].box) for i, j in combinations(range(len(parts)), 2)}
        i, j = min(of_pair, key=of_pair.__getitem__)
        if of_pair[i, j] > t:
            break
        gone = parts.pop(j)
        parts[i].sums = [a + b for a, b in zip(parts[i].sums, gone.sums, strict=True)]
        parts[i].score += gone.score
        parts[i].members += gone.members
    return parts


def assert_same(found: MergedBoxes, wanted: list[Part]) -> None:
    """Bit for bit."""
    assert found.boxes.tolist() == [part.box for part in wanted]
    assert found.scores.tolist() == [part.score for part in wanted]
    assert found.counts.tolist() == [len(part.members) for part in wanted]
    assert found.first.tolist() == [min(part.members) for part in wanted]
    members = [np.flatnonzero(found.merged_into == k).tolist() for k in range(len(wanted))]
    assert members == [sorted(part.members) for part in wanted]


SCORES = st.floats(0, 1, width=32)
SIDES = st.one_of(st.integers(-2, 9).map(float), st.floats(-20, 90, width=32))  # of whole numbers many pairs are equal
BOXES = st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES, SCORES), max_size=12)


@given(BOXES, st.sampled_from([0.0, 0.2, 0.5, 1.0, 1.3, 2.0]))
def test_every_step_takes_the_nearest_of_all_pairs(drawn: list[tuple[float, ...]], t: float) -> None:
    """Ties, boxes without area and boxes whose edges have changed places are among them."""
    rows = np.array(drawn, np.float64).reshape(-1, 5)
    assert_same(greedy_merge(rows[:, :4], rows[:, 4], t), by_the_letter(rows[:, :4], rows[:, 4], t))


@pytest.mark.parametrize("t", [0.1, 0.4, 0.9, 2.0])
@pytest.mark.parametrize("spread_px", [0.5, 4, 40])
def test_a_crowd_of_boxes_about_a_few_objects(spread_px: float, t: float) -> None:
    rng = np.random.default_rng(int(10 * spread_px))
    corners = rng.uniform(0, 200, (5, 2))
    objects = np.concatenate([corners, corners + rng.uniform(20, 90, (5, 2))], axis=1)
    boxes = objects[rng.integers(0, 5, 60)] + rng.normal(0, spread_px, (60, 4))
    boxes = np.concatenate([boxes, boxes[:20].round(-1), np.tile(objects, (2, 1))])  # some alike, some the same
    scores = rng.random(len(boxes))
    assert_same(greedy_merge(boxes, scores, t), by_the_letter(boxes, scores, t))


@given(BOXES, st.sampled_from([0.2, 0.6, 1.0, 2.0]))
def test_members_and_scores_are_kept(drawn: list[tuple[float, ...]], t: float) -> None:
    rows = np.array(drawn, np.float64).reshape(-1, 5)
    found = greedy_merge(rows[:, :4], rows[:, 4], t)
    assert found.counts.sum() == len(rows)
    assert found.counts.tolist() == np.bincount(found.merged_into, minlength=len(found.counts)).tolist()
    np.testing.assert_allclose(found.scores.sum(), rows[:, 4].sum(), rtol=1e-12)
    for k, box in enumerate(found.boxes):
        np.testing.assert_allclose(box, rows[found.merged_into == k, :4].mean(axis=0), rtol=1e-12, atol=1e-12)
    left = [match_score(one, other) for one, other in combinations(found.boxes.tolist(), 2)]
    assert not left or min(left) > t


def test_a_case_by_hand() -> None:
    """Boxes of 4 x 3 px, diagonal 5, with a distance of 1 between the first and the second, of 2 to the third's."""
    boxes = np.array([[0, 0, 4, 3], [1, 0, 5, 3], [3, 0, 7, 3], [40, 40, 44, 43]], np.float64)
    scores = np.array([0.5, 0.25, 0.125, 0.0625])
    first = 1 / 5 + (1 - 9 / 15)  # 0.6
    one = greedy_merge(boxes, scores, first)
    assert one.boxes.tolist() == [[0.5, 0, 4.5, 3], [3, 0, 7, 3], [40, 40, 44, 43]]
    assert one.scores.tolist() == [0.75, 0.125, 0.0625] and one.counts.tolist() == [2, 1, 1]
    assert one.merged_into.tolist() == [0, 0, 1, 2] and one.first.tolist() == [0, 2, 3]
    assert len(greedy_merge(boxes, scores, float(np.nextafter(first, 0))).counts) == 4
    two = greedy_merge(boxes, scores, 2.5 / 5 + (1 - 4.5 / 19.5))  # the pair's mean lies 2.5 from the third
    wanted = np.array([[4 / 3, 0, 16 / 3, 3], [40, 40, 44, 43]])  # each member once: not 1.75 and 5.75
    np.testing.assert_allclose(two.boxes, wanted)
    assert two.scores.tolist() == [0.875, 0.0625] and two.counts.tolist() == [3, 1]


def test_of_equal_pairs_the_first_merges_and_moves_the_rest() -> None:
    """Three boxes in a row: the first takes the second, and the third is then too far from what they have become."""
    boxes = np.array([[4.0 * i, 0, 4.0 * i + 10, 10] for i in range(3)])
    found = greedy_merge(boxes, np.ones(3), match_score(boxes[0].tolist(), boxes[1].tolist()))
    assert found.merged_into.tolist() == [0, 0, 1]


def test_points_merge_where_they_are_one_and_nowhere_else() -> None:
    points = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [6, 5, 6, 5]], np.float64)
    assert greedy_merge(points, np.ones(3), 1.0).merged_into.tolist() == [0, 0, 1]
    assert greedy_merge(points, np.ones(3), 0.9).merged_into.tolist() == [0, 1, 2]  # without area no IoU


def test_nothing_is_merged_of_nothing() -> None:
    found = greedy_merge(np.zeros((0, 4)), np.zeros(0), 0.5)
    assert found.boxes.shape == (0, 4) and len(found.scores) == len(found.merged_into) == len(found.first) == 0
