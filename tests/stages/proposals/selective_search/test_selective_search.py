"""Selective search as a whole: ranking, size filter, resizing, determinism, region masks."""

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.proposals.ranking import image_rng, order_candidates, to_image, working_size
from stages.proposals.region_arrays import region_arrays
from stages.proposals.selective_search.search import Proposals, candidates, grow, selective_search
from stages.regions.masks import region_mask

FAST = {
    "k": (50, 100),
    "colors": ("hsv", "lab"),
    "strategies": ("color_texture_size_fill", "texture_size_fill"),
    "sigma": 0.8,
    "min_region_px": None,
    "min_side_px": 20,
    "resize_width_px": None,
    "max_proposals": 2000,
}


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(height, width, 3)), (5, 5, 0)) + 0.01 * rng.normal(size=(height, width, 3))
    return np.ascontiguousarray(((field - field.min()) / np.ptp(field) * 255).astype(np.uint8))


def search(pixels: NDArray[np.uint8], seed: int = 0, **changes: Any) -> Proposals:
    return selective_search(pixels, np.random.default_rng(seed), **{**FAST, **changes})


def test_candidates_are_all_merges_of_all_hierarchies_and_the_leaves_once() -> None:
    forests = grow(photo(60, 70), (50, 100), ("hsv", "lab"), ("color_texture_size_fill", "texture_size_fill"), 0.8)
    boxes, priorities, regions = candidates(forests)
    counts = [len(f.segmentation.sizes) for f in forests]
    assert len(forests) == 4
    assert len(boxes) == sum(2 * (n - 1) + n for n in counts)
    assert len(np.unique(regions, axis=0)) == len(regions)
    for i, n in enumerate(counts):
        for hierarchy in (2 * i, 2 * i + 1):
            rows = regions[:, 0] == hierarchy
            by_node = dict(zip(regions[rows, 1].tolist(), priorities[rows].tolist(), strict=True))
            assert by_node[2 * n - 2] == 1  # the root
            assert by_node[n] == n - 1  # the first merge
            if hierarchy % 2 == 0:
                assert {by_node[leaf] for leaf in range(n)} == {n}
    roots = [b for b, p in zip(boxes.tolist(), priorities, strict=True) if p == 1]
    assert roots == [[0, 0, 70, 60]] * 8


