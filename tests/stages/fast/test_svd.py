"""Truncated SVD: nearest of its rank, none at full rank, and on a copy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from stages.fast.head import FastHead
from stages.fast.svd import compressed, truncated
from stages.networks.network import build


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(inputs: int, outputs: int) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    with torch.no_grad():
        made.weight.normal_(generator=seeded())
        made.bias.normal_(generator=seeded(1))
    return made


@pytest.mark.parametrize(("inputs", "outputs"), [(30, 12), (12, 30), (16, 16)])
def test_at_full_rank_nothing_changes(inputs: int, outputs: int) -> None:
    whole, x = layer(inputs, outputs), torch.randn(9, inputs, generator=seeded(2))
    for rank in (min(inputs, outputs), 10_000):
        pair = truncated(whole, rank)
        torch.testing.assert_close(pair(x), whole(x), rtol=1e-5, atol=1e-5)
        assert pair[0].bias is None and torch.equal(pair[1].bias, whole.bias)


@pytest.mark.parametrize("rank", [1, 5, 11])
def test_the_error_is_the_values_that_were_left_out(rank: int) -> None:
    whole = layer(30, 12)
    first, second = truncated(whole, rank)
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    assert (first.weight.shape, second.weight.shape) == ((rank, 30), (12, rank))
    product = (second.weight @ first.weight).detach().numpy()
    weight = whole.weight.detach().numpy().astype(np.float64)
    values = np.linalg.eigvalsh(weight @ weight.T)[::-1]  # squared singular values (Eckart and Young 1936)
    assert np.square(weight - product).sum() == pytest.approx(values[rank:].sum(), rel=1e-4)
    with pytest.raises(ValueError, match="at least 1"):
        truncated(whole, 0)


def test_a_head_is_compressed_on_a_copy_and_where_it_saves_products() -> None:
    net = build("small", 5, generator=seeded(), pyramid=(3,), fc=(80, 60))
    head = FastHead(net, 2, seeded()).train()
    before = copy.deepcopy(head.state_dict())
    pooled = torch.rand(6, 64, 3, 3, generator=seeded(1))
    whole = compressed(head, (80, 60))
    assert not whole.training and head.training
    torch.testing.assert_close(whole(pooled), copy.deepcopy(head).eval()(pooled))
    small = compressed(head, (10, 4))
    kinds = [m.weight.shape for m in small.fc.modules() if isinstance(m, nn.Linear)]
    assert kinds == [(10, 576), (80, 10), (4, 80), (60, 4)]
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert head.fc.get_submodule("classifier.1").weight.requires_grad

    fc = {name: value for name, value in before.items() if name.startswith("fc.")}
    flat = pooled.flatten(1)
    x = flat / (flat.square().mean(1, keepdim=True) + 1e-6).sqrt()
    for place, rank in (("1", 10), ("4", 4)):
        u, s, v = np.linalg.svd(fc[f"fc.classifier.{place}.weight"].numpy().astype(np.float64), full_matrices=False)
        weight = torch.from_numpy(((u[:, :rank] * s[:rank]) @ v[:rank]).astype(np.float32))
        x = torch.relu(x @ weight.T + fc[f"fc.classifier.{place}.bias"])
    torch.testing.assert_close(small(pooled)[0], small.cls_score(x), rtol=1e-4, atol=1e-5)


def test_the_papers_ranks_save_products_in_vgg16() -> None:
    """Its fc6 and fc7 alone: 25,088 and 4,096 inputs."""
    for inputs, rank in ((25_088, 1024), (4096, 256)):
        assert rank * (inputs + 4096) < inputs * 4096 / 3
