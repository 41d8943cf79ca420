"""The strongest activations against a sort of the whole matrix and torchvision's suppression, in any order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.ops import nms

from cache.errors import StageError
from stages.boxes.geometry import iou
from stages.boxes.nms import exceeds, overlap_bits
from stages.units.top import Collector, TopUnits

Images = Sequence[tuple[int, NDArray[Any], NDArray[np.float32]]]


def top_of(
    images: Images,
    units: int,
    top: int,
    dtype: np.dtype[Any],
    workers: int = 1,
    *,
    early_floor: bool = False,
) -> TopUnits:
    """Return the strongest activations of images given as (number, features [n, U], boxes [n, 4]), in any order."""
    with Collector(units, top, dtype, workers, early_floor=early_floor) as collector:
        for number, features, boxes in images:
            collector.add(number, features, boxes)
        return collector.result()


def made_up(seed: int, n_images: int, units: int, levels: int, dtype: type = np.float16, rows: int = 40) -> list[Any]:
    """Images of random boxes, activations of few values, so that many are equal, half of them 0."""
    rng = np.random.default_rng(seed)
    images = list[Any]()
    for number in range(n_images):
        n = int(rng.integers(0, rows))
        corners = rng.integers(0, 60, (n, 2))
        boxes = np.concatenate([corners, corners + rng.integers(1, 40, (n, 2))], axis=1).astype(np.float32)
        values = np.maximum(rng.integers(-levels, levels, (n, units)), 0) / 8
        images.append((number, values.astype(dtype), boxes))
    return images


def slow(images: Images, units: int, top: int) -> list[list[tuple[float, int, int]]]:
    """Each image's rows suppressed by torchvision, unit by unit; then all of them sorted."""
    found = []
    for unit in range(units):
        every = []
        for number, features, boxes in images:
            values = features[:, unit].astype(np.float64)
            rows = np.argsort(-values, kind="stable")
            rows = rows[values[rows] > 0]
            # torchvision sorts by score itself: falling numbers keep the order of equal ones
            order = torch.arange(len(rows), 0, -1, dtype=torch.float64)
            kept = nms(torch.from_numpy(boxes[rows].astype(np.float64)), order, 0.1).tolist() if len(rows) else []
            every += [(-values[rows[i]], number, int(rows[i])) for i in kept]
        found.append([(-value, number, row) for value, number, row in sorted(every)[:top]])
    return found


def as_lists(found: TopUnits) -> list[list[tuple[float, int, int]]]:
    return [
        list(zip(values[:n].tolist(), images[:n].tolist(), rows[:n].tolist(), strict=True))
        for values, images, rows, n in zip(found.values, found.images, found.rows, found.counts, strict=True)
    ]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 9),
    st.sampled_from([1, 3, 70]),
    st.sampled_from([1, 2, 7, 500]),
    st.sampled_from([2, 5, 400]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_it_is_a_full_sort_in_any_reading_order(
    seed: int, n_images: int, units: int, top: int, levels: int, half: bool, random: Any
) -> None:
    dtype = np.float16 if half else np.float32
    images = made_up(seed, n_images, units, levels, dtype)
    expected = slow(images, units, top)
    random.shuffle(images)
    found = top_of(images, units, top, np.dtype(dtype), workers=1 + seed % 3)
    assert as_lists(found) == expected
    assert found.silent.tolist() == [unit for unit, one in enumerate(expected) if not one]
    behind = np.arange(top) >= found.counts[:, None]
    assert (found.values[behind] == 0).all() and (found.images[behind] == -1).all() and (found.rows[behind] == -1).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.sampled_from([1, 2, 7, 500]), st.booleans())
def test_lists_are_filled_as_by_the_authors_explorer(seed: int, n_images: int, top: int, half: bool) -> None:
    """Of each image in turn: rows above the list's weakest, suppressed, joined to it, sorted, cut."""
    dtype = np.float16 if half else np.float32
    images, units = made_up(seed, n_images, 3, 5, dtype), 3
    expected = []
    for unit in range(units):
        kept: list[tuple[float, int, int]] = []
        for number, features, boxes in images:
            least = min((value for value, _, _ in kept), default=0.0)
            rows = np.flatnonzero(features[:, unit].astype(np.float64) > least)
            alone = [(number, features[rows][:, unit : unit + 1], boxes[rows])]
            new = [(value, number, int(rows[row])) for value, _, row in slow(alone, 1, len(rows))[0]]
            kept = sorted([*kept, *new], key=lambda one: (-one[0], *one[1:]))[:top]
        expected.append(kept)
    found = top_of(images, units, top, np.dtype(dtype), workers=1 + seed % 3, early_floor=True)
    assert as_lists(found) == expected


def test_photographs_with_thousands_of_regions() -> None:
    images = made_up(5, 4, 66, 300, rows=2500)
    assert as_lists(top_of(images, 66, 20, np.dtype(np.float16))) == slow(images, 66, 20)


def test_negative_values_and_zero_are_no_activations() -> None:
    boxes = np.array([[0, 0, 9, 9], [20, 20, 29, 29], [40, 40, 49, 49]], np.float32)
    features = np.array([[-1, 0, 2], [-0.0, -3, 1], [-5, 0, 0]], np.float16)
    found = top_of([(4, features, boxes)], 3, 5, np.dtype(np.float16))
    assert as_lists(found) == [[], [], [(2, 4, 0), (1, 4, 1)]]
    assert found.silent.tolist() == [0, 1]


def test_a_value_that_is_no_number_is_told() -> None:
    for bad in (np.nan, np.inf):
        features = np.array([[1, bad]], np.float16)
        with pytest.raises(StageError, match="unit 1: an activation is no finite number"):
            top_of([(0, features, np.array([[0, 0, 1, 1]], np.float32))], 2, 3, np.dtype(np.float16))


def test_the_list_of_9216_units_and_1000_regions_has_110_megabytes() -> None:
    found = top_of([], 9216, 1000, np.dtype(np.float16))
    lists = found.values.nbytes + found.images.nbytes + found.rows.nbytes
    assert lists == 9216 * 1000 * 12 <= 111e6


@given(st.integers(0, 2**32 - 1), st.integers(0, 150), st.sampled_from([0.0, 0.1, 0.5]))
def test_overlap_bits_are_those_of_every_pair(seed: int, n: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 20, (n, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 12, (n, 2))], axis=1).astype(np.float32)
    bits = overlap_bits(boxes, threshold)
    assert bits.shape == (n, -(-n // 64))
    flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, :n].astype(bool)
    sides = boxes.astype(np.float64)
    areas = (sides[:, 2:] - sides[:, :2]).prod(axis=1)
    low, high = np.maximum(sides[:, None, :2], sides[:, :2]), np.minimum(sides[:, None, 2:], sides[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    with np.errstate(invalid="ignore"):
        expected = shared / (areas[:, None] + areas - shared) > threshold
    np.testing.assert_array_equal(flags, expected | np.eye(n, dtype=bool))
    if n:
        assert np.abs(iou(boxes, boxes)[expected]).min(initial=1) >= threshold - 1e-6
    assert exceeds(7.0, 10.0, 0.7) == (7 / 10 > 0.7)
