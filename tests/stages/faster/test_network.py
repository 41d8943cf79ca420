"""The shared network's file, its digests, and what of it no training changes."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from region_networks import CLASSES, region_network, seeded
from safetensors import safe_open
from safetensors.torch import save_file

from cache.errors import StageError
from stages.fast.head import roi_scores
from stages.fast.rois import TargetNorm
from stages.faster.network import (
    RegionNetwork,
    RpnShape,
    Shared,
    cut,
    frozen_parameters,
    load_regions,
    new_layers,
    save_regions,
)
from stages.faster.proposer import rpn_digest
from stages.faster.scorer import fast_digest
from stages.networks.network import build
from stages.networks.weights import save_weights
from stages.rpn.anchors import Anchors


def tensors_of(of: RegionNetwork) -> dict[str, torch.Tensor]:
    assert of.rpn is not None and of.fast is not None
    parts = {"network": of.network.trunk, "rpn": of.rpn, "fast": new_layers(of.fast)}
    return {f"{part}/{name}": tensor for part, module in parts.items() for name, tensor in module.state_dict().items()}


def edited(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Write a file again with other tensors or metadata."""
    with safe_open(path, "pt") as file:
        tensors, meta = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    change(tensors, meta)
    save_file(tensors, path, meta)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    made = region_network(objectness="logistic", pooled_by=("align", "own"))
    for name in ("a", "b"):
        save_regions(tmp_path / name, made, {"stage": "fast_1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = load_regions(tmp_path / "a")
    wanted, got = tensors_of(made), tensors_of(found)
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert (found.layer, found.rpn_shape, found.pooled_by) == (made.layer, made.rpn_shape, ("align", "own"))
    assert found.norm is not None and made.norm is not None
    np.testing.assert_array_equal(found.norm.mean, made.norm.mean)
    np.testing.assert_array_equal(found.norm.std, made.norm.std)
    assert (found.network.pyramid, found.network.input) == (made.network.pyramid, made.network.input)
    image = torch.rand(1, 3, 70, 90, generator=seeded(5))
    for one in (found, made):
        one.network.eval()
    assert torch.equal(*(Shared(one, trunk=True, rpn=False, fast=False).map_of(image) for one in (found, made)))


def test_a_networks_own_weights_are_one_without_heads(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", build("small", 3, generator=seeded()))
    found = load_regions(tmp_path / "w.safetensors")
    assert (found.rpn, found.fast, found.norm, found.layer) == (None, None, None, found.network.conv5)
    assert load_regions(tmp_path / "w.safetensors", "features.8").layer == "features.8"
    save_regions(tmp_path / "r.safetensors", found)
    again = load_regions(tmp_path / "r.safetensors")
    assert (again.rpn, again.fast, again.norm) == (None, None, None)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def no_safetensors(path: Path) -> None:
    path.write_bytes(b"not a file of tensors")


def other(group: str, **values: Any) -> Callable[[Path], None]:
    """Change what the metadata say of a group."""

    def change(path: Path) -> None:
        def one(_: dict[str, torch.Tensor], meta: dict[str, str]) -> None:
            meta[group] = json.dumps(json.loads(meta[group]) | values)

        edited(path, one)

    return change


def metadata(**values: str) -> Callable[[Path], None]:
    return lambda path: edited(path, lambda _, meta: meta.update(values))


def metadata_of_network(**values: str) -> Callable[[Path], None]:
    return other("network", **values)


def without(tensor: str) -> Callable[[Path], None]:
    return lambda path: edited(path, lambda tensors, _: (tensors.pop(tensor), None)[1])


def instead(tensor: str, value: torch.Tensor) -> Callable[[Path], None]:
    return lambda path: edited(path, lambda tensors, _: tensors.update({tensor: value}))


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        no_safetensors,
        metadata(format="another-1"),
        metadata(network="{"),
        metadata(rpn="[]"),
        metadata(layer="features.99"),
        other("rpn", scales_px=[24, 48, 96]),  # other anchors than the weights are of
        other("rpn", scales_px=["a", "b"]),
        other("rpn", scales_px=[0, 48]),
        other("rpn", objectness="logistic"),
        other("rpn", objectness="yes"),
        other("rpn", channels=17),
        other("rpn", channels=10**9),
        other("rpn", centres="nowhere"),
        other("rpn", anchors="mine"),
        other("fast", n_classes=3),
        other("fast", n_classes=0),
        other("fast", n_classes=10**12),
        other("fast", pooled_by=["mean", "own"]),
        other("fast", pooled_by=[]),
        without("rpn/conv.weight"),
        without("fast/bbox_pred.bias"),
        without("norm/std"),
        without("network/features.0.weight"),
        metadata_of_network(map_channels="0"),
        metadata_of_network(map_channels="32"),
        metadata_of_network(map_channels="10000000000"),
        metadata_of_network(map_channels="many"),
        instead("norm/mean", torch.zeros(3, 4, dtype=torch.float64)),
        instead("norm/std", torch.zeros(2, 4, dtype=torch.float64)),
        instead("norm/std", torch.full((2, 4), torch.nan, dtype=torch.float64)),
        instead("rpn/conv.bias", torch.zeros(3)),
    ],
)
def test_a_foreign_or_damaged_file_is_one_error_that_names_it(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_regions(path, region_network())
    damage(path)
    with pytest.raises(StageError) as error:
        load_regions(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_layer_that_is_no_map_cannot_be_shared() -> None:
    with pytest.raises(StageError, match=r"maps\.layer: classifier\.2 of network small is no feature map"):
        cut(build("small", 3, generator=seeded()), "classifier.2")


def test_an_image_without_a_map_is_named_by_its_size() -> None:
    made = cut(build("alexnet", 2, device="meta"), None)
    assert made.map_shape(224, 320) == (13, 19)
    with pytest.raises(StageError, match=r"alexnet has no feature map left of an image scaled to 400 x 5 px"):
        made.map_shape(5, 400)


def test_layer3_of_resnet50_carries_a_detector(tmp_path: Path) -> None:
    """fc6 is drawn anew for its 1,024 channels; fc7 stays; what is written is read back, and scores as by hand."""
    network = build("resnet50", 3, generator=seeded(), fc=(12, 8), pyramid=(2,))
    fc7 = network.trunk.get_parameter("fc.4.weight").detach().clone()
    made = cut(network, "layer3")
    assert (made.layer, made.channels, made.geometry.x.stride) == ("layer3.5.relu_2", 1024, 16)
    made.fit_fc6(seeded(1))
    assert made.grid == 2
    fc6 = made.network.trunk.get_parameter("fc.1.weight")
    assert fc6.shape == (12, 1024 * 4)
    assert float(fc6.detach().std()) == pytest.approx((2 / 4096) ** 0.5, rel=0.02)
    made.fit_fc6(seeded(2))  # fits already: fast_2's keeps what fast_1 has trained
    assert made.network.trunk.get_parameter("fc.1.weight") is fc6
    assert torch.equal(made.network.trunk.get_parameter("fc.4.weight"), fc7)
    made.add_rpn(RpnShape(Anchors((32, 64), (1,)), "authors", "softmax", 8), seeded(3))
    made.add_fast(CLASSES, seeded(4))
    made.norm = TargetNorm.fixed(CLASSES)
    save_regions(tmp_path / "w.safetensors", made)
    found = load_regions(tmp_path / "w.safetensors")
    wanted, got = tensors_of(made), tensors_of(found)
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)

    found.network.eval()
    shared = Shared(found, trunk=True, rpn=True, fast=True).eval()
    with torch.inference_mode():
        fmap = shared.map_of(torch.rand(1, 3, 64, 96, generator=seeded(5)))
        assert fmap.shape == (1, 1024, *found.map_shape(64, 96)) == (1, 1024, 4, 6)
        assert found.rpn is not None and found.rpn(fmap)[0].shape[1] == 4 * 6 * 2
        assert found.fast is not None and found.norm is not None
        pooled = torchvision.ops.roi_pool(fmap, [torch.tensor([[0.0, 0, 63, 63]])], 2, 1 / 16).flatten(1)
        probabilities, _ = roi_scores(found.fast, found.pooling, found.norm, fmap, np.array([[0, 0, 64, 64]]))
        state = {name.removeprefix("network/fc."): value for name, value in got.items()}
        value = pooled / pooled.square().mean(1, keepdim=True).add(1e-6).sqrt()
        for layer in (1, 4):
            value = torch.relu(value @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])
        logits = value @ got["fast/cls_score.weight"].T + got["fast/cls_score.bias"]
    np.testing.assert_allclose(probabilities, torch.softmax(logits, 1).numpy(), rtol=1e-5)


def test_vggs_first_four_convolutions_stay() -> None:
    vgg = build("vgg16", 3, device="meta")
    names = frozen_parameters(vgg, vgg.conv5, None)
    kept = {f"features.{i}.{kind}" for i in (0, 2, 5, 7) for kind in ("weight", "bias")}  # conv1_1 to conv2_2
    assert names == kept
    shapes = [tuple(vgg.trunk.state_dict()[name].shape[:2]) for name in sorted(names) if name.endswith("weight")]
    assert shapes == [(64, 3), (64, 64), (128, 64), (128, 128)]


@pytest.mark.parametrize("name", ["zf5", "small", "alexnet", "squeezenet1_0"])
def test_of_other_networks_nothing_stays_unless_asked(name: str) -> None:
    network = build(name, 3, device="meta")
    assert frozen_parameters(network, network.conv5, None) == frozen_parameters(network, network.conv5, "none") == set()
    first = frozen_parameters(network, network.conv5, "features.0")
    assert {part.rpartition(".")[0] for part in first} == {"features.0"}


def test_what_is_frozen_must_come_before_the_map() -> None:
    network = build("small", 3, device="meta")
    with pytest.raises(StageError, match=r"maps\.frozen: classifier\.2 does not come before the shared map features"):
        frozen_parameters(network, network.conv5, "classifier.2")
    with pytest.raises(StageError, match=r"fetures"):
        frozen_parameters(network, network.conv5, "fetures.3")


def test_each_digest_is_of_its_own_part() -> None:
    made = region_network()
    digests = {"trunk": lambda one: one.trunk_digest, "rpn": rpn_digest, "fast": fast_digest}
    before = {name: digest(made) for name, digest in digests.items()}
    assert before == {name: digest(region_network()) for name, digest in digests.items()}
    assert made.rpn is not None and made.fast is not None
    changes = {
        made.network.trunk.get_submodule("features.0"): {"trunk"},
        made.rpn.conv: {"rpn"},
        made.rpn.box: {"rpn"},
        made.fast.cls_score: {"fast"},
        made.fast.bbox_pred: {"fast"},
        next(m for m in made.fast.fc.modules() if isinstance(m, torch.nn.Linear)): {"fast"},
    }
    for layer, changed in changes.items():
        with torch.no_grad():
            layer.bias[0] += 1
        now = {name: digest(made) for name, digest in digests.items()}
        assert {name for name in now if now[name] != before[name]} == changed, layer
        before = now


def test_digests_tell_what_is_no_weight() -> None:
    one, far, other_norm = region_network(), region_network(scales_px=(24, 50)), region_network()
    assert rpn_digest(one) != rpn_digest(far)
    assert other_norm.norm is not None
    other_norm.norm.mean[0, 0] += 1e-6
    assert fast_digest(one) != fast_digest(other_norm)
    assert fast_digest(one) != fast_digest(region_network(pooled_by=("max", "own")))


def test_new_heads_are_drawn_from_the_generator() -> None:
    made = region_network()
    assert made.rpn_shape is not None
    drawn = [copy.deepcopy(made.add_rpn(made.rpn_shape, seeded(s))) for s in (1, 1, 2)]
    assert torch.equal(drawn[0].conv.weight, drawn[1].conv.weight)
    assert not torch.equal(drawn[0].conv.weight, drawn[2].conv.weight)
    made.add_fast(5, seeded())
    assert made.norm is None and made.fast is not None and made.fast.n_classes == 5
