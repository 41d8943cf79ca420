"""Truncated singular value decomposition of the fully connected layers, for speed at test time (section 3.1)."""

import copy

import torch
from torch import nn

from stages.networks.pyramid import put_module

from .head import FastHead

RANKS = (1024, 256)  # of fc6 and fc7 (section 4.4; py-faster-rcnn's compress_net.py)


def truncated(layer: nn.Linear, rank: int) -> nn.Sequential:
    """Return two layers that together come nearest to one, of all pairs with ``rank`` values between them.

    The first, without a bias, holds the right singular vectors times their values, the second the left ones and the
    bias. A rank above the layer's own is that one: the two are then equal to the layer but for rounding.
    """
    if rank < 1:
        raise ValueError(f"a rank is at least 1, not {rank}")
    weight = layer.weight.detach()
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    rank = min(rank, len(values))
    first = nn.Linear(layer.in_features, rank, bias=False, device="meta")
    second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None, device="meta")
    first.weight = nn.Parameter((values[:rank, None] * right[:rank]).contiguous())
    second.weight = nn.Parameter(left[:, :rank].contiguous())
    if layer.bias is not None:
        second.bias = nn.Parameter(layer.bias.detach().clone())
    return nn.Sequential(first, second)


def compressed(head: FastHead, ranks: tuple[int, int] = RANKS) -> FastHead:
    """Return a copy of a head in evaluation mode, its fc6 and fc7 truncated to ``ranks``.

    A layer stays whole where two would multiply no less than one (ours): the paper's ranks are for layers of 4,096.
    """
    made = copy.deepcopy(head).eval().requires_grad_(False)
    layers = [(path, layer) for path, layer in made.fc.named_modules() if isinstance(layer, nn.Linear)]
    for (path, layer), rank in zip(layers, ranks, strict=True):
        if rank * (layer.in_features + layer.out_features) < layer.in_features * layer.out_features:
            put_module(made.fc, path, truncated(layer, rank).eval().requires_grad_(False))
    return made
