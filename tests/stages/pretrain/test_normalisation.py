"""Batch normalisation that is put in and folded away again."""

import copy

import torch
from torch import nn

from stages.networks.network import build
from stages.pretrain.normalisation import Normalised, fold, normalise


def test_folded_network_computes_the_same() -> None:
    torch.manual_seed(0)
    network = build("small", 5, generator=torch.Generator().manual_seed(1))
    names = list(network.state_dict())
    assert normalise(network, list(network.classifier_parameters()))
    assert sum(isinstance(m, Normalised) for m in network.modules()) == 7  # five convolutions, fc6, fc7
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, 3, 64, 64) * 2 + 1)  # running statistics far from 0 and 1
    x = torch.randn(4, 3, 64, 64)
    expected = copy.deepcopy(network).eval()(x)
    fold(network)
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network.eval()(x), expected, rtol=1e-4, atol=1e-4)


def test_networks_with_their_own_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    before = list(network.state_dict())
    assert not normalise(network, list(network[3].parameters()))
    assert list(network.state_dict()) == before
