"""Windows: against crops' own pooling, the scheme of p x p offsets in plain torch, and pixels that matter or do not."""

import re
from itertools import product

import numpy as np
import pytest
import torch
from network_parts import trunk_of
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import StageError
from stages.dense.windows import DenseWindows, LastPooling, windows_of
from stages.networks.network import build
from stages.networks.spec import InputSpec


def by_offsets(fmap: Tensor, kernel: int, stride: int, weights: Tensor) -> Tensor:
    """OverFeat's Figure 3: pool the map from each of p x p first cells on, convolve, and interleave what comes out.

    ``weights`` [N, c, g, g] are a fully connected layer's, as a convolution; for a map [c, h, w] -> [N, rows, columns].
    """
    n = weights.shape[-1]
    first = (n - 1) * stride + kernel  # cells of the smallest map with a window
    rows, columns = (length - first + 1 for length in fmap.shape[1:])
    out = torch.full((len(weights), rows, columns), torch.nan, dtype=fmap.dtype)
    for dy, dx in product(range(stride), repeat=2):
        pooled = functional.max_pool2d(fmap[None, :, dy:, dx:], kernel, stride)
        found = functional.conv2d(pooled, weights)[0]
        for y, x in product(range(found.shape[1]), range(found.shape[2])):
            out[:, stride * y + dy, stride * x + dx] = found[:, y, x]
    return out


@pytest.mark.parametrize(
    ("kernel", "stride", "grid"), [(3, 3, 5), (2, 2, 6), (3, 2, 6), (5, 2, 3), (2, 3, 2), (1, 1, 4)]
)
def test_windows_are_the_offsets_interleaved_at_every_size(kernel: int, stride: int, grid: int) -> None:
    generator = torch.Generator().manual_seed(0)
    windows = DenseWindows(0, 0, (grid - 1) * stride + kernel, LastPooling(grid, kernel, stride))
    weights = torch.randn(4, 3, grid, grid, dtype=torch.float64, generator=generator)
    for more in range(stride - 1, 3 * stride + 2):
        shape = windows.cells + more, windows.cells + stride - 1 + more % 3
        fmap = torch.randn(3, *shape, dtype=torch.float64, generator=generator)
        rows = windows(fmap[None])
        found = torch.einsum("yxcij,ncij->nyx", rows[0], weights)
        assert found.shape[1:] == (more + 1, stride + more % 3)
        torch.testing.assert_close(found, by_offsets(fmap, kernel, stride, weights), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("small", DenseWindows(64, 8, 8, LastPooling(4, 3, 2, 1))),
        ("alexnet", DenseWindows(224, 16, 13, LastPooling(6, 3, 2))),
        ("caffenet", DenseWindows(227, 16, 13, LastPooling(6, 3, 2))),
        ("zf5", DenseWindows(224, 16, 13, LastPooling(6, 3, 2))),
        ("zf", DenseWindows(224, 16, 15, LastPooling(6, 5, 2))),
        ("vgg16", DenseWindows(224, 16, 14, LastPooling(7, 2, 2))),
    ],
)
def test_the_windows_of_each_architecture(name: str, window: DenseWindows) -> None:
    network = build(name, 3, device="meta").eval()
    assert windows_of(network) == window
    fmap = torch.randn(1, 2, window.cells, window.cells, generator=torch.Generator().manual_seed(1))
    own = network.trunk.get_submodule(network.node("pool5"))(fmap)
    torch.testing.assert_close(window(fmap)[:, 0, 0], own, rtol=0, atol=0)  # one window, the crop's own pooling


@pytest.mark.parametrize(("kernel", "stride", "grid", "padding"), [(3, 3, 5, 0), (3, 2, 4, 1), (2, 2, 3, 0)])
def test_windows_copied_out_of_a_pooled_map_are_the_views(kernel: int, stride: int, grid: int, padding: int) -> None:
    pooling = LastPooling(grid, kernel, stride, padding)
    windows = DenseWindows(0, 0, pooling.cells, pooling)
    fmap = torch.randn(1, 3, windows.cells + 4, windows.cells + 2, generator=torch.Generator().manual_seed(3))
    pooled = windows.pooled(fmap)[0].permute(1, 2, 0).numpy()
    rows, columns = np.array([4, 0, 2, 4]), np.array([2, 0, 1, 0])
    found = windows.gathered(pooled, rows, columns)
    assert (found.shape, str(found.dtype)) == ((4, 3 * grid * grid), "float32")
    views = windows(fmap)[0]
    for row, y, x in zip(found, rows, columns, strict=True):
        np.testing.assert_array_equal(row, views[y, x].flatten().numpy())
    assert windows.gathered(pooled, rows[:0], columns[:0]).shape == (0, 3 * grid * grid)


