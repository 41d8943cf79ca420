"""RoI pooling against torchvision and slow transcriptions of Caffe's, bit for bit, and of RoIAlign."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align, roi_pool

from stages.fast.pooling import PoolingKind, RoiPooling
from stages.networks.network import build
from stages.networks.receptive_field import Axis, Geometry, map_geometry

STRIDE16 = Geometry(Axis(16, 0, 0), Axis(16, 0, 0))  # cell i lies at pixel 16 i


def fmap(seed: int, c: int, h: int, w: int) -> torch.Tensor:
    """Few different values, so that ties within a bin are frequent, some negative."""
    drawn = np.random.default_rng(seed).integers(-9, 30, (1, c, h, w)).astype(np.float32)
    return torch.from_numpy(drawn)


def boxes_in(seed: int, n: int, width: int, height: int) -> np.ndarray:
    """Whole and broken boxes of an image, of which some touch its right and bottom edges."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.uniform(0, 1, (n, 2, 2)), axis=1) * (width, height)
    boxes = ends.reshape(n, 4)
    whole = rng.random(n) < 0.5
    boxes[whole] = np.round(boxes[whole])
    boxes[rng.random(n) < 0.4, 2] = width
    boxes[rng.random(n) < 0.4, 3] = height
    return boxes.astype(np.float32)


def slow(fmap: np.ndarray, corners: np.ndarray, k: int, spatial_scale: float) -> np.ndarray:
    """Caffe's roi_pooling_layer.cu as FACTS describe it: inclusive corners, float32, box by box and bin by bin."""
    c, h, w = fmap.shape

    def rounded(value: np.float32) -> int:
        return int(math.copysign(math.floor(abs(float(value)) + 0.5), float(value)))

    out = np.zeros((len(corners), c, k, k), np.float32)
    for r, corner in enumerate(corners):
        x1, y1, x2, y2 = (rounded(v * np.float32(spatial_scale)) for v in corner)
        bin_h = np.float32(max(y2 - y1 + 1, 1)) / np.float32(k)
        bin_w = np.float32(max(x2 - x1 + 1, 1)) / np.float32(k)
        for i in range(k):
            for j in range(k):
                top = min(max(math.floor(np.float32(i) * bin_h) + y1, 0), h)
                bottom = min(max(math.ceil(np.float32(i + 1) * bin_h) + y1, 0), h)
                left = min(max(math.floor(np.float32(j) * bin_w) + x1, 0), w)
                right = min(max(math.ceil(np.float32(j + 1) * bin_w) + x1, 0), w)
                if bottom > top and right > left:
                    out[r, :, i, j] = fmap[:, top:bottom, left:right].max(axis=(1, 2))
    return out


@given(st.integers(0, 10**6), st.sampled_from([1, 3, 6, 7]), st.sampled_from([8, 12, 16]), st.sampled_from([0.7, 1.6]))
@settings(deadline=None, max_examples=40)
def test_as_torchvision_and_caffe_to_the_bit(seed: int, k: int, stride: int, scale: float) -> None:
    maps, boxes = fmap(seed, 5, 11, 14), boxes_in(seed, 12, round(14 * stride / scale), round(11 * stride / scale))
    pooling = RoiPooling(k, Geometry(Axis(stride), Axis(stride)))
    corners = ((boxes.astype(np.float64) - [0, 0, 1, 1]) * scale).astype(np.float32)
    pooled = pooling(maps, boxes, (scale, scale))
    assert torch.equal(pooled, roi_pool(maps, [torch.from_numpy(corners)], k, 1 / stride))
    np.testing.assert_array_equal(pooled.numpy(), slow(maps[0].numpy(), corners, k, 1 / stride))


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_gradients_are_torchvisions_to_the_bit(seed: int) -> None:
    boxes, pooling = boxes_in(seed, 12, 224, 176), RoiPooling(3, STRIDE16)
    gradients = []
    for pool in (
        lambda maps: pooling(maps, boxes),
        lambda maps: roi_pool(maps, [torch.from_numpy(pooling.corners(boxes))], 3, 1 / 16),
    ):
        maps = fmap(seed, 5, 11, 14).requires_grad_()
        weights = torch.randn(12, 5, 3, 3, generator=torch.Generator().manual_seed(seed))
        gradients.append(torch.autograd.grad((pool(maps) * weights).sum(), maps)[0])
    assert torch.equal(*gradients) and gradients[0].any()