def test_ranking_filters_dedupes_and_sorts_by_random_priority() -> None:
    class Fixed:
        def random(self, n: int) -> NDArray[np.float64]:
            return np.array([0.9, 0.5, 0.1, 0.5, 0.2])

    rng: Any = Fixed()
    boxes = np.array([[0, 0, 30, 30], [0, 0, 19, 40], [5, 5, 30, 30], [0, 0, 30, 30], [0, 0, 20, 20]])
    priorities = np.array([1.0, 1.0, 20.0, 3.0, 5.0])  # products: .9, .5 (too narrow), 2, 1.5 (repeats the first), 1
    assert order_candidates(boxes, priorities, rng, 20, 10).tolist() == [0, 4, 2]
    assert order_candidates(boxes, priorities, rng, 20, 2).tolist() == [0, 4]


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.integers(0, 40), st.sampled_from([1, 20]), st.sampled_from([None, 0, 1, 5, 100]))
def test_ranking_is_the_authors_loop_and_nothing_is_cut_unless_asked(
    seed: int, n: int, min_side: int, limit: int | None
) -> None:
    """selective_search_boxes.m: priority times U(0, 1), rising; then short sides out; then the first of equals."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 3, (n, 2)) * 7
    boxes = np.concatenate([corner, corner + rng.choice([1, 19, 20, 21, 40], (n, 2))], 1).astype(np.int32)
    priorities = rng.integers(1, 30, n).astype(np.float64)
    drawn = np.random.default_rng(seed).random(n)
    expected, rows = [], []
    for i in sorted(range(n), key=lambda i: priorities[i] * drawn[i]):
        x1, y1, x2, y2 = boxes[i].tolist()
        inclusive = (x1 + 1, y1 + 1, x2, y2)  # their 1-based corners
        if inclusive[2] - inclusive[0] + 1 < min_side or inclusive[3] - inclusive[1] + 1 < min_side:
            continue
        if inclusive not in rows:
            rows.append(inclusive)
            expected.append(i)
    found = order_candidates(boxes, priorities, np.random.default_rng(seed), min_side, limit)
    assert found.tolist() == (expected if limit is None else expected[:limit])


@settings(max_examples=80)
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([100, 500]), st.integers(0, 2**32))
def test_boxes_come_back_by_the_authors_formula(width: int, height: int, searched: int, seed: int) -> None:
    """(b - 1) * W / 500 + 1 for each 1-based inclusive corner, not rounded; cut to the image, which is ours."""
    at = working_size(width, height, searched)
    assert at == (searched, math.ceil(Fraction(height * searched, width)))  # imresize: the other side rounded up
    rng = np.random.default_rng(seed)
    x, y = (np.sort(rng.integers(0, side, (6, 2)), axis=1) for side in at)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1] + 1, y[:, 1] + 1], axis=1).astype(np.int32)
    for box, found in zip(boxes.tolist(), to_image(boxes, width, height, searched).tolist(), strict=True):
        one_based = (box[0] + 1, box[1] + 1, box[2], box[3])
        theirs = [(b - 1) * width / searched + 1 for b in one_based]
        ours = [theirs[0] - 1, theirs[1] - 1, min(theirs[2], width), min(theirs[3], height)]
        assert found == pytest.approx(ours, rel=1e-6, abs=1e-4)


def test_resizing_and_mapping_back_follow_the_authors_arithmetic() -> None:
    assert working_size(1000, 501, 500) == (500, 251)
    assert working_size(250, 100, 500) == (500, 200)
    assert working_size(333, 77, None) == (333, 77)
    # 1-based inclusive [11 21 60 80] at width 500 of a 1000 px image: (b - 1) * 2 + 1 = [21 41 119 159]
    assert to_image(np.array([[10, 20, 60, 80]]), 1000, 800, 500).tolist() == [[20, 40, 119, 159]]
    # Enlarged images: the last pixel would map to half a pixel outside
    assert to_image(np.array([[0, 0, 500, 500]]), 250, 250, 500).tolist() == [[0, 0, 250, 250]]


def test_the_order_depends_on_the_seed_and_the_image_only() -> None:
    a, b = "1f" * 32, "2f" * 32
    assert image_rng(3, a).random() == image_rng(3, a).random()
    assert len({image_rng(seed, sha).random() for seed in (3, 4) for sha in (a, b)}) == 4


def test_threads_and_other_images_change_nothing() -> None:
    images = [photo(90, 110, seed) for seed in range(3)]
    alone = [search(image, seed=i) for i, image in enumerate(images)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(search, image, i) for _ in range(3) for i, image in enumerate(images)]
        together = [job.result() for job in jobs]
    for i, result in enumerate(together):
        np.testing.assert_array_equal(result.boxes, alone[i % 3].boxes)
        np.testing.assert_array_equal(result.regions, alone[i % 3].regions)


@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 9),
    side=st.integers(1, 30),
    resize=st.sampled_from([None, 64]),
    limit=st.integers(1, 80),
)
def test_boxes_are_inside_large_enough_distinct_and_repeatable(
    height: int, width: int, seed: int, side: int, resize: int | None, limit: int
) -> None:
    pixels = photo(height, width, seed)
    changes = {"min_side_px": side, "resize_width_px": resize, "max_proposals": limit, "k": (20,), "colors": ("lab",)}
    found = search(pixels, seed, **changes)
    boxes = found.boxes
    assert boxes.dtype == np.float32
    assert len(boxes) == len(found.regions) <= limit
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    if resize is None:
        assert ((boxes[:, 2:] - boxes[:, :2]) >= side).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    np.testing.assert_array_equal(search(pixels, seed, **changes).boxes, boxes)


@pytest.mark.parametrize("resize", [None, 120])
def test_the_mask_of_a_region_fills_its_box(resize: int | None) -> None:
    pixels = photo(75, 100, 1)
    found = search(pixels, resize_width_px=resize, k=(20, 50))
    arrays = region_arrays(found)
    assert arrays["labels"].dtype == np.uint8
    assert len(found.boxes) > 50
    for i in range(len(found.boxes)):
        mask = region_mask(arrays, i)
        assert mask.shape == found.shape
        ys, xs = np.nonzero(mask)
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
        np.testing.assert_array_equal(to_image(box, 100, 75, found.shape[1])[0], found.boxes[i])


def test_masks_of_a_merge_are_the_union_of_its_parts() -> None:
    arrays = region_arrays(search(photo(60, 80, 2), min_side_px=1, k=(20,)))
    n = arrays["hierarchies"][0, 2]
    parents = arrays["parents"][: 2 * n - 1]
    everything = {**arrays, "boxes": np.zeros((2 * n - 1, 4)), "regions": np.array([[0, i] for i in range(2 * n - 1)])}
    masks = [region_mask(everything, i) for i in range(2 * n - 1)]
    for node in range(n, 2 * n - 1):
        a, b = np.flatnonzero(parents == node)
        assert not (masks[a] & masks[b]).any()
        np.testing.assert_array_equal(masks[a] | masks[b], masks[node])
    assert masks[-1].all()


def test_a_mask_out_of_range_is_an_error() -> None:
    with pytest.raises(IndexError, match="proposal 9 of 0"):
        region_mask({"boxes": np.zeros((0, 4))}, 9)


def test_a_uniform_image_has_one_proposal_and_a_single_pixel_none() -> None:
    assert search(np.full((40, 50, 3), 9, np.uint8)).boxes.tolist() == [[0, 0, 50, 40]]
    assert search(np.full((1, 1, 3), 9, np.uint8)).boxes.shape == (0, 4)
    arrays = region_arrays(search(np.full((1, 1, 3), 9, np.uint8)))
    assert arrays["labels"].shape == (4, 1, 1)


def test_the_least_region_is_k_or_the_parameter() -> None:
    pixels = photo(60, 70)
    own = search(pixels, k=(20,)).forests[0].segmentation.sizes
    given = search(pixels, k=(20,), min_region_px=200).forests[0].segmentation.sizes
    assert 20 <= own.min() < 200 <= given.min()


def test_quality_mode_adds_hierarchies() -> None:
    pixels = photo(60, 70)
    more = search(
        pixels,
        k=(50, 100, 150),
        colors=("hsv", "lab", "rgi", "h", "intensity", "rgb"),
        strategies=("color_texture_size_fill", "texture_size_fill", "fill", "size"),
    )
    assert len(region_arrays(more)["hierarchies"]) == 3 * 6 * 4
    assert len(more.boxes) > len(search(pixels).boxes)
