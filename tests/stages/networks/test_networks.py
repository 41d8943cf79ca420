"""Architectures against torchvision and the published CaffeNet; named layers against forward hooks."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
import torchvision
from network_parts import trunk_of
from torch import memory_format
from waiting import HANG_S

from cache.errors import StageError
from stages.networks.architectures import ARCHITECTURES, NAMED_LAYERS, ArchitectureName
from stages.networks.caffenet import CrossChannelNorm
from stages.networks.network import Network, build
from stages.networks.settings import NetworkSettings
from stages.networks.spec import InputSpec
from stages.networks.weights import load_weights, save_weights

Networks = Callable[[ArchitectureName], Network]
TWINS = ["alexnet", "squeezenet1_0", "resnet50"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Networks that are costly to make, shared; tests do not change them."""
    made: dict[str, Network] = {}

    def get(name: ArchitectureName) -> Network:
        if name not in made:
            made[name] = build(name, 11, generator=seeded()).eval()
        return made[name]

    return get


def crops(network: Network, n: int = 2, seed: int = 0) -> torch.Tensor:
    side = network.input.side_px
    return torch.randn(n, 3, side, side, generator=seeded(seed))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("small", {"pool5": 1024, "fc6": 512, "fc7": 512, "fc8": 11}),
        ("alexnet", {"pool5": 9216, "fc6": 4096, "fc7": 4096, "fc8": 11}),
        ("caffenet", {"pool5": 9216, "fc6": 4096, "fc7": 4096, "fc8": 11}),
        ("squeezenet1_0", {"pool5": 4608, "fc8": 11}),
        ("resnet50", {"pool5": 2048, "fc8": 11}),
    ],
)
def test_named_layers(networks: Networks, name: ArchitectureName, dims: dict[str, int]) -> None:
    network = networks(name)
    assert network.layers == tuple(dims)
    assert {layer: network.feature_dim(layer) for layer in dims} == dims


def test_parameters_name_the_architectures_and_their_layers_and_need_no_torch() -> None:
    assert get_args(ArchitectureName) == tuple(ARCHITECTURES)
    for name, architecture in ARCHITECTURES.items():
        assert NetworkSettings(name=name).named_layers == tuple(architecture.nodes)
        assert set(architecture.nodes) <= set(NAMED_LAYERS)
    check = "import sys, stages.networks.settings; assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=HANG_S)


def test_vgg16_has_its_published_size() -> None:
    network = build("vgg16", 1000, device="meta")
    assert sum(p.numel() for p in network.parameters()) == 138_357_544
    assert network.feature_dim("pool5") == 512 * 7 * 7
    assert network.feature_dim("fc7") == 4096


def test_caffenet_is_the_published_network() -> None:
    network = build("caffenet", 1000, device="meta")
    assert sum(p.numel() for p in network.parameters()) == 60_965_224
    shapes = []
    for module in trunk_of(network).features:
        if isinstance(module, torch.nn.Conv2d | torch.nn.MaxPool2d):
            module.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    network(torch.empty(1, 3, 227, 227, device="meta"))
    assert shapes == [
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
    ]
    groups = [m.groups for m in trunk_of(network).features if isinstance(m, torch.nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2]
    order = [type(m).__name__ for m in trunk_of(network).features][:4]
    assert order == ["Conv2d", "ReLU", "MaxPool2d", "CrossChannelNorm"]


def test_caffe_pooling_rounds_up() -> None:
    """On a 14 x 14 map Caffe's 3/2 pooling gives 7 cells (floor would give 6)."""
    pool = trunk_of(build("caffenet", 2, device="meta")).features[2]
    assert pool(torch.empty(1, 1, 14, 14)).shape[-1] == 7


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalisation_equals_torchs(layout: memory_format) -> None:
    x = (torch.randn(2, 24, 5, 7, generator=seeded()) * 100).to(memory_format=layout)
    expected = torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)(x)
    torch.testing.assert_close(CrossChannelNorm()(x), expected, rtol=1e-6, atol=1e-6)
    half = CrossChannelNorm()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", TWINS)
