"""Weights files: what goes in comes out, what does not fit is named, and digests cover just what a layer needs."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from network_parts import trunk_of
from safetensors import safe_open
from safetensors.torch import save_file

from cache.errors import StageError
from stages.networks.network import Network, build
from stages.networks.spec import InputSpec
from stages.networks.weights import load_weights, save_weights, weights_digest


@pytest.fixture(scope="module")
def small() -> Network:
    return build("small", 7, generator=torch.Generator().manual_seed(0)).eval()


def test_a_file_rebuilds_the_network(small: Network, tmp_path: Path) -> None:
    network = copy.deepcopy(small)
    network.pool5_grid, network.input = 2, InputSpec(48, "bgr", 255.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    save_weights(tmp_path / "w.safetensors", network, {"stage": "test"})
    back = load_weights(tmp_path / "w.safetensors")
    assert (back.name, back.n_outputs, back.pool5_grid, back.input) == ("small", 7, 2, network.input)
    assert not back.training
    assert all(p.requires_grad for p in back.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata()["stage"] == "test"
    save_weights(tmp_path / "again.safetensors", back, {"stage": "test"})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()


def test_loaded_weights_outlive_their_file(small: Network, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, small)
    network = load_weights(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(trunk_of(network).features[0].weight, trunk_of(small).features[0].weight)


def test_the_digest_covers_just_what_a_layer_needs(small: Network) -> None:
    digests = {layer: weights_digest(small, [layer]) for layer in small.layers}
    assert len(set(digests.values())) == 4
    assert all(len(d) == 64 for d in digests.values())
    changed = copy.deepcopy(small)
    changed.new_head(3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        trunk_of(changed).classifier[4].bias[0] += 1  # fc7
    same = {layer for layer in small.layers if weights_digest(changed, [layer]) == digests[layer]}
    assert same == {"pool5", "fc6"}
    assert weights_digest(small, ["fc7", "pool5"]) == weights_digest(small, ["pool5", "fc7"])
    first = copy.deepcopy(small)
    with torch.no_grad():
        trunk_of(first).features[0].weight[0, 0, 0, 0] += 1e-6
    assert not {weights_digest(first, [layer]) for layer in small.layers} & set(digests.values())


def test_the_digest_is_of_values_not_of_memory(small: Network) -> None:
    other = copy.deepcopy(small).to(memory_format=torch.channels_last)
    other.graph(["fc6"])
    assert weights_digest(other, ["fc7"]) == weights_digest(small, ["fc7"])


def test_pickles_and_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.safetensors")
    (tmp_path / "text.safetensors").write_text("weights")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("pickle", "text", "empty"):
        with pytest.raises(StageError, match="not a readable safetensors file"):
            load_weights(tmp_path / f"{name}.safetensors")
    with pytest.raises(StageError, match="no such weights file"):
        load_weights(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(StageError, match="not written by this pipeline"):
        load_weights(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"n_outputs": "-1"},
        {"n_outputs": "99999999999999"},
        {"pool5_grid": "1000000"},
        {"pool5_grid": "[2]"},
        {"input": "[" * 100_000},
        {"input": {"side_px": 10**6}},
        {"input": {"std": [1, 0, 1]}},
        {"input": {"mean": [0, float("nan"), 0]}},
    ],
)
def test_figures_that_no_network_has_take_no_memory(small: Network, tmp_path: Path, change: dict[str, Any]) -> None:
    spec = (
        {**small.input.as_json(), **change["input"]} if isinstance(change.get("input"), dict) else small.input.as_json()
    )
    meta = {"format": "rcnn-weights-1", "architecture": "small", "n_outputs": "7", "pool5_grid": "null"}
    meta = meta | {"input": json.dumps(spec)} | {k: v for k, v in change.items() if isinstance(v, str)}
    save_file(small.trunk.state_dict(), tmp_path / "w.safetensors", meta)
    with pytest.raises(StageError, match="damaged weights metadata"):
        load_weights(tmp_path / "w.safetensors")


def test_damaged_metadata(small: Network, tmp_path: Path) -> None:
    tensors = small.trunk.state_dict()
    meta = {"format": "rcnn-weights-1", "architecture": "small", "n_outputs": "many", "pool5_grid": "null"}
    save_file(tensors, tmp_path / "w.safetensors", meta)
    with pytest.raises(StageError, match="damaged weights metadata"):
        load_weights(tmp_path / "w.safetensors")


def test_the_digest_tells_rectified_logits_from_others() -> None:
    cut = build("squeezenet1_0", 5, generator=torch.Generator().manual_seed(0)).eval()
    free = copy.deepcopy(cut)
    free.drop_rectifier()
    assert weights_digest(cut, ["fc8"]) != weights_digest(free, ["fc8"])
    assert weights_digest(cut, ["pool5"]) == weights_digest(free, ["pool5"])


def of_constants(network: Network) -> Network:
    """Give the network weights that no version of a random generator changes."""
    with torch.no_grad():
        for i, tensor in enumerate(network.trunk.state_dict().values()):
            tensor.fill_(i % 7 / 8)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "layers", "options", "digest"),
    [
        ("small", ["pool5"], {}, "7198a7ec76b937e42f5340b66d1d3af0f753ba809cb179cada26d8b6b0ccf791"),
        ("small", ["fc7", "pool5"], {}, "2951e364514f059194dd1f474dea46e030b44166ed3f32ac76c725b39d424b45"),
        ("small", ["fc6"], {"pyramid": (1, 2)}, "9f43ac180f396bc7de661e72dbd9d1007f385766f63e4a13cb20b53c725b4b94"),
        ("squeezenet1_0", ["fc8"], {}, "5dd6a8837df667f699f1b3670558fe9eb0ba5055d474d39122f56c6c3a3277e3"),
        (
            "squeezenet1_0",
            ["pool5"],
            {"pool5_grid": 2},
            "7521b622375c9834a66fd2af526b5c3d3c6871804badaba60f4fd143da1f795c",
        ),
        ("zf5", ["fc6"], {"pyramid": (1, 2)}, "531eed885524847afbb1f0adba861fabb8846d595c0aefc86f0bb7f35d0bf980"),
    ],
)
def test_digests_of_networks_without_fc_are_those_that_stores_have(
    name: str, layers: list[str], options: dict[str, Any], digest: str
) -> None:
    assert weights_digest(of_constants(build(name, 3, **options)), layers) == digest


def test_the_digest_tells_new_fc_layers_and_their_pyramid_from_the_architectures_own() -> None:
    fc = (512, 512)  # as large as the architecture's own, so that every tensor has the same name and shape
    own = of_constants(build("small", 3, pyramid=(3, 4)))
    new = of_constants(build("small", 3, pyramid=(3, 4), fc=fc))
    one_level = of_constants(build("small", 3, pyramid=(5,), fc=fc))  # 25 bins, too
    turned = of_constants(build("small", 3, pyramid=(4, 3), fc=fc))
    shapes = {str([(k, v.shape) for k, v in one.graph(["fc6"]).state_dict().items()]) for one in (own, new, one_level)}
    assert len(shapes) == 1
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(own.extract(x, ["fc6"])["fc6"], new.extract(x, ["fc6"])["fc6"])
    assert len({weights_digest(one, ["fc6"]) for one in (own, new, one_level, turned)}) == 4
    assert len({weights_digest(one, ["fc6", "pool5"]) for one in (own, new, one_level, turned)}) == 4
    # what comes before the new layers is the same function
    assert len({weights_digest(one, [one.conv5]) for one in (own, new, one_level)}) == 1
    assert weights_digest(own, ["pool5"]) == weights_digest(new, ["pool5"])