def test_a_pooling_that_rounds_up_reaches_past_the_crops_cells() -> None:
    windows = DenseWindows(0, 0, 6, LastPooling(3, 3, 2))  # ceil: cells 4, 5 and one that is not there
    fmap = torch.arange(49.0).reshape(1, 1, 7, 7)
    found = windows(fmap)
    assert found.shape == (1, 2, 2, 1, 3, 3)
    own = nn.MaxPool2d(3, 2, ceil_mode=True)
    torch.testing.assert_close(found[:, 1, 1], own(fmap[:, :, 1:, 1:]), rtol=0, atol=0)  # at the map's end
    assert found[0, 0, 0, 0, 2, 2] == 48 and own(fmap[:, :, :6, :6])[0, 0, 2, 2] == 40  # elsewhere with what is there


@pytest.mark.parametrize(("name", "level", "side"), [("squeezenet1_0", 4, 211), ("resnet50", 7, 224), ("small", 4, 64)])
def test_a_pyramid_of_one_level_that_divides_the_cells_is_a_pooling(name: str, level: int, side: int) -> None:
    spec = InputSpec(side)
    network = build(name, 3, pyramid=[level], fc=[8, 8], spec=spec, device="meta").eval()
    windows = windows_of(network)
    stride = windows.cells // level
    assert windows.pooling == LastPooling(level, stride, stride)
    fmap = torch.randn(2, 3, windows.cells, windows.cells, generator=torch.Generator().manual_seed(2))
    own = functional.adaptive_max_pool2d(fmap, level)
    torch.testing.assert_close(windows(fmap)[:, 0, 0], own, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "level", "side", "suggested"),
    [
        ("squeezenet1_0", 4, 224, [211, 275]),
        ("resnet50", 3, 224, [161, 257]),
        ("small", 3, 64, [41, 65]),
        ("alexnet", 6, 224, [207, 303]),
        ("squeezenet1_0", 50, 1024, [819]),  # 1,619 is more than any network takes
        ("squeezenet1_0", 64, 1024, []),
    ],
)
def test_a_level_that_does_not_divide_the_cells_is_refused_with_sides_that_do(
    name: str, level: int, side: int, suggested: list[int]
) -> None:
    with pytest.raises(StageError, match="no regular pooling") as caught:
        windows_of(build(name, 3, pyramid=[level], fc=[8, 8], spec=InputSpec(side), device="meta").eval())
    told = re.search(r"side_px: ([\d or]*\d)", str(caught.value))
    assert [int(px) for px in told.group(1).split(" or ")] == suggested if told else not suggested
    for px in suggested:
        windows_of(build(name, 3, pyramid=[level], fc=[8, 8], spec=InputSpec(px), device="meta").eval())
    cells = re.search(r"pyramid: \[(\d+)\]", str(caught.value))
    assert cells is not None
    windows_of(build(name, 3, pyramid=[int(cells.group(1))], fc=[8, 8], spec=InputSpec(side), device="meta").eval())


def test_crops_that_are_averaged_to_the_grid_are_refused_with_a_side_that_is_not() -> None:
    with pytest.raises(StageError, match=r"pools a crop to 7 x 7 values and averages .* 6 x 6 .*side_px: 223$"):
        windows_of(build("alexnet", 3, spec=InputSpec(260), device="meta").eval())
    assert windows_of(build("alexnet", 3, spec=InputSpec(223), device="meta").eval()).cells == 13


def test_networks_without_windows_are_refused() -> None:
    with pytest.raises(StageError, match="squeezenet1_0 has no fully connected layer that takes pool5"):
        windows_of(build("squeezenet1_0", 3, device="meta").eval())
    with pytest.raises(StageError, match=r"small has a pyramid of \[2, 1\], and windows need a regular last pooling"):
        windows_of(build("small", 3, pyramid=[2, 1], device="meta").eval())
    network = build("small", 3, device="meta").eval()
    trunk_of(network).features[12] = nn.AvgPool2d(3, 2, padding=1)
    with pytest.raises(StageError, match=r"small pools its last map by AvgPool2d.*need a regular max pooling"):
        windows_of(network)
