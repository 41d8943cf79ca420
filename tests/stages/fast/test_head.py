"""Fast R-CNN's head against layers chained by hand; its grid; what it shares with the network."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cache.errors import StageError
from stages.fast import head as head_module
from stages.fast.head import FastHead, grid_of, roi_scores
from stages.fast.pooling import RoiPooling
from stages.fast.rois import TargetNorm
from stages.faster.network import cut
from stages.networks.network import Network, build
from stages.networks.pyramid import put_module
from stages.networks.receptive_field import Axis, Geometry

GRIDS = {"alexnet": 6, "caffenet": 6, "zf5": 6, "zf": 6, "overfeat_fast": 6, "overfeat_accurate": 5, "vgg16": 7}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(name: str = "squeezenet1_0", fc: tuple[int, int] = (24, 16), pyramid: tuple[int, ...] = (3,)) -> Network:
    return build(name, 5, generator=seeded(), pyramid=pyramid, fc=fc)


@pytest.mark.parametrize(("name", "grid"), GRIDS.items())
def test_the_grid_is_the_one_that_fc6_takes(name: str, grid: int) -> None:
    assert grid_of(build(name, 5, device="meta")) == grid


@pytest.mark.parametrize("name", ["squeezenet1_0", "resnet50", "small", "zf5"])
def test_new_layers_take_the_pyramids_level(name: str) -> None:
    assert grid_of(build(name, 5, device="meta", pyramid=(4,), fc=(8, 8))) == 4


def test_the_networks_of_no_grid() -> None:
    with pytest.raises(
        StageError, match=r"squeezenet1_0 has no fc6.*network\.pyramid: \[7\].*network\.fc: \[1024, 1024"
    ):
        grid_of(build("squeezenet1_0", 5, device="meta"))
    for levels in ((1, 2, 3, 6), (3, 4)):  # 50 bins; 25, which would pass for a grid of 5
        with pytest.raises(StageError, match=rf"zf5 takes a pyramid of levels \[{levels[0]}, .*one level"):
            grid_of(build("zf5", 5, device="meta", pyramid=levels))
    odd = build("zf5", 5, device="meta")
    put_module(odd.trunk, "classifier.0", nn.Linear(256 * 30, 4096, device="meta"))
    with pytest.raises(StageError, match=r"takes 7680 values, which is no square grid of 256 channels"):
        grid_of(odd)


def test_another_shared_map_has_the_channels_that_fc6_takes() -> None:
    assert cut(build("vgg16", 5, device="meta"), "features.22").grid == 7  # conv4_3, 512 channels as conv5_3 has
    deep = build("resnet50", 5, device="meta", pyramid=(7,), fc=(8, 8))
    assert cut(deep, None).grid == 7
    with pytest.raises(StageError, match=r"maps\.layer: layer3\.5\.relu_2 .*has 1024 channels, and its fc6 takes 2048"):
        _ = cut(deep, "layer3.5.relu_2").grid
    own = cut(build("alexnet", 5, device="meta"), "features.4")
    own.fit_fc6(seeded())  # which has no layers of network.fc
    with pytest.raises(StageError, match=r"features\.4 .*192 channels, and its fc6 takes 256; .*network\.fc: \[1024"):
        _ = own.grid


def test_outputs_are_those_of_layers_chained_by_hand() -> None:
    net = network("zf5", (24, 16))
    head = FastHead(net, 3, seeded(1)).eval()
    pooled = torch.rand(4, 256, 3, 3, generator=seeded(2))
    fc = dict(net.trunk.get_submodule("classifier").named_parameters())
    flat = pooled.reshape(4, -1)
    flat = flat / (flat.square().mean(1, keepdim=True) + 1e-6).sqrt()
    fc6 = torch.relu(flat @ fc["1.weight"].T + fc["1.bias"])
    fc7 = torch.relu(fc6 @ fc["4.weight"].T + fc["4.bias"])
    logits, transforms = head(pooled)
    torch.testing.assert_close(logits, fc7 @ head.cls_score.weight.T + head.cls_score.bias)
    by_class = [fc7 @ head.bbox_pred.weight[4 * j : 4 * j + 4].T for j in range(3)]
    torch.testing.assert_close(transforms, torch.stack(by_class, 1))
    assert (logits.shape, transforms.shape) == ((4, 4), (4, 3, 4))
    last = head(pooled.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, (logits, transforms))  # memory order says nothing


@pytest.mark.parametrize("name", ["small", "alexnet"])  # whose own fc7 no dropout follows
def test_fc7_is_the_networks_own(name: str) -> None:
    net = build(name, 5, generator=seeded()).eval()
    head = FastHead(net, 2, seeded()).eval()
    x = torch.randn(2, 3, net.input.side_px, net.input.side_px, generator=seeded(1))
    features = net.extract(x, ["pool5", "fc7"])
    pooled = features["pool5"].unflatten(1, (-1, head.grid, head.grid))
    torch.testing.assert_close(head(pooled)[0], head.cls_score(features["fc7"]))


def test_new_layers_start_as_the_authors_have_them() -> None:
    net = network(fc=(64, 512))
    head, again, other = (FastHead(net, 20, seeded(s)) for s in (1, 1, 2))
    assert head.cls_score.weight.shape == (21, 512) and head.bbox_pred.weight.shape == (80, 512)
    assert head.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert head.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.03)
    assert not head.cls_score.bias.any() and not head.bbox_pred.bias.any()
    for new, same, else_ in zip(*(one.new_parameters() for one in (head, again, other)), strict=True):
        assert torch.equal(new, same) and (new.ndim == 1 or not torch.equal(new, else_))


def test_weights_are_shared_and_the_network_keeps_its_last_layer() -> None:
    net = network().eval()
    x = torch.randn(1, 3, 96, 96, generator=seeded(3))
    before = net(x)
    head = FastHead(net, 2, seeded())
    assert torch.equal(net(x), before) and before.shape == (1, 5)
    own = {p.data_ptr() for p in net.trunk.get_submodule("classifier").parameters()}
    shared = [p for p in head.parameters() if p.data_ptr() in own]
    assert len(shared) == 4 and len(list(head.parameters())) == 8  # fc6, fc7; and the two new layers
    with torch.no_grad():
        shared[0].add_(1)
    assert not torch.equal(net(x), before)
    assert not {p.data_ptr() for p in copy.deepcopy(head).parameters()} & own


@pytest.mark.parametrize("name", ["zf5", "vgg16"])
def test_dropout_drops_in_training_alone_and_behind_fc7_too(name: str) -> None:
    net = network(name, (2048, 2048))
    head = FastHead(net, 2, seeded())
    fc6 = next(module for module in head.fc.modules() if isinstance(module, nn.Linear))
    pooled = torch.rand(2, fc6.in_features // 9, 3, 3, generator=seeded(1))
    shares: list[float] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        alive = inputs[0] > 0
        shares.append(float((alive & (output == 0)).sum() / alive.sum()))

    dropouts = [module for module in head.fc.modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.register_forward_hook(note)
    logits = [head.train(mode)(pooled)[0] for mode in (False, False, True, True)]
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[2], logits[3])
    assert len(dropouts) == 2 and shares[:4] == [0] * 4
    assert shares[4:] == pytest.approx([0.5] * 4, abs=0.05)


def test_training_reaches_every_layer() -> None:
    head = FastHead(network(), 2, seeded()).train()
    logits, transforms = head(torch.rand(8, 512, 3, 3, generator=seeded(1)))
    (logits.square().sum() + transforms.square().sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


@pytest.mark.parametrize("n", [0, 1, 23])
def test_scores_are_those_of_every_roi_by_itself(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "_AT_ONCE", 5)
    head = FastHead(network(), 2, seeded()).eval()
    with torch.no_grad():
        head.bbox_pred.weight.mul_(1000)
    asked: list[int] = []
    head.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    fmap = torch.rand(1, 512, 9, 12, generator=seeded(1))
    ends = np.sort(np.random.default_rng(0).uniform(0, 1, (n, 2, 2)), axis=1).reshape(n, 4) * [96, 72, 96, 72]
    boxes = np.concatenate([ends, ends])  # each twice
    norm = TargetNorm(np.arange(8.0).reshape(2, 4), np.arange(1.0, 9).reshape(2, 4))
    pooling = RoiPooling(3, Geometry(Axis(16), Axis(16)))
    probabilities, transforms = roi_scores(head, pooling, norm, fmap, boxes, (2.0, 2.0))
    assert sum(asked) <= n and max(asked, default=0) <= 5
    assert (probabilities.shape, transforms.shape) == ((2 * n, 3), (2 * n, 2, 4))
    for i in range(2 * n):
        logits, moved = head(pooling(fmap, boxes[i], (2.0, 2.0)))
        e = np.exp(logits.detach().numpy()[0].astype(np.float64))
        np.testing.assert_allclose(probabilities[i], e / e.sum(), rtol=1e-5)
        np.testing.assert_allclose(
            transforms[i], moved.detach().numpy()[0] * norm.std + norm.mean, rtol=1e-4, atol=1e-4
        )
