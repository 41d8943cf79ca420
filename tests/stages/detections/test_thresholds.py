"""The dataset-wide score threshold against the authors' streaming way of finding it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.detections.thresholds import ThresholdRule, dataset_thresholds


def streaming(images: list[np.ndarray], rank: int, max_per_image: int) -> tuple[float | None, list[list[float]]]:
    """One class as the authors go: keep scores above the threshold so far, raise it once more than ``rank`` are in."""
    threshold = -np.inf
    top: list[float] = []
    kept: list[list[float]] = []
    for scores in images:
        found = sorted((s for s in scores.tolist() if s > threshold), reverse=True)[:max_per_image]
        kept.append(found)
        top = sorted(top + found, reverse=True)
        if len(top) > rank:
            threshold = top[rank - 1]
            top = top[:rank]
    return (None if threshold == -np.inf else threshold), [[s for s in found if s >= threshold] for found in kept]


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_as_the_authors_streaming_rule(seed: int, n_images: int, rank_factor: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 25, n_images)
    values = rng.permutation(int(lengths.sum())).astype(np.float32) - 50  # no ties
    images = np.split(values, np.cumsum(lengths)[:-1])
    best = [np.sort(s)[::-1][:10] for s in images]
    expected, kept = streaming(images, rank_factor * n_images, max_per_image=10)
    found = dataset_thresholds(((s, np.zeros(len(s), int)) for s in best), ["a"], rank_factor, n_images)["a"]
    assert found == expected
    limit = -np.inf if found is None else found
    assert [[x for x in s.tolist() if x >= limit] for s in best] == kept


def test_exactly_the_rank_is_no_reason_to_prune() -> None:
    rule = ThresholdRule(2, rank_factor=2, n_images=2)
    rule.add(np.array([4, 3, 9, 8], np.float32), np.array([0, 0, 1, 1]))
    rule.add(np.array([2, 1, 7, 6, 5], np.float32), np.array([0, 0, 1, 1, 1]))
    assert rule.thresholds() == [None, 6.0]


def test_ties_at_the_rank() -> None:
    rule = ThresholdRule(1, rank_factor=1, n_images=2)
    rule.add(np.array([1, 1, 1], np.float32), np.zeros(3, int))
    assert rule.thresholds() == [1.0]


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_no_detections(names: list[str]) -> None:
    assert dataset_thresholds([], names, 40, 3) == dict.fromkeys(names)
