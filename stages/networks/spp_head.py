"""SPP-net's head behind any conv5: a pyramid and new fully connected layers (SPP paper sections 2.2 and 4.2)."""

from collections.abc import Sequence

import torch
from torch import nn

from .architectures import HeadPlace
from .pyramid import put_module, put_pool

LAST_LAYER_STD = 0.01  # as every new last layer has it (paper section 2.3)


def put_fc_head(
    trunk: nn.Module, place: HeadPlace, levels: Sequence[int], fc: Sequence[int], n_outputs: int, device: str
) -> None:
    """Put a pyramid, fc6 and fc7 of ``fc`` outputs with ReLU and dropout each, and a last layer behind conv5.

    They take the place of whatever followed it. Each pooled vector is brought to a root mean square of 1 before fc6
    (pool5 itself is not): networks differ by a factor of 100 in how large their conv5 is, and a learning rate that
    suits one would throw another off (ours). fc6 and fc7 start as He et al. (2015) have it, which keeps that size; the
    last layer N(0, 0.01); biases 0. Drawn from torch's global generator.

    Args:
        trunk: Changed in place.
        place: Where the trunk takes the layers, and how many channels its conv5 has.
        levels: The pyramid's; fc6 takes ``channels * sum of n squared`` values.
        fc: Outputs of fc6 and of fc7.
        device: Where the new layers' weights are made ("meta" makes none).
    """
    with torch.device(device):
        inputs = place.channels * sum(n * n for n in levels)
        layers: list[nn.Module] = [_norm(inputs)]
        for outputs in fc:
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout()]
            inputs = outputs
        layers.append(nn.Linear(inputs, n_outputs))
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for layer in linear:
        _start(layer)
    nn.init.normal_(linear[-1].weight, std=LAST_LAYER_STD)
    put_pool(trunk, place.pool5, levels)
    put_module(trunk, place.fc, nn.Sequential(*layers))


def put_fc6(trunk: nn.Module, place: HeadPlace, inputs: int, device: str) -> None:
    """Put another fc6, and the norm before it, into a head of :func:`put_fc_head`: one that takes ``inputs`` values.

    It starts as that one did, drawn from torch's global generator; fc7 and the last layer stay. Changes the trunk.
    """
    old = trunk.get_submodule(f"{place.fc}.1")
    assert isinstance(old, nn.Linear)
    with torch.device(device):
        norm, new = _norm(inputs), nn.Linear(inputs, old.out_features)
    _start(new)
    put_module(trunk, f"{place.fc}.0", norm.train(old.training))
    put_module(trunk, f"{place.fc}.1", new.train(old.training))


def _norm(inputs: int) -> nn.Module:
    """The norm before fc6: each vector [B, inputs] brought to a root mean square of 1."""
    return nn.RMSNorm(inputs, eps=1e-6, elementwise_affine=False)


def _start(layer: nn.Linear) -> None:
    """Draw a layer as He et al. (2015) have it, which keeps the size of what goes through; its biases 0."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
