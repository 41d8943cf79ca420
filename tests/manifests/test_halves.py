"""Splitting images into halves that show each class about as often."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.io import loadmat

from manifests import Dataset, ImageRecord
from manifests.halves import _best_move, best_halves, class_counts, halves_table, measured, paired_halves

GOLDEN = Path(__file__).parents[2] / "../shared/golden"
Ints = NDArray[np.int32]
tables = arrays(np.int32, st.tuples(st.integers(2, 14), st.integers(1, 4)), elements=st.integers(0, 3))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def plainly_paired(counts: Ints, seed: int) -> list[bool]:
    """The same pairs by all distances and lists, from the same order and coins."""
    draws = rng(seed)
    order = draws.permutation(len(counts)).tolist()
    coins = draws.random(len(counts)) < 0.5
    out, left = [False] * len(counts), list(enumerate(order))
    while left:
        place, image = left.pop(0)
        out[image] = bool(coins[place])
        if left:
            apart = [int(np.abs(counts[image] - counts[other]).sum()) for _, other in left]
            _, partner = left.pop(apart.index(min(apart)))
            out[partner] = not coins[place]
    return out


@given(tables, st.integers(0, 9))
def test_pairs_are_those_of_the_plain_search(counts: Ints, seed: int) -> None:
    first, alone = paired_halves(counts, rng(seed))
    assert first.tolist() == plainly_paired(counts, seed)
    assert (alone is None) == (len(counts) % 2 == 0)


@given(tables, st.integers(0, 9))
def test_an_odd_image_goes_to_one_half(counts: Ints, seed: int) -> None:
    first, alone = paired_halves(counts, rng(seed))
    if alone is not None:  # the others are pairs, one of each in either half
        assert 2 * int(np.delete(first, alone).sum()) == len(counts) - 1
    assert abs(2 * int(first.sum()) - len(counts)) == len(counts) % 2


@given(tables, st.integers(0, 9))
def test_no_single_move_lowers_both(counts: Ints, seed: int) -> None:
    found = best_halves(counts, 1, rng(seed))
    start = measured(counts, paired_halves(counts, rng(seed))[0])
    assert (found.largest < start.largest and found.mean < start.mean) or np.array_equal(found.first, start.first)
    for image in range(len(counts)):
        other = found.first.copy()
        other[image] = not other[image]
        moved = measured(counts, other)
        assert not (moved.largest < found.largest - 1e-12 and moved.mean < found.mean - 1e-12)


@given(tables, st.integers(0, 9))
def test_an_odd_image_goes_to_both_halves_where_it_is_asked_to(counts: Ints, seed: int) -> None:
    """It counts in either, and stays; the search moves the others alone."""
    found = best_halves(counts, 2, rng(seed), odd_twice=True)
    first, second = found.sides
    assert (found.both is None) == (len(counts) % 2 == 0)
    assert int((first & second).sum()) == len(counts) % 2 and (first | second).all()
    a, b = (counts[side].sum(axis=0).astype(float) for side in found.sides)
    there = a + b > 0
    np.testing.assert_allclose(found.imbalance[there], (np.abs(a - b) / np.where(there, a + b, 1))[there])
    for image in range(len(counts)) if found.both is not None else ():
        other = found.first.copy()
        other[image] = not other[image]
        if image != found.both:
            moved = measured(counts, other, found.both)
            assert not (moved.largest < found.largest - 1e-12 and moved.mean < found.mean - 1e-12)


def test_beside_every_split_of_12_images() -> None:
    reached = []
    for seed in range(6):
        counts = rng(seed).integers(0, 4, (12, 3)).astype(np.int32)
        every = [measured(counts, np.array(sides)).largest for sides in itertools.product((False, True), repeat=12)]
        found = best_halves(counts, 200, rng(seed)).largest
        assert found >= min(every)
        reached.append(found == min(every))
        assert (np.array(every) < found).mean() < 0.01
    assert sum(reached) >= 4


def test_imbalance_by_hand() -> None:
    counts = np.array([[3, 0, 0, 1], [1, 0, 1, 1], [0, 0, 0, 1]], np.int32)
    found = measured(counts, np.array([True, False, False]))
    np.testing.assert_allclose(found.imbalance, [0.5, np.nan, 1, 1 / 3])
    assert found.counted.tolist() == [True, False, False, True]  # the third class is in one image
    assert [found.largest, found.mean, found.median] == pytest.approx([0.5, 5 / 12, 5 / 12])
    lines = halves_table(found, counts, ["a", "b", "c", "d"], ("one", "two")).splitlines()
    assert lines[0].split() == ["class", "one", "two", "imbalance"]
    assert lines[1].split() == ["a", "3", "1", "0.500"]
    assert lines[2].split()[:4] == ["b", "0", "0", "-"]
    assert lines[3].split()[:4] == ["c", "0", "1", "1.000"]
    assert lines[5].split() == ["images", "1", "2"]
    assert lines[6].startswith("imbalance of 2 classes that several images show: largest 0.500")


def test_a_class_in_one_image_does_not_stop_the_search() -> None:
    counts = rng().integers(0, 3, (40, 2)).astype(np.int32)
    alone = np.zeros((40, 1), np.int32)
    alone[7] = 5
    found = best_halves(np.concatenate([counts, alone], axis=1), 20, rng())
    assert found.largest < 0.05
    assert found.imbalance[2] == 1


def test_classes_that_are_never_apart() -> None:
    counts = np.repeat(rng().integers(0, 3, (30, 1)), 2, axis=1).astype(np.int32)
    found = best_halves(counts, 5, rng())
    assert found.imbalance[0] == found.imbalance[1] < 0.1


def test_images_without_objects() -> None:
    found = best_halves(np.zeros((5, 2), np.int32), 3, rng())
    assert (found.largest, found.mean, found.median) == (0, 0, 0)
    assert int(found.first.sum()) in (2, 3)


def test_counts_leave_crowds_out_and_take_pictures_classes() -> None:
    three, none = np.ones((3, 4), np.float32), np.zeros((0, 4), np.float32)
    labels, crowd = np.array([0, 1, 1]), np.array([False, False, True])
    image = ImageRecord(1, "a.jpg", 9, 9, "0" * 64, "train", three, labels, crowd=crowd)
    assert class_counts([image], Dataset("d", ("a", "b"), (image,))).tolist() == [[1, 1]]
    picture = ImageRecord(1, "a.jpg", 9, 9, "0" * 64, "train", none, np.zeros(0, np.int64), category=1)
    assert class_counts([picture], Dataset("d", ("a", "b"), (picture,))).tolist() == [[0, 1]]


@pytest.mark.shared
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is not beside the checkout")
def test_voc2007_test_splits_as_evenly_as_it_can() -> None:
    truth = loadmat(GOLDEN / "hoiem/VOC2007_annotations_test.mat", squeeze_me=True, struct_as_record=False)["ann"].gt
    counts = np.zeros((4952, 20), np.int32)
    for label, one in enumerate(truth):
        np.add.at(counts[:, label], np.atleast_1d(one.rnum).astype(int) - 1, 1)
    assert counts.sum() == 14976
    found = best_halves(counts, 3, rng())
    assert found.largest <= 0.02
    assert found.median <= 0.015
    by_chance = measured(counts, rng(1).permutation(4952) < 2476)
    assert by_chance.largest > 5 * found.largest


def test_every_trial_is_told() -> None:
    told: list[tuple[int, int]] = []
    best_halves(np.eye(4, dtype=np.int32), 3, rng(), told=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_move_that_lowers_the_largest_alone_is_not_made() -> None:
    """Move image 0 by hand: on the other side class 0 falls from 1 to 0, but three others rise from 0 to 2 / 4."""
    counts = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]])
    totals, first = counts.sum(axis=0).astype(np.float64), np.array([True, True, False, True, False])
    apart = (np.where(first, 1.0, -1.0) @ counts).astype(np.float64)
    assert (np.abs(apart) / totals).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert _best_move(counts, totals, first, apart, np.array([True, False, False, False, False])) is None
    assert _best_move(counts, totals, first, apart, np.array([True, True, False, False, False])) == 1
