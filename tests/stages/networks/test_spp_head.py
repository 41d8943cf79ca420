"""New fully connected layers behind any network's conv5 (``network.fc``)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from network_parts import trunk_of
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from cache.errors import StageError
from stages.features.spp.split import split
from stages.networks.architectures import ARCHITECTURES, HeadPlace
from stages.networks.initial import initial_network
from stages.networks.network import add_fc_head, build
from stages.networks.overfeat import OverFeatAccurate, OverFeatFast
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights, save_weights, weights_digest

LEVELS, FC = (1, 3), (24, 16)
NAMES = list(ARCHITECTURES)


def place_of(name: str) -> HeadPlace:
    place = ARCHITECTURES[name].place
    assert place is not None
    return place


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def few_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few units in OverFeat's own fully connected layers, which go here: drawing 128 million weights takes seconds."""
    for kind in (OverFeatFast, OverFeatAccurate):
        monkeypatch.setattr(kind, "units", (4, 4))


@pytest.mark.parametrize("name", NAMES)
def test_layers_follow_one_another_as_in_a_hand_made_chain(name: str) -> None:
    network = build(name, 5, generator=seeded(), pyramid=LEVELS, fc=FC).eval()
    assert (
        network.layers
        == ("pool5", "fc6", "fc7", "fc8")
        == NetworkSettings(name=name, pyramid=LEVELS, fc=FC).named_layers
    )
    x = torch.randn(2, 3, 96, 64, generator=seeded(1))
    got = network.extract(x, ["pool5", "fc6", "fc7", "fc8"])
    fmap = network.graph([network.conv5])(x)[network.conv5]
    pool = torch.nn.functional.adaptive_max_pool2d
    pooled = torch.cat([pool(fmap, n).flatten(1) for n in LEVELS], 1)
    torch.testing.assert_close(got["pool5"], pooled)
    weights = dict(network.trunk.get_submodule(place_of(name).fc).named_parameters())
    sized = pooled / pooled.square().mean(1, keepdim=True).add(1e-6).sqrt()
    fc6 = torch.relu(sized @ weights["1.weight"].T + weights["1.bias"])
    fc7 = torch.relu(fc6 @ weights["4.weight"].T + weights["4.bias"])
    for layer, expected in (("fc6", fc6), ("fc7", fc7), ("fc8", fc7 @ weights["7.weight"].T + weights["7.bias"])):
        torch.testing.assert_close(got[layer], expected)
    torch.testing.assert_close(network(x), got["fc8"])
    assert [got[layer].shape[1] for layer in ("fc6", "fc7", "fc8")] == [24, 16, 5]
    behind = network.fc_graph(["fc7", "fc8"])(pooled)
    torch.testing.assert_close(behind[network.node("fc8")], got["fc8"])


