"""The fast pyramids, compiled and as tensor operations, against a slow obvious one and against torch's own pooling."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.features.spp.pooling import bin_count, pool_windows
from stages.features.spp.pooling_torch import pool_windows_torch
from stages.networks.pyramid import PyramidPool
from stages.networks.settings import Pooling

Case = tuple[NDArray[np.float32], NDArray[np.int32], tuple[int, ...]]  # map, windows, levels
Pool = Callable[..., NDArray[np.float32]]


def slow(
    fmap: NDArray[np.float32], windows: NDArray[np.int32], levels: Sequence[int], pooling: Pooling = "max"
) -> NDArray[np.float32]:
    """Bin by bin, value by value, as spm_pool_caffe_mex.cpp has it; averages in float64."""
    out: list[float] = []
    for y1, x1, y2, x2 in windows:
        part = fmap[y1:y2, x1:x2]
        h, w, channels = part.shape
        for n in levels:
            for c in range(channels):
                for i in range(n):
                    for j in range(n):
                        rows = slice(math.floor(i * h / n), math.ceil((i + 1) * h / n))
                        columns = slice(math.floor(j * w / n), math.ceil((j + 1) * w / n))
                        cells = part[rows, columns, c]
                        out.append(max(0.0, cells.max()) if pooling == "max" else cells.mean(dtype=np.float64))
    return np.array(out, np.float32).reshape(len(windows), -1)


def compiled(
    fmap: NDArray[np.float32], windows: NDArray[np.int32], levels: Sequence[int], pooling: Pooling = "max"
) -> NDArray[np.float32]:
    out = np.full((len(windows), fmap.shape[2] * bin_count(levels)), np.nan, np.float32)
    pool_windows(np.ascontiguousarray(fmap), windows, levels, out, pooling)
    return out


def gathered(
    fmap: NDArray[np.float32], windows: NDArray[np.int32], levels: Sequence[int], pooling: Pooling = "max"
) -> NDArray[np.float32]:
    pooled = pool_windows_torch(torch.from_numpy(fmap), torch.from_numpy(windows).long(), levels, pooling)
    return np.asarray(pooled.numpy(), np.float32)


FAST = {"compiled": compiled, "gathered": gathered}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    h, w, channels = (draw(st.integers(1, most)) for most in (17, 23, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fmap = rng.standard_normal((h, w, channels)).astype(np.float32)  # below 0 as well
    y, x = (np.sort(rng.integers(0, side + 1, (draw(st.integers(1, 6)), 2)), 1) for side in (h, w))
    n = min(len(y), len(x))
    windows = np.stack([y[:n, 0], x[:n, 0], y[:n, 1], x[:n, 1]], 1).astype(np.int32)
    windows[:, :2] = np.minimum(windows[:, :2], (h - 1, w - 1))
    windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2] + 1)
    levels = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    return fmap, windows, tuple(levels)


@pytest.mark.parametrize("fast", FAST.values(), ids=FAST)
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_equals_the_slow_obvious_one(fast: Pool, case: Case) -> None:
    assert np.array_equal(fast(*case), slow(*case))


@pytest.mark.parametrize("fast", FAST.values(), ids=FAST)
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_equals_torchs_adaptive_pooling_of_the_cropped_map(fast: Pool, case: Case) -> None:
    fmap, windows, levels = case
    fmap = np.abs(fmap)  # as after a ReLU: there the 0 that maxima start from changes nothing
    found = fast(fmap, windows, levels)
    layer = PyramidPool(levels)
    for row, (y1, x1, y2, x2) in zip(found, windows, strict=True):
        cropped = torch.from_numpy(fmap[y1:y2, x1:x2].transpose(2, 0, 1).copy())[None]
        expected = [torch.nn.functional.adaptive_max_pool2d(cropped, n).flatten() for n in levels]
        assert np.array_equal(row, torch.cat(expected).numpy())
        assert np.array_equal(row, layer(cropped)[0].numpy())


@pytest.mark.parametrize("fast", FAST.values(), ids=FAST)
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_averages_equal_the_slow_obvious_ones_and_torchs_adaptive_pooling(fast: Pool, case: Case) -> None:
    fmap, windows, levels = case
    found = fast(*case, "average")
    np.testing.assert_allclose(
        found, slow(*case, "average"), rtol=0, atol=2e-6
    )  # values about 1, some hundreds of them
    for row, (y1, x1, y2, x2) in zip(found, windows, strict=True):
        cropped = torch.from_numpy(fmap[y1:y2, x1:x2].transpose(2, 0, 1).copy())[None]
        expected = torch.cat([torch.nn.functional.adaptive_avg_pool2d(cropped, n).flatten() for n in levels])
        np.testing.assert_allclose(row, expected.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("fast", FAST.values(), ids=FAST)
def test_averages_by_hand(fast: Pool) -> None:
    """Columns 0..2 and 1..3 of a 2 x 3 window share the middle one."""
    fmap = np.full((4, 5, 1), 99, np.float32)
    fmap[1:3, 1:4, 0] = [[1, 2, 3], [4, 5, 9]]
    found = fast(fmap, np.array([[1, 1, 3, 4]], np.int32), (1, 2), "average")[0]
    assert found.tolist() == [4, 1.5, 2.5, 4.5, 7]


@pytest.mark.parametrize("fast", FAST.values(), ids=FAST)
def test_by_hand(fast: Pool) -> None:
    """A 2 x 3 window of two channels: levels in the order given, channel before row before column in each."""
    fmap = np.zeros((4, 5, 2), np.float32)
    fmap[1:3, 1:4, 0] = [[1, 2, 3], [4, 5, 6]]
    fmap[1:3, 1:4, 1] = [[-1, -2, -3], [-4, 7, -6]]
    fmap[0], fmap[3], fmap[:, 0], fmap[:, 4] = 99, 99, 99, 99  # around the window
    # columns 0..2 and 1..3 overlap in the middle one
    one, two = [6, 7], [2, 3, 5, 6, 0, 0, 7, 7]
    windows = np.array([[1, 1, 3, 4]], np.int32)
    assert fast(fmap, windows, (1, 2))[0].tolist() == one + two
    assert fast(fmap, windows, (2, 1))[0].tolist() == two + one


def test_the_papers_windows_on_a_map_of_13() -> None:
    """Windows and strides of the authors' prototxt, 6: 3/2, 3: 5/4, 1: 13/13; for 2 the paper's 7/6."""
    fmap = np.arange(13, dtype=np.float32)[:, None, None].repeat(13, 1)
    whole = np.array([[0, 0, 13, 13]], np.int32)
    for n, window, stride in ((6, 3, 2), (3, 5, 4), (2, 7, 6), (1, 13, 13)):
        last_rows = compiled(fmap, whole, (n,)).reshape(n, n)[:, 0]
        assert last_rows.tolist() == [i * stride + window - 1 for i in range(n)]


@pytest.mark.parametrize("window", [[-1, 0, 2, 2], [0, 0, 5, 2], [0, 0, 2, 7], [2, 0, 2, 2], [0, 3, 2, 2]])
def test_a_window_that_is_empty_or_outside_is_refused(window: list[int]) -> None:
    with pytest.raises(ValueError, match="in the map of 4 x 6 cells and not empty"):
        compiled(np.zeros((4, 6, 3), np.float32), np.array([window], np.int32), (1,))


def test_no_windows() -> None:
    assert compiled(np.zeros((4, 6, 3), np.float32), np.zeros((0, 4), np.int32), (1, 2)).shape == (0, 15)


def test_an_output_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"out must be \(1, 15\), not \(1, 14\)"):
        pool_windows(np.zeros((4, 6, 3), np.float32), np.array([[0, 0, 1, 1]]), (1, 2), np.zeros((1, 14), np.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_bits_of_the_cpu() -> None:
    rng = np.random.default_rng(0)
    fmap = rng.standard_normal((43, 58, 64)).astype(np.float32)
    first = rng.integers(0, (40, 55), (500, 2))
    windows = np.concatenate([first, first + 1 + rng.integers(0, (43, 58) - first)], 1).astype(np.int32)
    on_device = pool_windows_torch(torch.from_numpy(fmap).cuda(), torch.from_numpy(windows).long().cuda(), (1, 2, 3, 6))
    assert np.array_equal(on_device.cpu().numpy(), compiled(fmap, windows, (1, 2, 3, 6)))
