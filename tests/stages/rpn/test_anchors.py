"""Anchors against the authors' table, torchvision's generator, and pixels that move a cell."""

import numpy as np
import pytest
import torch
from network_parts import trunk_of
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from cache.errors import StageError
from stages.networks.architectures import ArchitectureName
from stages.networks.network import build
from stages.networks.receptive_field import Axis, Geometry, map_geometry
from stages.rpn.anchors import Anchors, Places, authors_places, inside, own_places

PAPER = Anchors((128, 256, 512), (0.5, 1, 2))
# What py-faster-rcnn's generate_anchors computes: 0-based, inclusive, around pixel coordinate 7.5.
AUTHORS = [
    [-84, -40, 99, 55],
    [-176, -88, 191, 103],
    [-360, -184, 375, 199],
    [-56, -56, 71, 71],
    [-120, -120, 135, 135],
    [-248, -248, 263, 263],
    [-36, -80, 51, 95],
    [-80, -168, 95, 183],
    [-168, -344, 183, 359],
]
VGG = Places(8, 8, 16, 16)


def test_the_authors_nine() -> None:
    expected = np.asarray(AUTHORS) + np.array([0, 0, 1, 1]) - 8
    np.testing.assert_array_equal(PAPER.shapes(), expected)
    np.testing.assert_array_equal(PAPER.grid((1, 1), VGG), expected + 8)
    assert len(PAPER) == 9


def test_as_many_on_vggs_map_as_the_authors_have() -> None:
    grid = PAPER.grid((37, 62), VGG)
    assert len(grid) == 20_646
    assert inside(grid, 1000, 600, 0).sum() == 8_151
    assert inside(grid, 1000, 600, None).all()
    inclusive = grid - [0, 0, 1, 1]  # the authors' own test, on their pixels
    theirs = (inclusive[:, :2] >= 0).all(1) & (inclusive[:, 2] < 1000) & (inclusive[:, 3] < 600)
    np.testing.assert_array_equal(inside(grid, 1000, 600, 0), theirs)


def test_a_border_lets_some_cross() -> None:
    boxes = np.array([[-3.0, 0, 10, 10], [0, 0, 23, 10], [0, -4, 10, 10], [0, 0, 10, 13.5]])
    assert inside(boxes, 20, 10, 3).tolist() == [True, True, False, False]


def test_order_is_row_column_shape() -> None:
    anchors = Anchors((32, 64), (1, 2, 3), "exact")
    grid = anchors.grid((4, 5), Places(3, 7, 10, 20)).reshape(4, 5, 6, 4)
    for y in range(4):
        for x in range(5):
            np.testing.assert_allclose(grid[y, x] - np.tile([3 + 10 * x, 7 + 20 * y], 2), anchors.shapes())
    sides = anchors.shapes()[:, 2:] * 2
    np.testing.assert_allclose(sides.prod(axis=1), np.tile([32.0**2, 64.0**2], 3))
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [1, 1, 2, 2, 3, 3])


def test_exact_ones_are_torchvisions_once_rounded() -> None:
    """torchvision's stand at (0, 0) and have whole half sides."""
    sizes, ratios = (40, 100, 200), (0.5, 1.0, 2.0, 3.0)
    theirs = AnchorGenerator((sizes,), (ratios,))(
        ImageList(torch.zeros(1, 3, 320, 480), [(320, 480)]), [torch.zeros(1, 8, 20, 30)]
    )[0]
    ours = Anchors(sizes, ratios, "exact")
    np.testing.assert_array_equal(ours.shapes().round(), theirs[: len(ours)].numpy())
    shifted = np.tile(ours.grid((20, 30), Places(0, 0, 16, 16)) - ours.grid((20, 30), Places(0, 0, 0, 0)), 1)
    np.testing.assert_array_equal(shifted + np.tile(ours.shapes().round(), (600, 1)), theirs.numpy())


@pytest.mark.parametrize("ratio", [2000.0, 1e-4])
def test_a_ratio_that_rounds_to_nothing_is_refused(ratio: float) -> None:
    with pytest.raises(StageError, match=f"rpn.ratios: {ratio:g} rounded .* without area; set rpn.anchors to exact"):
        Anchors((128,), (1.0, ratio)).shapes()
    assert (Anchors((128,), (1.0, ratio), "exact").shapes()[:, 2:] > 0).all()


def test_ratios_that_round_to_one_are_refused() -> None:
    with pytest.raises(StageError, match=r"rpn.ratios: 1 and 1\.01 rounded .* the same anchors twice"):
        Anchors((128,), (1.0, 1.01)).shapes()
    assert len(np.unique(Anchors((128,), (1.0, 1.01), "exact").shapes(), axis=0)) == 2


def test_vggs_cells_lie_where_the_authors_put_them_and_zfs_half_a_stride_before() -> None:
    vgg = map_geometry(build("vgg16", 2, device="meta"))
    assert own_places(vgg) == authors_places(vgg) == VGG
    zf = Geometry(Axis(16, -85, 85), Axis(16, -85, 85))  # Faster R-CNN's paddings: centres at 16 i
    assert own_places(zf) == Places(0.5, 0.5, 16, 16)
    assert authors_places(zf) == VGG


@pytest.mark.parametrize("name", ["small", "zf5", "zf", "squeezenet1_0"])
def test_own_places_are_the_middle_of_the_pixels_that_move_a_cell(name: ArchitectureName) -> None:
    """Perturb pixels: those that change a cell of the map span a box around its centre, edges counted as here."""
    places = own_places(map_geometry(build(name, 2, device="meta")))
    network = build(name, 2, device="cpu").eval()
    features = trunk_of(network).features  # without what would hide a pixel at a field's rim: a maximum, a ReLU
    for at, module in enumerate(features):
        if isinstance(module, torch.nn.MaxPool2d):
            features[at] = torch.nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
    for module in features.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    image = torch.rand(1, 3, 360, 400, generator=torch.Generator().manual_seed(0), requires_grad=True)
    conv5 = network.graph([network.conv5])(image)[network.conv5]
    y, x = conv5.shape[2] // 2, conv5.shape[3] // 2
    (seen,) = torch.autograd.grad(conv5[0, :, y, x].sum(), image)
    rows = torch.nonzero(seen.abs().sum((0, 1, 3))).flatten().tolist()
    columns = torch.nonzero(seen.abs().sum((0, 1, 2))).flatten().tolist()
    found = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
    expected = places.x0 + places.stride_x * x, places.y0 + places.stride_y * y
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_head_sees_as_far_as_the_paper_says() -> None:
    """228 px for VGG16."""
    axis = map_geometry(build("vgg16", 2, device="meta")).x.slid(3, 1, 1)
    assert axis.last - axis.first + 1 == 228


def test_a_strip_has_one_column_of_cells() -> None:
    """An image of 20 x 2,000 px."""
    grid = Anchors((16,), (1,)).grid((125, 1), VGG)
    assert len(grid) == 125
    np.testing.assert_array_equal(grid[:, 1], 16.0 * np.arange(125))
    assert inside(grid, 20, 2000, 0).all() and not inside(grid, 15, 2000, 0).any()
