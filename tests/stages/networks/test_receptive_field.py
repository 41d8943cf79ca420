"""Cells of feature maps: by hand for ZF-5, and for every network against the pixels that do change a cell."""

from collections.abc import Callable

import pytest
import torch
from network_parts import trunk_of
from torch import nn

from cache.errors import StageError
from stages.networks.architectures import ARCHITECTURES
from stages.networks.network import build
from stages.networks.receptive_field import Axis, Geometry, map_geometry

PUBLISHED = {  # stride and receptive field of conv5
    "alexnet": (16, 163),
    "vgg16": (16, 196),
    "caffenet": (16, 163),
    "squeezenet1_0": (16, 155),
    "resnet50": (32, 427),
}


def geometry(name: str) -> Geometry:
    return map_geometry(build(name, 5, device="meta"))


def test_zf5_as_the_authors_have_it() -> None:
    """A stride of 16 and the first centre at pixel 20; without its normalisations, which see a cell on each side."""
    axis = geometry("zf5").x
    assert geometry("zf5").y == axis
    assert (axis.stride, axis.centre) == (16, 20)
    assert axis.last - axis.first + 1 == 139 + 2 * 2 + 2 * 8


def test_zf_as_faster_rcnn_s_authors_have_it() -> None:
    """Centres at 16 i, and 171 px seen by the RPN's 3 x 3 convolution (Ren et al. 2015, section 3.1)."""
    assert geometry("zf").x.centre == 0
    network = build("zf", 5, device="meta")
    for at in (2, 6):  # the paper does not count the normalisations
        trunk_of(network).features[at] = nn.ReLU()
    axis = map_geometry(network).x.slid(3, 1, 1)
    assert (axis.stride, axis.centre, axis.last - axis.first + 1) == (16, 0, 171)


@pytest.mark.parametrize(("name", "stride", "field"), [(n, *v) for n, v in PUBLISHED.items()])
def test_published_receptive_fields(name: str, stride: int, field: int) -> None:
    axis = geometry(name).y
    assert (axis.stride, axis.last - axis.first + 1) == (stride, field)


def conv_part(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network's part up to conv5 with random weights, none of the rest: [1, 3, h, w] -> [1, c, y, x]."""
    network = build(name, 5, device="meta")
    if name in ("zf5", "zf"):  # a maximum hides what its normalisation lowers; a mean over the same window does not
        for at in (3, 7):
            pool = trunk_of(network).features[at]
            mean = nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)
            trunk_of(network).features[at] = mean
    conv = network.graph([network.conv5]).to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for module in conv.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            # all that a cell sees adds to it: nothing is cut off by a ReLU or by other paths
            module.weight.data.uniform_(1 / fan, 3 / fan, generator=generator)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
    return lambda image: conv(image)[network.conv5]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cells_see_exactly_their_receptive_field(name: str) -> None:
    """Pixels at either end of a cell's field change it and those beyond do not; along both axes."""
    axis = geometry(name).x
    run = conv_part(name)
    cell = -(axis.first // axis.stride) + 1  # the first whose field is all inside
    first, last = axis.first + cell * axis.stride, axis.last + cell * axis.stride
    length = last + 3 * axis.stride
    narrow = max(3 * axis.stride + 16, 64)  # nothing is left of less behind valid convolutions of 7 x 7
    for along in (2, 3):
        shape = [1, 3, narrow, narrow]
        shape[along] = length
        image = torch.full(shape, 1.0)
        with torch.inference_mode():
            before = run(image)
            for pixel, seen in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
                changed = image.clone()
                changed.narrow(along, pixel, 1).fill_(1e6)
                differs = (run(changed) != before).any(1)[0].any(3 - along)  # of each cell along the axis
                assert bool(differs[cell]) == seen, (pixel, first, last)


def test_a_window_that_is_not_square() -> None:
    image = Axis()
    assert image.slid(3, 2, 1) == Axis(2, -1, 1)
    assert image.slid(3, 2, 1).slid(5, 1, 0, dilation=2) == Axis(2, -1, 1 + 8 * 2)
    network = build("small", 5, device="meta")
    trunk_of(network).features[0] = nn.Conv2d(3, 32, (5, 3), stride=(2, 1), padding=(2, 0), device="meta")
    found = map_geometry(network)
    assert (found.y.stride, found.x.stride) == (8, 4)
    assert found.y != found.x
    assert isinstance(found, Geometry)


def test_a_layer_of_unknown_reach_is_named() -> None:
    network = build("small", 5, device="meta")
    trunk_of(network).features[2] = nn.AvgPool2d(3, 2)
    with pytest.raises(StageError, match="not known how far a AvgPool2d of network small sees"):
        map_geometry(network)
