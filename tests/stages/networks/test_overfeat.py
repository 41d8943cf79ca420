"""OverFeat's networks against the paper's Tables 1 and 3, and its authors' files against plain torch."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_parts import trunk_of
from numpy.typing import NDArray
from torch.nn import functional

from cache.errors import StageError
from stages.networks.architectures import ArchitectureName
from stages.networks.initial import initial_network, planned_network
from stages.networks.network import Network, build
from stages.networks.overfeat import OverFeatAccurate, OverFeatFast
from stages.networks.pixels import scaled_image
from stages.networks.receptive_field import Axis, map_geometry
from stages.networks.settings import InputSettings, NetworkSettings

# Tables 1 and 3: channels, filter, stride, pooling, padding of each convolution; units of the last three layers.
CONVOLUTIONS: Mapping[str, list[tuple[int, int, int, int, int]]] = {
    "overfeat_fast": [(96, 11, 4, 2, 0), (256, 5, 1, 2, 0), (512, 3, 1, 1, 1), (1024, 3, 1, 1, 1), (1024, 3, 1, 2, 1)],
    "overfeat_accurate": [
        *[(96, 7, 2, 3, 0), (256, 7, 1, 2, 0), (512, 3, 1, 1, 1)],
        *[(512, 3, 1, 1, 1), (1024, 3, 1, 1, 1), (1024, 3, 1, 3, 1)],
    ],
}
UNITS = {"overfeat_fast": [3072, 4096, 1000], "overfeat_accurate": [4096, 4096, 1000]}
# "Spatial input size", of the fully connected layer too; the paper has 24 where layer 2 of the fast network takes 28.
SIDES = {"overfeat_fast": [231, 28, 12, 12, 12, 6], "overfeat_accurate": [221, 36, 15, 15, 15, 15, 5]}
PARAMETERS = {"overfeat_fast": 145_920_872, "overfeat_accurate": 144_656_488}
FILES = {"overfeat_fast": "net_weight_0", "overfeat_accurate": "net_weight_1"}
NAMES: tuple[ArchitectureName, ...] = ("overfeat_fast", "overfeat_accurate")
THIN = 16  # times fewer channels and units, where real ones would only take time


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks with their own kernels, strides and paddings, and few channels and units."""
    for kind in (OverFeatFast, OverFeatAccurate):
        layers = tuple(replace(layer, channels=layer.channels // THIN) for layer in kind.layers)
        monkeypatch.setattr(kind, "layers", layers)
        monkeypatch.setattr(kind, "units", tuple(units // THIN for units in kind.units))


def shapes_by_hand(name: str, thinner: int = 1) -> list[tuple[int, ...]]:
    """Weights [out, in, y, x] of all layers, fully connected ones as the convolutions of the dense pass."""
    channels = [3, *(row[0] // thinner for row in CONVOLUTIONS[name])]
    found: list[tuple[int, ...]] = [
        (channels[i + 1], channels[i], r[1], r[1]) for i, r in enumerate(CONVOLUTIONS[name])
    ]
    units = [channels[-1], *(n // thinner for n in UNITS[name][:-1]), 1000]
    kernels = [SIDES[name][-1], 1, 1]
    return [*found, *((units[i + 1], units[i], k, k) for i, k in enumerate(kernels))]


def outputs_by_hand(name: str, numbers: NDArray[np.float32], x: torch.Tensor, thinner: int) -> list[torch.Tensor]:
    """pool5, fc6, fc7 and fc8, from the numbers of a file: convolutions all the way, as the authors' program has it."""
    at, found = 0, []
    pools = [row[2:] for row in CONVOLUTIONS[name]]
    for i, shape in enumerate(shapes_by_hand(name, thinner)):
        weight = torch.from_numpy(numbers[at : at + math.prod(shape)].copy()).reshape(shape)
        at += math.prod(shape)
        bias = torch.from_numpy(numbers[at : at + shape[0]].copy())
        at += shape[0]
        stride, pool, padding = pools[i] if i < len(pools) else (1, 1, 0)
        x = functional.conv2d(functional.pad(x, [padding] * 4), weight, bias, stride)
        if i < len(pools) + 2:
            x = x.clamp(min=0)
        x = functional.max_pool2d(x, pool, pool)
        if i >= len(pools) - 1:
            found.append(x.flatten(1))
    assert at == len(numbers)
    return found


def numbers_of(name: str, thinner: int, seed: int = 0) -> NDArray[np.float32]:
    """Numbers of a file, weights and biases such that every layer has something to say."""
    generator = np.random.default_rng(seed)
    parts = []
    for shape in shapes_by_hand(name, thinner):
        parts += [generator.normal(0, (2 / math.prod(shape[1:])) ** 0.5, shape).ravel()]
        parts += [generator.normal(0, 0.3, shape[0])]
    return np.concatenate(parts).astype("<f4")


def sparse(path: Path, numbers: int, extra: int = 0) -> None:
    """Write a file of so many numbers, and bytes, that is a hole of the file system."""
    with path.open("wb") as file:
        file.truncate(4 * numbers + extra)


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_sizes_are_the_tables(name: str) -> None:
    network = build(name, 1000, device="meta").eval()
    features = list(trunk_of(network).features)
    convolutions = [m for m in features if isinstance(m, torch.nn.Conv2d)]
    pools = [features[i + 2] if i + 2 < len(features) else None for i, m in enumerate(features) if m in convolutions]
    rows = [
        (m.out_channels, m.kernel_size, m.stride, p.kernel_size if isinstance(p, torch.nn.MaxPool2d) else 1, m.padding)
        for m, p in zip(convolutions, pools, strict=True)
    ]
    assert rows == [(c, (k, k), (s, s), p, (a, a)) for c, k, s, p, a in CONVOLUTIONS[name]]
    assert not any(p.ceil_mode or p.stride != p.kernel_size for p in pools if isinstance(p, torch.nn.MaxPool2d))
    sides: list[int] = []
    for module in convolutions:
        module.register_forward_hook(lambda _, inputs, __: sides.append(inputs[0].shape[-1]))
    side = network.input.side_px
    assert network(torch.empty(2, 3, side, side, device="meta")).shape == (2, 1000)
    assert sides == SIDES[name][:-1]
    units = UNITS[name]
    dims = [1024 * SIDES[name][-1] ** 2, *units]
    assert [network.feature_dim(layer) for layer in network.layers] == dims
    kinds = [type(m).__name__ for m in trunk_of(network).classifier]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert [m.p for m in trunk_of(network).classifier if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_many_as_the_authors_files_hold(name: str) -> None:
    expected = sum(math.prod(shape) + shape[0] for shape in shapes_by_hand(name))
    assert expected == PARAMETERS[name]
    assert sum(p.numel() for p in build(name, 1000, device="meta").parameters()) == expected


@pytest.mark.parametrize(
    ("name", "stride", "field", "step"), [("overfeat_fast", 16, 151, 32), ("overfeat_accurate", 12, 149, 36)]
)
def test_where_cells_and_windows_lie(name: str, stride: int, field: int, step: int) -> None:
    """A window of fc6 sees the 231 or 221 px of a crop, and 48 px past each edge through the paddings."""
    network = build(name, 5, device="meta")
    conv5 = map_geometry(network).x
    assert conv5 == Axis(stride, -48, field - 48 - 1)
    window = map_geometry(network, network.node("pool5")).x.slid(SIDES[name][-1], 1, 0)
    assert window == Axis(step, -48, SIDES[name][0] - 1 + 48)
    past = sum(row[4] for row in CONVOLUTIONS[name]) * stride
    assert past == 48


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_rgb_with_one_mean_and_deviation_for_all_channels(name: str) -> None:
    spec = build(name, 5, device="meta").input
    image = np.zeros((spec.side_px, spec.side_px, 3), np.uint8)
    image[..., 0], image[..., 1] = 255, 118
    x = scaled_image(image, spec, spec.side_px)
    assert x.shape == (1, 3, SIDES[name][0], SIDES[name][0])
    for channel, value in enumerate((255, 118, 0)):
        np.testing.assert_allclose(x[0, channel], (value - 118.380948) / 61.896913, rtol=1e-6)


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("name", NAMES)
def test_weights_start_with_the_papers_deviation(name: str) -> None:
    trunk = build(name, 50, generator=seeded()).trunk
    layers = [m for m in trunk.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == len(CONVOLUTIONS[name]) + 3
    for layer in layers:
        n = layer.weight.numel()
        assert abs(layer.weight.std().item() - 0.01) < 0.01 * 4 / (2 * n) ** 0.5
        assert abs(layer.weight.mean().item()) < 0.01 * 4 / n**0.5
        assert layer.bias is not None and not layer.bias.any()


def loaded(name: ArchitectureName, folder: Path, **more: Any) -> tuple[Network, NDArray[np.float32]]:
    """A thin network of a file in the authors' form, and the numbers of that file."""
    numbers = numbers_of(name, THIN)
    (folder / FILES[name]).write_bytes(numbers.tobytes())
    return initial_network(NetworkSettings(name=name, weights=FILES[name], **more), folder), numbers


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("name", NAMES)
def test_an_authors_file_gives_what_its_numbers_say(name: ArchitectureName, tmp_path: Path) -> None:
    network, numbers = loaded(name, tmp_path)
    assert (network.name, network.n_outputs, network.training) == (name, 1000, False)
    assert network.input == build(name, 1000, device="meta").input
    x = torch.randn(2, 3, *[network.input.side_px] * 2, generator=seeded(1))
    with torch.no_grad():
        found = network.extract(x, network.layers)
        for layer, expected in zip(network.layers, outputs_by_hand(name, numbers, x, THIN), strict=True):
            assert expected.std() > 0.1
            torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network(x), found["fc8"])
        behind = network.fc_graph(["fc8"])(found["pool5"])[network.node("fc8")]
        torch.testing.assert_close(behind, found["fc8"])


@pytest.mark.usefixtures("thin")
def test_a_network_of_a_file_is_trained_without_changing_the_file(tmp_path: Path) -> None:
    network, numbers = loaded("overfeat_fast", tmp_path)
    network.train()(torch.randn(2, 3, 231, 231, generator=seeded())).sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameter.data.add_(1)
    assert (tmp_path / "net_weight_0").read_bytes() == numbers.tobytes()


@pytest.mark.usefixtures("thin")
def test_another_input_convention_may_be_given(tmp_path: Path) -> None:
    network, _ = loaded("overfeat_fast", tmp_path, input=InputSettings(value_range=1, side_px=240))
    assert (network.input.side_px, network.input.value_range, network.input.mean) == (240, 1.0, (0.0, 0.0, 0.0))


def refusal(folder: Path, name: ArchitectureName, weights: str) -> str:
    """The line that refuses a file; the same, whether the numbers are wanted or its length alone."""
    settings = NetworkSettings(name=name, weights=weights)
    said = set()
    for make in (initial_network, planned_network):
        with pytest.raises(StageError) as caught:
            make(settings, folder)
        said.add(str(caught.value))
    (line,) = said
    assert len(line.splitlines()) == 1
    return line


@pytest.mark.parametrize("name", NAMES)
def test_the_length_of_a_file_tells_whose_it_is(name: ArchitectureName, tmp_path: Path) -> None:
    other = next(n for n in NAMES if n != name)
    sparse(tmp_path / FILES[name], PARAMETERS[name])
    planned = planned_network(NetworkSettings(name=name, weights=FILES[name]), tmp_path)
    assert planned.n_outputs == 1000 and all(p.is_meta for p in planned.parameters())
    sparse(tmp_path / FILES[name], PARAMETERS[other])
    line = refusal(tmp_path, name, FILES[name])
    assert f"holds {PARAMETERS[other]:,} numbers (float32), {name} has {PARAMETERS[name]:,}" in line
    assert line.endswith(f"it fits {other}: set network.name to that") and FILES[name] in line
    sparse(tmp_path / FILES[name], PARAMETERS[name] - 1)
    assert "it is damaged or another file; fetch it again" in refusal(tmp_path, name, FILES[name])
    sparse(tmp_path / FILES[name], PARAMETERS[name], extra=-3)
    line = refusal(tmp_path, name, FILES[name])
    assert f"holds {4 * PARAMETERS[name] - 3:,} bytes, which is no whole number of float32" in line


def test_files_that_are_none_of_the_network_are_one_line(tmp_path: Path) -> None:
    for path in ("net_weight_0", "data/default/net_weight_0"):
        assert f"{tmp_path / path}: no such weights file" in refusal(tmp_path, "overfeat_fast", path)
    (tmp_path / "net_weight_0").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "run `git lfs pull`" in refusal(tmp_path, "overfeat_fast", "net_weight_0")
    (tmp_path / "net_weight_0").write_bytes(b"")
    assert "holds 0 numbers" in refusal(tmp_path, "overfeat_fast", "net_weight_0")
    line = refusal(tmp_path, "alexnet", "net_weight_0")
    assert "weights of overfeat_fast and overfeat_accurate, network.name is alexnet" in line
    assert "or the authors' net_weight_1" in refusal(tmp_path, "overfeat_accurate", "IMAGENET1K_V1")
    assert "net_weight" not in refusal(tmp_path, "zf5", "IMAGENET1K_V1")


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_named(value: float, tmp_path: Path) -> None:
    _, numbers = loaded("overfeat_fast", tmp_path)
    conv1 = 6 * 3 * 11 * 11  # weights, and then 6 biases
    numbers[[conv1 + 2, conv1 + 4]] = value
    (tmp_path / "net_weight_0").write_bytes(numbers.tobytes())
    with pytest.raises(StageError) as caught:
        initial_network(NetworkSettings(name="overfeat_fast", weights="net_weight_0"), tmp_path)
    line = str(caught.value)
    assert f"number 2,180 (0-based; features.0.bias) is {value}, the first of 2 in that tensor" in line
    assert "net_weight_0" in line and len(line.splitlines()) == 1


@pytest.mark.usefixtures("thin")
def test_a_pyramid_of_the_networks_own_grid_takes_the_file(tmp_path: Path) -> None:
    plain, _ = loaded("overfeat_fast", tmp_path)
    pooled, _ = loaded("overfeat_fast", tmp_path, pyramid=(6,))
    x = torch.randn(1, 3, 231, 231, generator=seeded())
    with torch.no_grad():  # 12 x 12 cells in 6 x 6 bins are the 2 x 2 pooling
        torch.testing.assert_close(pooled(x), plain(x))
    with pytest.raises(StageError, match=r"net_weight_0: weights do not fit.*network\.pyramid needs weights trained"):
        initial_network(NetworkSettings(name="overfeat_fast", weights="net_weight_0", pyramid=(1, 2)), tmp_path)