def test_a_window_at_the_images_edge_leaves_the_map() -> None:
    # 800 x 600 px: the last pixels, 799 and 599, round to cells 50 and 37, and a map of 50 x 38 cells ends at 49 and 37
    maps = torch.arange(38 * 50, dtype=torch.float32).reshape(1, 1, 38, 50)
    edge = np.array([[688, 504, 800, 600]], np.float32)  # cells 43 to 50, of which the last is not there, and 32 to 37
    assert RoiPooling(1, STRIDE16)(maps, edge).item() == 37 * 50 + 49
    pooled = RoiPooling(8, STRIDE16)(maps, edge)[0, 0]
    assert pooled[0].tolist() == [32 * 50 + x for x in range(43, 50)] + [0]  # the last column's bins are empty
    np.testing.assert_array_equal(pooled, roi_pool(maps, [torch.tensor([[688.0, 504, 799, 599]])], 8, 1 / 16)[0, 0])


def test_the_authors_boxes_are_scaled_as_inclusive_ones() -> None:
    pooling = RoiPooling(7, STRIDE16)
    corners = pooling.corners(np.array([[10, 20, 110, 220]], np.float32), (1.5, 1.6))
    np.testing.assert_allclose(corners, [[15, 32, 163.5, 350.4]], rtol=1e-6)  # of their box [10, 20, 109, 219]
    aligned = RoiPooling(7, STRIDE16, "align").corners(np.array([[10, 20, 110, 220]], np.float32), (1.5, 1.6))
    np.testing.assert_allclose(aligned, [[15, 32, 165, 352]], rtol=1e-6)
    assert corners.dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2)])
def test_maps_smaller_than_the_grid_and_no_roi_at_all(shape: tuple[int, int]) -> None:
    h, w = shape
    maps, boxes = fmap(0, 3, h, w), boxes_in(1, 6, 16 * w, 16 * h)
    pooling = RoiPooling(7, STRIDE16)
    assert torch.equal(pooling(maps, boxes), roi_pool(maps, [torch.from_numpy(pooling.corners(boxes))], 7, 1 / 16))
    assert pooling(maps, boxes[:0]).shape == (0, 3, 7, 7)
    none = maps.clone().requires_grad_()
    assert not torch.autograd.grad(pooling(none, boxes[:0]).sum(), none)[0].any()


def test_channels_last_and_half_precision_maps() -> None:
    maps, boxes = fmap(3, 5, 11, 14), boxes_in(3, 12, 224, 176)
    pooling = RoiPooling(7, STRIDE16)
    plain = pooling(maps, boxes)
    assert torch.equal(pooling(maps.contiguous(memory_format=torch.channels_last), boxes), plain)
    assert torch.equal(pooling(maps.bfloat16(), boxes), plain) and plain.dtype == torch.float32


def slowly_aligned(fmap: np.ndarray, corners: np.ndarray, k: int, spatial_scale: float) -> np.ndarray:
    """RoIAlign (He et al. 2017): the mean of 2 x 2 bilinear samples a bin, cell i's middle at i + 0.5."""
    c, h, w = fmap.shape

    def sample(y: float, x: float) -> np.ndarray:
        if y < -1 or y > h or x < -1 or x > w:  # over a cell beyond the map
            return np.zeros(c)
        y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
        top, left = min(int(y), h - 1), min(int(x), w - 1)
        bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
        upper = fmap[:, top, left] * (1 - (x - left)) + fmap[:, top, right] * (x - left)
        lower = fmap[:, bottom, left] * (1 - (x - left)) + fmap[:, bottom, right] * (x - left)
        return np.asarray(upper * (1 - (y - top)) + lower * (y - top))

    out = np.zeros((len(corners), c, k, k))
    for r, corner in enumerate(corners.astype(np.float64)):
        x1, y1, x2, y2 = corner * spatial_scale - 0.5
        for i in range(k):
            for j in range(k):
                ys = [y1 + (y2 - y1) * (i + part) / k for part in (0.25, 0.75)]
                xs = [x1 + (x2 - x1) * (j + part) / k for part in (0.25, 0.75)]
                out[r, :, i, j] = np.mean([sample(y, x) for y in ys for x in xs], axis=0)
    return out