def test_takes_a_torchvision_state_dict_and_gives_its_outputs(networks: Networks, name: ArchitectureName) -> None:
    twin = torchvision.models.get_model(name, weights=None, num_classes=11).eval()
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_(generator=seeded(1))
    network = copy.deepcopy(networks(name))
    network.trunk.load_state_dict(twin.state_dict())
    x = crops(network, 1)
    with torch.no_grad():
        assert torch.equal(network(x), twin(x))
        assert torch.equal(network.extract(x, ["fc8"])["fc8"], twin(x))


def activations(network: Network, x: torch.Tensor, modules: Iterable[str]) -> dict[str, torch.Tensor]:
    """Outputs of modules as forward hooks see them, before anything later can change them."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        network.trunk.get_submodule(m).register_forward_hook(lambda _, __, o, m=m: seen.__setitem__(m, o.clone()))
        for m in modules
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("small", {"pool5": "features.12", "fc6": "classifier.2", "fc7": "classifier.5"}),
        ("alexnet", {"pool5": "features.12", "fc6": "classifier.2", "fc7": "classifier.5"}),
        ("caffenet", {"pool5": "features.14", "fc6": "classifier.1", "fc7": "classifier.4"}),
    ],
)
def test_layers_are_what_hooks_see(networks: Networks, name: ArchitectureName, modules: dict[str, str]) -> None:
    network = networks(name)
    x = crops(network)
    seen = activations(network, x, modules.values())
    with torch.no_grad():
        found = network.extract(x.to(memory_format=torch.channels_last), list(modules))
    for layer, module in modules.items():
        assert isinstance(network.trunk.get_submodule(module), torch.nn.ReLU | torch.nn.MaxPool2d)
        assert found[layer].min() >= 0
        torch.testing.assert_close(found[layer], seen[module].flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "module", "grid"), [("squeezenet1_0", "features.12", 3), ("resnet50", "layer4", 1)])
def test_pool5_is_the_averaged_last_map(networks: Networks, name: ArchitectureName, module: str, grid: int) -> None:
    network = copy.deepcopy(networks(name))
    x = crops(network, 1)
    last = activations(network, x, [module])[module]
    n = last.shape[-1]
    for g in (grid, 2):
        network.pool5_grid = g
        # adaptive cells: rows floor(i n / g) up to ceil((i + 1) n / g)
        cells = [slice(i * n // g, -(-(i + 1) * n // g)) for i in range(g)]
        expected = torch.stack([last[0, :, a, b].mean((1, 2)) for a in cells for b in cells], 1).flatten()
        with torch.no_grad():
            torch.testing.assert_close(network.extract(x, ["pool5"])["pool5"][0], expected, rtol=1e-4, atol=1e-6)


def test_a_node_before_an_in_place_relu_keeps_its_negative_values(
    networks: Networks,
) -> None:
    network = networks("alexnet")
    x = crops(network, 1)
    conv5 = activations(network, x, ["features.10"])["features.10"]
    with torch.no_grad():
        found = network.extract(x, ["features.10", "pool5"])
    assert conv5.min() < 0
    torch.testing.assert_close(found["features.10"], conv5.flatten(1))


def test_pool5_needs_no_fully_connected_layer(networks: Networks) -> None:
    assert not any("classifier" in name for name in networks("alexnet").graph(["pool5"]).state_dict())


@pytest.mark.parametrize(("asked", "near"), [("fc9", "fc"), ("pool_5", "pool5"), ("feature.10", "features.10")])
def test_an_unknown_layer_names_the_nearest(networks: Networks, asked: str, near: str) -> None:
    with pytest.raises(StageError, match=rf"\(did you mean .*'{near}") as caught:
        networks("alexnet").extract(crops(networks("alexnet"), 1), [asked])
    assert "pool5, fc6, fc7" in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_layer_that_nothing_is_like_gets_no_hint(networks: Networks) -> None:
    with pytest.raises(StageError, match="has no layer 'zzz'; its named layers are pool5, fc6, fc7"):
        networks("alexnet").node("zzz")


def test_an_unknown_network_names_the_nearest() -> None:
    with pytest.raises(StageError, match="did you mean 'alexnet'"):
        build("alexnett", 10)


def test_random_weights_come_from_the_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    a, b, c = (build("small", 5, generator=seeded(s)).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)  # torch's own generator was left as it was
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["trunk.features.0.weight"], c["trunk.features.0.weight"])


@pytest.mark.parametrize("name", ["small", "squeezenet1_0"])
def test_a_new_head(name: str) -> None:
    network = build(name, 5, generator=seeded()).eval()
    x = crops(network)
    with torch.no_grad():
        before = network.extract(x, ["pool5", "fc8"])
        network.new_head(40, seeded(3))
        after = network.extract(x, ["pool5", "fc8"])
        assert torch.equal(network(x), after["fc8"])
    assert torch.equal(before["pool5"], after["pool5"])
    assert after["fc8"].shape == (2, 40)
    weight, bias = network.classifier_parameters()
    assert network.n_outputs == len(bias) == 40
    assert (bias == 0).all()
    n = weight.numel()
    assert abs(weight.std().item() - 0.01) < 0.01 * 4 / (2 * n) ** 0.5
    assert abs(weight.mean().item()) < 0.01 * 4 / n**0.5
    again = build(name, 5, generator=seeded())
    again.new_head(40, seeded(3))
    assert torch.equal(next(again.classifier_parameters()), weight)


def test_new_logits_may_be_negative_where_the_architecture_cuts_them(tmp_path: Path) -> None:
    """SqueezeNet has a ReLU after its last layer: with it, a class whose logits start below 0 would never be learnt."""
    network = build("squeezenet1_0", 5, generator=seeded()).eval()
    x = crops(network)
    with torch.no_grad():
        assert network(x).min() >= 0
        network.new_head(3, seeded(3))
        trunk = trunk_of(network)
        expected = trunk.classifier[1](trunk.features(x)).mean((2, 3))  # dropout does nothing in evaluation
        assert expected.min() < 0
        torch.testing.assert_close(network(x), expected)
        save_weights(tmp_path / "w.safetensors", network)
        loaded = load_weights(tmp_path / "w.safetensors")
        assert torch.equal(loaded(x), network(x))
        save_weights(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()


def test_extract_refuses_training_mode() -> None:
    network = build("small", 5, generator=seeded())
    with pytest.raises(RuntimeError, match="evaluation mode"):
        network.extract(crops(network), ["fc7"])


def test_networks_of_one_form_are_traced_once_and_keep_their_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.networks.graph._GRAPHS", {})  # without what other tests have left there
    first, second = (build("small", 3, generator=torch.Generator().manual_seed(seed)).eval() for seed in (0, 1))
    first.graph(["fc7"])
    monkeypatch.setattr("stages.networks.graph.create_feature_extractor", None)
    x = torch.rand(2, 3, first.input.side_px, first.input.side_px)
    for network in (first, second):
        rest = network.trunk.get_submodule("classifier")[-1]  # type: ignore[index]
        torch.testing.assert_close(rest(network.extract(x, ["fc7"])["fc7"]), network(x), rtol=0, atol=0)
    assert not torch.equal(first(x), second(x))
    second.drop_rectifier()
    second.new_head(5, torch.Generator())
    with pytest.raises(TypeError):  # of another form: it is traced
        second.graph(["fc7"])


def test_reading_layers_leaves_the_modes_alone() -> None:
    network = build("small", 5, generator=seeded()).train()
    trunk_of(network).features[0].eval()
    modes = [m.training for m in network.modules()]
    network.graph(["fc7"])
    assert [m.training for m in network.modules()] == modes


def test_a_copy_is_whole_and_independent() -> None:
    network = build("small", 5, generator=seeded()).eval()
    x = crops(network)
    with torch.no_grad():
        before = network.extract(x, ["fc6"])["fc6"]
        twin = copy.deepcopy(network)
        assert torch.equal(twin.extract(x, ["fc6"])["fc6"], before)
        assert not any(m.training for m in twin.modules())
        trunk_of(twin).features[0].weight.zero_()
        assert not torch.equal(twin.extract(x, ["fc6"])["fc6"], before)
        assert torch.equal(network.extract(x, ["fc6"])["fc6"], before)


def test_input_spec_survives_json() -> None:
    for architecture in ARCHITECTURES.values():
        assert InputSpec.from_json(architecture.input.as_json()) == architecture.input
    with pytest.raises(ValueError, match="three values"):
        InputSpec.from_json({**ARCHITECTURES["small"].input.as_json(), "mean": [1.0]})


def test_settings_cover_every_architecture() -> None:
    for name in ARCHITECTURES:
        assert NetworkSettings(name=name).name == name
