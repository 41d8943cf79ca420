"""The segmentation against a slow Felzenszwalb-Huttenlocher written from the paper, on the same weights and order."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from skimage.segmentation import felzenszwalb
from sklearn.datasets import load_sample_images
from sklearn.metrics import adjusted_rand_score

from stages.proposals.selective_search.segmentation import adjacency, pixel_graph, segment, smooth

STEPS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # row, column: right, down, down-right, up-right


def photo(height: int, width: int, seed: int = 0, blur: float = 2.0) -> NDArray[np.uint8]:
    """A smooth random uint8 image with edges."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(height, width, 3)), (blur, blur, 0))
    return np.ascontiguousarray(((field - field.min()) / np.ptp(field) * 255).astype(np.uint8))


def slow_segment(smoothed: NDArray[np.float32], k: float, min_px: int) -> NDArray[np.int64]:
    """Labels by the paper's algorithm with sets of pixels; weights rounded to 1/128 as the package documents."""
    _, height, width = smoothed.shape
    edges = []
    for y in range(height):
        for x in range(width):
            for d, (dy, dx) in enumerate(STEPS):
                if 0 <= y + dy < height and x + dx < width:
                    difference = smoothed[:, y, x] - smoothed[:, y + dy, x + dx]
                    r, g, b = (v * v for v in difference)  # float32, summed in this order
                    weight = int(np.sqrt(r + g + b) * np.float32(128) + np.float32(0.5))
                    edges.append((weight, y * width + x, d, (y + dy) * width + x + dx))
    edges.sort()
    region = {p: frozenset([p]) for p in range(height * width)}
    limit = {region[p]: np.float32(k) for p in region}

    def join(a: frozenset[int], b: frozenset[int]) -> frozenset[int]:
        union = a | b
        for p in union:
            region[p] = union
        return union

    for weight, p, _, q in edges:
        a, b = region[p], region[q]
        if a != b and np.float32(weight) / np.float32(128) <= min(limit[a], limit[b]):
            limit[join(a, b)] = np.float32(weight) / np.float32(128) + np.float32(k) / np.float32(len(a) + len(b))
    for _, p, _, q in edges:
        a, b = region[p], region[q]
        if a != b and min(len(a), len(b)) < min_px:
            join(a, b)
    names: dict[frozenset[int], int] = {}
    flat = [names.setdefault(region[p], len(names)) for p in range(height * width)]
    return np.array(flat).reshape(height, width)


@pytest.mark.parametrize("shape", [(17, 23), (1, 30), (30, 1), (2, 2)])
@pytest.mark.parametrize(("k", "min_px"), [(20, 1), (60, 8), (200, 60)])
def test_segments_like_the_slow_version(shape: tuple[int, int], k: int, min_px: int) -> None:
    pixels = photo(*shape, seed=k)
    found = segment(pixel_graph(pixels, 0.8), k, min_px)
    np.testing.assert_array_equal(found.labels, slow_segment(smooth(pixels, 0.8), k, min_px))


def test_the_comparison_above_is_not_trivial() -> None:
    counts = [len(segment(pixel_graph(photo(17, 23, seed=k), 0.8), k, n).sizes) for k, n in ((20, 1), (60, 8))]
    assert counts == [97, 7]


def test_agrees_with_skimage_on_well_separated_regions() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 20:40] = (200, 30, 30)
    pixels[15:30, 40:] = (20, 220, 90)
    ours = segment(pixel_graph(pixels, 0.01), 10, 5).labels
    theirs = felzenszwalb(pixels, scale=10, sigma=0, min_size=5)
    both = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
    assert ours.max() + 1 == theirs.max() + 1 == both.shape[1] == 5


@pytest.mark.parametrize("photograph", [0, 1])
@pytest.mark.parametrize(("k", "min_px"), [(50, 50), (100, 100), (200, 100)])
def test_agrees_with_skimage_on_photographs(photograph: int, k: int, min_px: int) -> None:
    """They differ in the order of equal weights and in our rounding only; 1 would be the same partition.

    OpenCV's graph segmentation is no judge: on these it agrees with scikit-image's to 0.6 to 0.9.
    """
    pixels = np.ascontiguousarray(load_sample_images().images[photograph][100:220, 200:380])
    pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0), np.uint8)
    ours = segment(pixel_graph(pixels, 0.01), k, min_px).labels
    theirs = felzenszwalb(pixels, scale=k, sigma=0, min_size=min_px)
    assert ours.max() > 30
    assert adjusted_rand_score(ours.ravel(), theirs.ravel()) > 0.97
    assert abs(int(ours.max()) - int(theirs.max())) <= 3


def test_smoothing_is_the_truncated_gaussian_with_replicated_border() -> None:
    pixels = photo(20, 25, seed=1, blur=0.5)
    expected = gaussian_filter(pixels.astype(np.float64), (0.8, 0.8, 0), mode="nearest", radius=(4, 4, 0))
    np.testing.assert_allclose(smooth(pixels, 0.8), expected.transpose(2, 0, 1), atol=1e-3)


def test_a_uniform_image_is_one_region() -> None:
    found = segment(pixel_graph(np.full((7, 9, 3), 40, np.uint8), 0.8), 50, 50)
    assert (found.labels == 0).all()
    assert found.sizes.tolist() == [63]
    assert found.boxes.tolist() == [[0, 0, 9, 7]]


def test_a_single_pixel_is_one_region() -> None:
    found = segment(pixel_graph(np.full((1, 1, 3), 40, np.uint8), 0.8), 50, 50)
    assert found.labels.tolist() == [[0]]
    assert found.boxes.tolist() == [[0, 0, 1, 1]]


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    seed=st.integers(0, 99),
    k=st.integers(1, 300),
    n=st.integers(1, 60),
)
def test_regions_are_connected_counted_boxed_and_not_too_small(
    height: int, width: int, seed: int, k: int, n: int
) -> None:
    pixels = photo(height, width, seed, blur=1.0)
    found = segment(pixel_graph(pixels, 0.8), k, n)
    assert found.labels.shape == (height, width)
    assert np.unique(found.labels).tolist() == list(range(len(found.sizes)))
    for i in range(len(found.sizes)):
        mask = found.labels == i
        ys, xs = np.nonzero(mask)
        assert mask.sum() == found.sizes[i] >= min(n, height * width)
        assert found.boxes[i].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert label(mask, np.ones((3, 3)))[1] == 1


def test_adjacency_is_four_connected_and_lists_each_pair_once() -> None:
    labels = np.array([[0, 0, 1], [2, 0, 1], [2, 2, 3]], np.int32)  # 1 and 2 never touch; 0 and 3 only by a corner
    assert sorted(adjacency(labels, 4).tolist()) == [[0, 1], [0, 2], [1, 3], [2, 3]]
    assert adjacency(np.zeros((4, 4), np.int32), 1).shape == (0, 2)
