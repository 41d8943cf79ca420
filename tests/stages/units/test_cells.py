"""What a layer's cells see: the published numbers, and the pixels that do change a unit."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.networks.network import Network, build
from stages.units.cells import Cells, cells_of, evenly_spaced


def linear(name: str, grid: int | None) -> Network:
    """A network in which all that a cell sees adds to it."""
    network = build(name, 4, generator=torch.Generator().manual_seed(0), pool5_grid=grid).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.data.uniform_(1 / fan, 3 / fan, generator=torch.Generator().manual_seed(1))
            if module.bias is not None:
                module.bias.data.zero_()
    return network


@pytest.mark.parametrize(("name", "grid"), [("small", None), ("small", 3), ("squeezenet1_0", 3)])
def test_pixels_inside_a_field_change_its_units_and_others_do_not(name: str, grid: int | None) -> None:
    network = linear(name, grid)
    side = network.input.side_px
    cells = cells_of(network, "pool5", network.feature_dim("pool5"))
    assert cells is not None

    def units(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network.extract(image, ["pool5"])["pool5"].reshape(cells.channels, cells.rows, cells.columns)

    plain = torch.ones(1, 3, side, side)
    before = units(plain)
    for along, n in ((2, cells.rows), (3, cells.columns)):
        for cell in range(n):
            field = cells.fields[cell, 0, 1::2] if along == 2 else cells.fields[0, cell, 0::2]
            first, last = int(field[0]), int(field[1]) - 1
            for pixel, seen in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
                if not 0 <= pixel < side - 1:  # a convolution without padding may leave out the last pixel
                    continue
                changed = plain.clone()
                changed.narrow(along, pixel, 1).fill_(1e6)
                differs = (units(changed) != before).any(0).any(3 - along)
                assert bool(differs[cell]) == seen, (along, cell, pixel)


def test_caffenets_pool5_is_the_authors_explorers() -> None:
    network = build("caffenet", 4)
    cells = cells_of(network, "pool5", 9216)
    assert cells is not None and (cells.channels, cells.rows, cells.columns) == (256, 6, 6)
    assert cells.centre == (3, 3) and cells.unit(2, 5, 7) == 7 * 36 + 2 * 6 + 5
    centres = 33 + 32 * np.arange(6)
    expected = np.stack([centres - 97, centres + 98], axis=1).clip(0, 227)
    np.testing.assert_array_equal(cells.fields[0, :, 0::2], expected)
    np.testing.assert_array_equal(cells.fields[:, 4, 1::2], expected)
    drawn = evenly_spaced(cells, network, "pool5").fields
    centres = np.array([19, 57, 95, 132, 170, 208])
    np.testing.assert_array_equal(drawn[2, :, 0::2], np.stack([centres - 97, centres + 98], axis=1).clip(0, 227))
    np.testing.assert_array_equal(drawn[:, :, 1::2], drawn[:, :, 0::2].transpose(1, 0, 2))


def test_layers_without_cells_have_none() -> None:
    network = build("small", 4)
    assert cells_of(network, "fc6", network.feature_dim("fc6")) is None
    assert cells_of(network, "pool5", 12345) is None  # pooled otherwise, as SPP-net's
    assert cells_of(build("resnet50", 4), "pool5", 2048) is None  # one cell, which sees all
    conv = cells_of(network, "features.11", network.feature_dim("features.11"))
    assert isinstance(conv, Cells) and (conv.rows, conv.columns) == (8, 8)