@pytest.mark.parametrize("name", NAMES)
def test_new_layers_start_as_said_and_give_features_of_size_one(name: str) -> None:
    network = build(name, 50, generator=seeded(), pyramid=LEVELS, fc=(512, 256)).eval()
    fc: Any = network.trunk.get_submodule(place_of(name).fc)
    for i, inputs in ((1, place_of(name).channels * 10), (4, 512)):
        assert float(fc[i].weight.detach().std()) == pytest.approx((2 / inputs) ** 0.5, rel=0.02)
        assert not fc[i].bias.any()
    assert float(fc[7].weight.detach().std()) == pytest.approx(0.01, rel=0.03)
    pooled = 300 * torch.rand(64, fc[1].in_features, generator=seeded(1))
    fc7 = network.fc_graph(["fc7"])(pooled)[network.node("fc7")]
    assert float(fc7.detach().square().mean()) == pytest.approx(1, rel=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_places_channels_are_those_of_conv5(name: str) -> None:
    network = build(name, 5, device="meta")
    fmap = network.graph([network.conv5])(torch.empty(1, 3, 64, 64, device="meta"))[network.conv5]
    assert fmap.shape[1] == place_of(name).channels


def test_a_file_rebuilds_the_head(tmp_path: Path) -> None:
    network = build("squeezenet1_0", 5, generator=seeded(), pyramid=LEVELS, fc=FC).eval()
    save_weights(tmp_path / "w.safetensors", network)
    back = load_weights(tmp_path / "w.safetensors")
    assert (back.pyramid, back.fc) == (LEVELS, FC)
    x = torch.randn(1, 3, 64, 64, generator=seeded(1))
    assert torch.equal(back(x), network(x))
    given = NetworkSettings(name="squeezenet1_0", weights="w.safetensors", pyramid=LEVELS, fc=FC)
    assert initial_network(given, tmp_path).fc == FC
    for other, said in (
        (None, r"pyramid \[1, 3\], network\.pyramid is null"),
        ((24, 8), r"fc \[24, 16\], network\.fc is \[24, 8\]"),
    ):
        pyramid = None if other is None else LEVELS
        wrong = NetworkSettings(name="squeezenet1_0", weights="w.safetensors", pyramid=pyramid, fc=other)
        with pytest.raises(StageError, match=rf"w\.safetensors: holds weights with {said}"):
            initial_network(wrong, tmp_path)


@pytest.mark.parametrize("name", ["squeezenet1_0", "zf5"])
@pytest.mark.parametrize("own", [True, False])
def test_given_weights_keep_their_convolutions_and_the_seed_makes_the_rest(
    tmp_path: Path, own: bool, name: str
) -> None:
    plain = build(name, 7, generator=seeded()).eval()
    path = tmp_path / "plain.safetensors"
    save_weights(path, plain) if own else save_file(plain.trunk.state_dict(), path)
    settings = NetworkSettings(name=name, weights=path.name, pyramid=LEVELS, fc=FC)
    made = [add_fc_head(initial_network(settings, tmp_path), LEVELS, FC, seeded(s)) for s in (3, 3, 4)]
    assert made[0].n_outputs == 7
    before = trunk_of(plain).features.state_dict()
    for tensor, value in trunk_of(made[0]).features.state_dict().items():
        assert torch.equal(value, before[tensor])
    first, again, other = (trunk_of(network).classifier.state_dict() for network in made)
    assert all(torch.equal(first[tensor], again[tensor]) for tensor in first)
    assert not torch.equal(first["1.weight"], other["1.weight"])
    conv5 = [network.conv5 for network in (plain, made[0])]
    assert weights_digest(plain, conv5[:1]) == weights_digest(made[0], conv5[1:])


def test_new_layers_take_the_place_of_a_head_with_another_pyramid(tmp_path: Path) -> None:
    trained = build("zf5", 7, generator=seeded(), pyramid=(1, 2)).eval()
    save_weights(tmp_path / "w.safetensors", trained)
    settings = NetworkSettings(name="zf5", weights="w.safetensors", pyramid=LEVELS, fc=FC)
    made = add_fc_head(initial_network(settings, tmp_path), LEVELS, FC, seeded()).eval()
    assert (made.pyramid, made.fc, made.feature_dim("pool5"), made.feature_dim("fc6")) == (LEVELS, FC, 2560, 24)
    x = torch.randn(1, 3, 224, 224, generator=seeded(1))
    conv5 = trained.graph([trained.conv5])(x)[trained.conv5]
    assert torch.equal(made.graph([made.conv5])(x)[made.conv5], conv5)


def test_split_takes_it(tmp_path: Path) -> None:
    network = build("squeezenet1_0", 5, generator=seeded(), pyramid=(1, 2, 3, 6), fc=FC).eval()
    parts = split(network, ["pool5", "fc7"], (1, 2, 3, 6), 200)
    assert dict(parts.dims) == {"pool5": 25_600, "fc7": 16}


@pytest.mark.parametrize("fc", ["3", "[]", "[0, 1]", "[8]", "[8, 8, 8]", "[8, 16385]", "[true, 1]", '{"a": 1}'])
def test_damaged_metadata_of_the_head(tmp_path: Path, fc: str) -> None:
    path = tmp_path / "w.safetensors"
    network = build("squeezenet1_0", 5, generator=seeded(), pyramid=LEVELS, fc=FC)
    save_weights(path, network)
    meta = {"format": "rcnn-weights-1", "architecture": "squeezenet1_0", "n_outputs": "5", "pool5_grid": "null"}
    meta |= {"input": json.dumps(network.input.as_json()), "pyramid": "[1, 3]", "fc": fc}
    save_file(load_file(path), path, meta)
    with pytest.raises(StageError, match="damaged weights metadata"):
        load_weights(path)


def test_settings_of_the_head_that_contradict() -> None:
    with pytest.raises(ValidationError, match=r"network\.pyramid: squeezenet1_0 has no fc6.*set network\.fc"):
        NetworkSettings(name="squeezenet1_0", pyramid=(1, 2))
    with pytest.raises(ValidationError, match=r"network\.fc: needs a pyramid"):
        NetworkSettings(name="resnet50", fc=(8, 8))
    with pytest.raises(StageError, match=r"network\.fc needs a pyramid"):
        build("resnet50", 5, device="meta", fc=FC)
