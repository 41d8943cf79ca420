"""Pasting by hand: order, ties, no region, the rule of ranks; the threshold that rises against a slow search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.segmentation.paste import Ranked, distinct, paste, pasted, pasted_count, ranked, risen
from stages.segmentation.settings import PasteSettings

RULE = PasteSettings(max_segments=3, per_rank=0.02, first=0.28, rise=0.01)


def f32(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_a_region_has_its_best_class_and_the_best_region_comes_first() -> None:
    found = ranked(np.array([[0.1, 0.3], [0.9, 0.2], [0.4, 0.4], [0.3, 0.1]], np.float32))
    assert found.regions.tolist() == [1, 2, 0, 3]  # 0 and 3 tie: the first region is first
    assert found.labels.tolist() == [0, 0, 1, 0]  # 2 ties in its classes: the first class
    np.testing.assert_allclose(found.scores, [0.9, 0.4, 0.3, 0.3])
    assert len(ranked(np.zeros((0, 2), np.float32)).regions) == 0


@pytest.mark.parametrize(
    ("scores", "count"),
    [
        ((), 0),
        ((0.5,), 0),  # not above
        ((0.51,), 1),
        ((0.9, 0.51), 1),  # the second must be above 0.52
        ((0.9, 0.53, 0.53), 2),  # and the third above 0.54
        ((0.9, 0.9, 0.9, 0.9), 3),
    ],
)
def test_the_kth_region_must_be_above_a_threshold_of_its_own(scores: tuple[float, ...], count: int) -> None:
    assert pasted_count(f32(*scores), 0.5, RULE) == count


def test_all_regions_take_part_without_a_limit() -> None:
    every = RULE.model_copy(update={"max_segments": None})
    assert pasted_count(np.full(100, 0.9, np.float32), 0.5, every) == 20  # 0.5 + 0.02 * 20 is not below 0.9


def test_the_better_region_lies_over_the_worse() -> None:
    masks = np.zeros((3, 4, 5), bool)
    masks[0, :2], masks[1, 1:, :3], masks[2, 3, 4] = True, True, True
    regions = Ranked(np.array([1, 0, 2]), np.array([4, 0, 7]), f32(0.9, 0.8, 0.7))
    drawn = paste(regions, lambda i: masks[i], (4, 5))
    assert drawn.tolist() == [[1, 1, 1, 1, 1], [5, 5, 5, 1, 1], [5, 5, 5, 0, 0], [5, 5, 5, 0, 8]]
    assert paste(regions.first(1), lambda i: masks[i], (4, 5)).sum() == 5 * masks[1].sum()


def squares() -> list[NDArray[np.bool_]]:
    """Four squares: two nearly one, a third apart, a fourth that is half of the first."""
    masks = np.zeros((4, 10, 20), bool)
    masks[0, :8, :8], masks[1, :8, 1:8], masks[2, :5, 12:], masks[3, :4, :8] = True, True, True, True
    return list(masks)


@pytest.mark.parametrize(
    ("iou", "most", "least", "kept"),
    [
        (0.5, None, 0.0, [0, 2, 3]),  # 1 has 7 / 8 with 0; 3 exactly 1 / 2, which is not above
        (0.4, None, 0.0, [0, 2]),
        (0.9, None, 0.0, [0, 1, 2, 3]),
        (0.5, 2, 0.0, [0, 2]),
        (0.5, None, 0.65, [0, 2]),  # 3 scores 0.6
        (None, 3, 0.0, [0, 1, 2]),
        (None, None, 0.75, [0, 1]),  # 2 scores 0.7
        (0.5, None, 1.0, []),
    ],
)
def test_near_copies_of_a_better_region_take_no_place(
    iou: float | None, most: int | None, least: float, kept: list[int]
) -> None:
    order = Ranked(np.arange(4), np.array([1, 1, 0, 2]), f32(0.9, 0.8, 0.7, 0.6))
    rule = PasteSettings(duplicate_iou=iou, max_segments=most)
    found = distinct(order, least, rule, lambda i: squares()[i])
    assert found.regions.tolist() == kept
    assert found.labels.tolist() == [order.labels[i] for i in kept]
    assert np.array_equal(found.scores, order.scores[kept])


def test_the_backgrounds_regions_take_places_and_are_dropped() -> None:
    """Of three places the background (class 2 of two) has the first; the fourth region is not let in for it."""
    order = Ranked(np.array([5, 3, 8, 1]), np.array([2, 0, 1, 0]), f32(0.9, 0.805, 0.545, 0.53))
    found = pasted(order, 0.49, RULE, 2)
    assert found.regions.tolist() == [3, 8] and found.labels.tolist() == [0, 1]
    assert pasted(order, 0.51, RULE, 2).regions.tolist() == [3, 8]  # of those left the second: above 0.51 + 0.02
    assert pasted(order, 0.53, RULE, 2).regions.tolist() == [3]
    assert pasted(order, 0.49, RULE, 3).regions.tolist() == [5, 3, 8]
    assert risen([order], 1, RULE, 2).value == 0.53 and risen([order], 0, RULE, 2).value == 0.81


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(0, 8), most=st.integers(1, 5))
def test_a_background_that_scores_the_threshold_is_none_at_all(data: st.DataObject, n: int, most: int) -> None:
    """O2P's background is so, which is what ``paste.background: false`` does without it."""
    scores = np.array([data.draw(st.integers(0, 9)) for _ in range(2 * n)], np.float32).reshape(n, 2) / np.float32(8)
    rule = PasteSettings(max_segments=most, duplicate_iou=None, per_rank=0.02)
    theirs = pasted(ranked(np.pad(scores, [(0, 0), (0, 1)], constant_values=0.5)), 0.5, rule, 2)
    ours = pasted(distinct(ranked(scores), 0.5, rule, lambda i: np.ones((1, 1), bool)), 0.5, rule, 2)
    assert theirs.regions.tolist() == ours.regions.tolist() and theirs.labels.tolist() == ours.labels.tolist()


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(0, 12), most=st.sampled_from([None, 2, 4]), seed=st.integers(0, 99))
def test_a_known_threshold_draws_fewer_regions_and_pastes_the_same(
    data: st.DataObject, n: int, most: int | None, seed: int
) -> None:
    """Against looking at all of them, with scores that stand on the thresholds of the ranks, too."""
    rng = np.random.default_rng(seed)
    masks: NDArray[np.bool_] = rng.random((12, 6, 6)) < 0.4
    steps = sorted((data.draw(st.integers(20, 40)) for _ in range(n)), reverse=True)
    order = Ranked(np.arange(n), rng.integers(0, 3, n), np.array(steps, np.float32) / np.float32(100))
    rule = PasteSettings(max_segments=most, duplicate_iou=0.3, per_rank=0.02)
    threshold = data.draw(st.integers(20, 40)) / 100
    for least in (0.2, min(threshold, 0.28)):
        drawn: list[int] = []

        def mask(i: int, drawn: list[int] = drawn) -> NDArray[np.bool_]:
            drawn.append(i)
            own: NDArray[np.bool_] = masks[i]
            return own

        whole = pasted(distinct(order, least, rule, mask), threshold, rule, 2)
        every, drawn[:] = len(drawn), []
        found = pasted(distinct(order, least, rule, mask, (threshold, 2)), threshold, rule, 2)
        assert len(drawn) <= every
        for name in ("regions", "labels", "scores"):
            assert np.array_equal(getattr(found, name), getattr(whole, name))