@given(st.integers(0, 10**6), st.sampled_from([1, 6, 7]))
@settings(deadline=None, max_examples=10)
def test_aligned_as_its_paper_says(seed: int, k: int) -> None:
    boxes, maps = boxes_in(seed, 9, 140, 110), fmap(seed, 4, 11, 14)
    found = RoiPooling(k, STRIDE16, "align")(maps, boxes, (1.6, 1.6))
    expected = slowly_aligned(maps[0].double().numpy(), boxes.astype(np.float64) * 1.6, k, 1 / 16)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3)


@given(st.integers(0, 10**6), st.sampled_from([1, 6, 7]))
@settings(deadline=None, max_examples=20)
def test_aligned_as_torchvision_with_gradients(seed: int, k: int) -> None:
    boxes, scale = boxes_in(seed, 9, 140, 110), (1.6, 1.6)
    pooling = RoiPooling(k, STRIDE16, "align")
    rois = torch.from_numpy((boxes.astype(np.float64) * 1.6).astype(np.float32))
    found = []
    for pool in (lambda maps: pooling(maps, boxes, scale), lambda maps: roi_align(maps, [rois], k, 1 / 16, 2, True)):
        maps = fmap(seed, 4, 11, 14).requires_grad_()
        pooled = pool(maps)
        found.append((pooled, torch.autograd.grad(pooled.square().sum(), maps)[0]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["max", "align"])
def test_rois_that_have_the_same_cells_are_found_and_no_result_changes(kind: PoolingKind) -> None:
    boxes = np.array([[16, 0, 65, 49], [20, 3, 62, 52], [16, 0, 65, 49], [0, 0, 30, 30], [24, 0, 65, 49]], np.float32)
    pooling, maps = RoiPooling(7, STRIDE16, kind), fmap(0, 4, 11, 14)
    rows, which = pooling.distinct(boxes)
    alike = {"max": [0, 0, 0, 1, 2], "align": [0, 1, 0, 2, 3]}[kind]
    assert len(rows) == max(alike) + 1
    assert (which[:, None] == which).tolist() == [[a == b for b in alike] for a in alike]
    assert torch.equal(pooling(maps, boxes[rows])[which], pooling(maps, boxes))


@given(st.integers(0, 10**6), st.sampled_from(["max", "align"]))
@settings(deadline=None, max_examples=20)
def test_distinct_rois_stand_for_all(seed: int, kind: PoolingKind) -> None:
    boxes = np.round(boxes_in(seed, 40, 60, 48) / 8) * 8
    boxes = np.concatenate([boxes, boxes[:5]])
    pooling, maps = RoiPooling(2, STRIDE16, kind), fmap(seed, 3, 6, 8)
    rows, which = pooling.distinct(boxes, (2.0, 2.0))
    assert torch.equal(pooling(maps, boxes[rows], (2.0, 2.0))[which], pooling(maps, boxes, (2.0, 2.0)))
    assert len(rows) <= 40 and (which[rows] == np.arange(len(rows))).all()


@pytest.mark.parametrize("name", ["zf5", "zf", "vgg16", "alexnet", "caffenet", "overfeat_accurate"])
@pytest.mark.parametrize("kind", ["max", "align"])
def test_own_cells_are_where_the_network_has_them(name: str, kind: PoolingKind) -> None:
    """A RoI of one pixel about the centre of cell (2, 3) pools just that cell."""
    geometry = map_geometry(build(name, 2, device="meta"))
    y, x = (axis.centre + axis.stride * i + 0.5 for axis, i in ((geometry.y, 2), (geometry.x, 3)))
    box = np.array([[x - 0.5, y - 0.5, x + 0.5, y + 0.5]], np.float32)
    maps = torch.arange(8 * 9, dtype=torch.float32).reshape(1, 1, 8, 9)
    assert RoiPooling(1, geometry, kind, "own")(maps, box).item() == pytest.approx(2 * 9 + 3, abs=1e-4)


def test_own_cells_are_the_authors_where_a_cell_lies_at_its_stride() -> None:
    boxes = boxes_in(0, 20, 224, 176)
    np.testing.assert_array_equal(
        RoiPooling(7, STRIDE16, cells="own").corners(boxes), RoiPooling(7, STRIDE16).corners(boxes)
    )


def test_strides_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one stride"):
        RoiPooling(7, Geometry(Axis(16), Axis(8)))
