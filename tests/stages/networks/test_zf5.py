"""ZF-5 as its paper and its authors' files have it, and the pyramid in the place of any network's pool5."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from network_parts import trunk_of
from pydantic import ValidationError

from cache.errors import StageError
from stages.networks.initial import initial_network
from stages.networks.network import build
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights, save_weights
from stages.networks.zf5 import WithinChannelNorm


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("name", "sides"), [("zf5", (110, 55, 26, 13)), ("zf", (112, 57, 29, 15))])
def test_filters_strides_and_paddings(name: str, sides: tuple[int, int, int, int]) -> None:
    network = build(name, 1000, device="meta")
    shapes = []
    for module in trunk_of(network).features:
        if isinstance(module, torch.nn.Conv2d | torch.nn.MaxPool2d):
            module.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    conv1, pool1, conv2, pool2 = sides  # by hand: Caffe's convolutions round down, its pools up
    maps = [(96, conv1), (96, pool1), (256, conv2), (256, pool2), (384, pool2), (384, pool2), (256, pool2), (256, 6)]
    assert shapes == [(c, n, n) for c, n in maps]
    kernels = [m.kernel_size[0] for m in trunk_of(network).features if isinstance(m, torch.nn.Conv2d)]
    assert kernels == [7, 5, 3, 3, 3]
    order = [type(m).__name__ for m in trunk_of(network).features][:4]
    assert order == ["Conv2d", "ReLU", "WithinChannelNorm", "MaxPool2d"]
    assert {layer: network.feature_dim(layer) for layer in network.layers} == {
        "pool5": 9216,
        "fc6": 4096,
        "fc7": 4096,
        "fc8": 1000,
    }
    assert network.input.as_json() | {"side_px": 224} == {
        "side_px": 224,
        "color_order": "bgr",
        "value_range": 255.0,
        "mean": [128.0] * 3 if name == "zf5" else [102.9801, 115.9465, 122.7717],
        "std": [1.0] * 3,
    }


def test_weights_of_either_fit_both(tmp_path: Path) -> None:
    """And they are the same filters: a map of zf's is zf5's of the same image with zeros around it."""
    from safetensors.torch import save_file

    save_file(build("zf5", 7, generator=seeded()).trunk.state_dict(), tmp_path / "zf5.safetensors")
    given = NetworkSettings(name="zf", weights="zf5.safetensors")
    zf = trunk_of(initial_network(given, tmp_path))
    zf5 = trunk_of(build("zf5", 7, generator=seeded()))
    image = torch.randn(1, 3, 64, 80, generator=seeded())
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
    with torch.inference_mode():
        torch.testing.assert_close(zf.features[0](image), zf5.features[0](padded), rtol=1e-5, atol=1e-5)
        assert zf(torch.randn(1, 3, 224, 224, generator=seeded())).shape == (1, 7)


def test_weights_start_as_in_the_authors_file() -> None:
    """Zeiler_conv5.prototxt: all weights N(0, 0.01); biases 0, 1, 0, 1, 1 in the convolutions, 1 in fc6, fc7, fc8."""
    trunk = build("zf5", 5, generator=seeded()).trunk
    layers = [m for m in trunk.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert [set(cast(torch.Tensor, layer.bias).tolist()) for layer in layers] == [{b} for b in (0, 1, 0, 1, 1, 1, 1, 1)]
    for layer in layers:
        n = layer.weight.numel()
        assert abs(layer.weight.std().item() - 0.01) < 0.01 * 4 / (2 * n) ** 0.5
    caffenet = trunk_of(build("caffenet", 5, generator=seeded()))  # the paper's R-CNN: fc6, fc7 N(0, 0.005), fc8 bias 0
    assert [caffenet.classifier[i].weight.std().item() for i in (0, 3)] == pytest.approx([0.005, 0.005], rel=0.01)
    assert (caffenet.classifier[6].bias == 0).all()


@pytest.mark.parametrize(("bias", "expected"), [(None, 1.0), (0.0, 0.0), (2.5, 2.5)])
def test_a_new_last_layer_starts_at_the_architectures_own_bias_where_none_is_given(
    bias: float | None, expected: float
) -> None:
    network = build("zf5", 5, generator=seeded())
    network.new_head(3, seeded(), bias)
    assert trunk_of(network).classifier[6].bias.tolist() == [expected] * 3
    small = build("small", 5, generator=seeded())
    small.new_head(3, seeded(), bias)
    assert trunk_of(small).classifier[6].bias.tolist() == [0.0 if bias is None else bias] * 3


def test_normalisation_value_by_value() -> None:
    x = torch.randn(2, 3, 5, 4, generator=seeded()) * 300
    expected = np.empty(x.shape)
    for (b, c, y, x_), value in np.ndenumerate(x.double().numpy()):
        window = x[b, c, max(y - 1, 0) : y + 2, max(x_ - 1, 0) : x_ + 2].double()
        expected[b, c, y, x_] = value / (1 + 5e-5 * float((window**2).sum()) / 9) ** 0.75
    found = WithinChannelNorm()(x)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert abs(expected / x.numpy()).min() < 0.5  # it does something at such values
    half = WithinChannelNorm()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), found, rtol=0.02, atol=0.5)


@pytest.mark.parametrize(
    ("name", "side"),
    [*((name, 224) for name in ("zf5", "zf", "alexnet", "vgg16")), ("caffenet", 227), ("overfeat_fast", 231)],
)
def test_fc6_takes_the_pyramid(name: str, side: int) -> None:
    network = build(name, 7, device="meta", pyramid=(1, 2, 3, 6))
    channels = {"vgg16": 512, "overfeat_fast": 1024}.get(name, 256)
    assert network.feature_dim("pool5") == channels * 50
    assert network.feature_dim("fc7") == 4096
    assert network(torch.empty(2, 3, side - 44, side + 30, device="meta")).shape == (2, 7)  # any size


def test_its_pyramid_is_trained_with_its_own_start() -> None:
    plain, spp = (build("small", 5, generator=seeded(), pyramid=p) for p in (None, (1, 2, 3, 6)))
    again = build("small", 5, generator=seeded(), pyramid=(1, 2, 3, 6))
    assert torch.equal(trunk_of(spp).classifier[1].weight, trunk_of(again).classifier[1].weight)
    assert torch.equal(trunk_of(spp).features[0].weight, trunk_of(plain).features[0].weight)
    spread, expected = (float(trunk_of(n).classifier[1].weight.detach().std()) for n in (spp, plain))
    assert spread == pytest.approx(expected, rel=0.01)
    spp(torch.randn(2, 3, 64, 64, generator=seeded())).sum().backward()
    assert all(p.grad is not None for p in spp.parameters())


def test_a_file_rebuilds_the_pyramid(tmp_path: Path) -> None:
    network = build("small", 5, generator=seeded(), pyramid=(1, 3)).eval()
    path = tmp_path / "w.safetensors"
    save_weights(path, network)
    back = load_weights(path)
    assert back.pyramid == (1, 3)
    x = torch.randn(2, 3, 64, 64, generator=seeded())
    assert torch.equal(back(x), network(x))
    given = NetworkSettings(weights="w.safetensors", pyramid=(1, 3))
    assert initial_network(given, tmp_path).pyramid == (1, 3)
    with pytest.raises(StageError, match=r"w\.safetensors: .* pyramid \[1, 3\], network\.pyramid is null"):
        initial_network(NetworkSettings(weights="w.safetensors"), tmp_path)


def test_weights_without_a_pyramid_do_not_fit_one(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(build("small", 5, generator=seeded()).trunk.state_dict(), tmp_path / "plain.safetensors")
    settings = NetworkSettings(weights="plain.safetensors", pyramid=(1, 2))
    with pytest.raises(StageError, match=r"1\.weight is 512x1024, expected 512x320.*needs weights trained with"):
        initial_network(settings, tmp_path)


@pytest.mark.parametrize("pyramid", ["3", "[]", "[0]", "[1e3]", "[33]", "[true]", "[1,1,1,1,1,1,1,1,1]", '{"a": 1}'])
def test_damaged_metadata(tmp_path: Path, pyramid: str) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "w.safetensors"
    save_weights(path, build("small", 5, generator=seeded(), pyramid=(1, 3)))
    meta = {"format": "rcnn-weights-1", "architecture": "small", "n_outputs": "5", "pool5_grid": "null"}
    spec = build("small", 5, device="meta").input.as_json()
    save_file(load_file(path), path, meta | {"input": json.dumps(spec), "pyramid": pyramid})
    with pytest.raises(StageError, match="damaged weights metadata"):
        load_weights(path)


def test_settings_that_contradict() -> None:
    with pytest.raises(ValidationError, match=r"network\.pyramid: squeezenet1_0 has no fc6"):
        NetworkSettings(name="squeezenet1_0", pyramid=(1, 2))
    with pytest.raises(ValidationError, match="exclude each other"):
        NetworkSettings(pyramid=(1, 2), pool5_grid=2)
    with pytest.raises(StageError, match="resnet50 has no fc6"):
        build("resnet50", 5, device="meta", pyramid=(1,))