def test_no_region_is_drawn_after_the_first_below_the_threshold_of_its_rank() -> None:
    order = Ranked(np.arange(4), np.zeros(4, np.int64), f32(0.9, 0.8, 0.51, 0.5))
    rule = PasteSettings(max_segments=None, duplicate_iou=0.9, per_rank=0.02)
    drawn: list[int] = []

    def mask(i: int) -> NDArray[np.bool_]:
        drawn.append(i)
        return squares()[i]

    assert distinct(order, 0.1, rule, mask, (0.5, 1)).regions.tolist() == drawn == [0, 1]  # the third: above 0.54
    drawn.clear()
    assert distinct(order, 0.1, rule, mask).regions.tolist() == drawn == [0, 1, 2, 3]


def test_no_region_is_all_background() -> None:
    none = Ranked(np.zeros(0, np.int64), np.zeros(0, np.int64), f32())
    drawn = paste(none, lambda i: np.ones((2, 3), bool), (2, 3))
    assert drawn.dtype == np.uint8 and drawn.shape == (2, 3) and not drawn.any()


@settings(max_examples=50, deadline=None)
@given(images=st.lists(st.lists(st.floats(0, 1, width=32), max_size=5), min_size=1, max_size=4), goal=st.floats(0.3, 3))
def test_the_threshold_is_the_first_that_keeps_to_the_goal(images: list[list[float]], goal: float) -> None:
    scores = [np.array(sorted(own, reverse=True), np.float32) for own in images]

    def regions(threshold: float) -> float:
        kept = 0
        for own in scores:
            for k, score in enumerate(own[:3]):
                if float(score) <= threshold + 0.02 * k:
                    break
                kept += 1
        return kept / len(scores)

    slow = 28
    while regions(slow / 100) > goal:
        slow += 1
    order = [Ranked(np.arange(len(own)), np.zeros(len(own), np.int64), own) for own in scores]
    found = risen(order, goal, RULE, 1)
    assert found.value == pytest.approx(slow / 100)
    assert found.found == regions(slow / 100) and found.goal == goal and found.images == len(scores)
