"""Networks in two parts: together they are the network, and what does not fit is told before any image is read."""

from typing import Any

import pytest
import torch

from cache.errors import StageError
from stages.features.spp.split import split
from stages.networks.network import Network, build


def network(name: str = "small", **options: Any) -> Network:
    return build(name, 5, generator=torch.Generator().manual_seed(0), **options).eval()


@pytest.mark.parametrize("levels", [(4,), (1, 2, 3, 6)])
def test_the_parts_are_the_network(levels: tuple[int, ...]) -> None:
    """The whole crop pooled by the parts is what the network gives; with levels [4] one without a pyramid, too."""
    whole = network(pyramid=None if levels == (4,) else levels)
    layers = ["pool5", "fc6", "fc8"]
    parts = split(whole, layers, levels, 64)
    assert parts.fc is not None
    assert parts.dims == {"pool5": parts.pooled, "fc6": 512, "fc8": 5}
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = whole.extract(x, layers)
        found = parts.fc(expected["pool5"])
        assert expected["pool5"].shape == (3, parts.pooled)
        for layer in ("fc6", "fc8"):
            torch.testing.assert_close(found[parts.nodes[layer]], expected[layer])
        assert parts.conv(x)["features.11"].shape == (3, 64, 8, 8)
    assert not any("classifier" in name for name, _ in parts.conv.named_modules())
    assert not any("features" in name for name, _ in parts.fc.named_modules())


@pytest.mark.parametrize(("name", "pooled"), [("alexnet", 12800), ("squeezenet1_0", 25600), ("zf5", 12800)])
def test_the_length_of_the_pooled_vector(name: str, pooled: int) -> None:
    parts = split(build(name, 5, device="meta"), ["pool5"], (1, 2, 3, 6), 480)
    assert parts.dims == {"pool5": pooled}
    assert parts.fc is None


def test_torchvisions_networks_with_a_pyramid() -> None:
    parts = split(build("alexnet", 5, device="meta", pyramid=(1, 2)), ["fc7"], (1, 2), 480)
    assert parts.dims == {"fc7": 4096}
    assert parts.pooled == 1280


@pytest.mark.parametrize(
    ("options", "layers", "levels", "message"),
    [
        (
            {},
            ["fc7"],
            (1, 2, 3, 6),
            r"fc6 of small takes 1024 values, the pyramid \[1, 2, 3, 6\] gives 3200; .*without fc7",
        ),
        (
            {},
            ["fc6"],
            (1, 2),
            r"; set features.spp.levels to \[4\], or use weights trained with.*; otherwise store pool5 alone",
        ),
        ({"pyramid": (1, 2)}, ["fc6"], (2, 1), r"trained with, \[1, 2\], not \[2, 1\]; set features.spp.levels to it"),
        ({}, ["features.5", "fc6"], (4,), "node features.5 does not come after pool5"),
        ({}, ["pool9"], (4,), "no layer 'pool9'"),
    ],
)
def test_what_does_not_fit_is_named(
    options: dict[str, Any], layers: list[str], levels: tuple[int, ...], message: str
) -> None:
    with pytest.raises(StageError, match=message) as caught:
        split(network(**options), layers, levels, 64)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("layer", ["fc8", "flatten"])
def test_a_network_without_fully_connected_layers_has_the_pooled_vector_only(layer: str) -> None:
    said = (
        r"squeezenet1_0 has no fully connected layer that takes pool5; set network.pyramid and network.fc.*store pool5"
    )
    with pytest.raises(StageError, match=said):
        split(build("squeezenet1_0", 5, device="meta"), ["pool5", layer], (1, 2), 480)


def test_layers_behind_averages_are_refused() -> None:
    said = "features.spp.pooling: average is for pool5; .* maxima: store pool5 alone, without fc6"
    with pytest.raises(StageError, match=said):
        split(network(pyramid=(1, 2)), ["pool5", "fc6"], (1, 2), 64, "average")
    assert split(network(pyramid=(1, 2)), ["pool5"], (1, 2), 64, "average").dims == {"pool5": 320}


def test_images_too_small_for_the_network() -> None:
    with pytest.raises(StageError, match=r"features\.spp\.scales_px: zf5 has no conv5 left of an image of 20 px"):
        split(build("zf5", 5, device="meta"), ["pool5"], (1,), 20)
