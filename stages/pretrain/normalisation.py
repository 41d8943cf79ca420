"""Batch normalisation while a network is trained from scratch, folded into its layers afterwards.

The networks of the paper's time have none, and so fine-tuning and feature extraction see none; but without it a plain
stack of convolutions needs many times the iterations to leave the plateau at chance, more than a demonstration has.
Folding is exact up to rounding: in evaluation mode a normalised layer is an affine function of its input.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn


class Normalised(nn.Module):
    """A convolution or linear layer followed by batch normalisation of its output."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.norm = (
            nn.BatchNorm2d(layer.out_channels) if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d(layer.out_features)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, then normalise its output."""
        normalised: Tensor = self.norm(self.layer(x))
        return normalised

    @torch.no_grad()
    def folded(self) -> nn.Conv2d | nn.Linear:
        """Return the inner layer with ``y = gain * (W x + b - mean) / sqrt(var + eps) + shift`` as its own weights."""
        norm, layer = self.norm, self.layer
        assert norm.running_var is not None and norm.running_mean is not None and layer.bias is not None
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        layer.weight.mul_(gain.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.sub_(norm.running_mean).mul_(gain).add_(norm.bias)
        return layer


def normalise(network: nn.Module, head: Collection[nn.Parameter]) -> bool:
    """Put batch normalisation behind every convolution and linear layer but the last, in place.

    ``head``: the last layer's parameters. Networks that have normalisation of their own are left alone; returns
    whether anything was put in.
    """
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
        return False
    last = {id(p) for p in head}
    for parent, name, layer in _children(network):
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None and id(layer.weight) not in last:
            setattr(parent, name, Normalised(layer))
    return True


def fold(network: nn.Module) -> None:
    """Undo :func:`normalise` in place, keeping what the network computes in evaluation mode."""
    for parent, name, layer in _children(network):
        if isinstance(layer, Normalised):
            setattr(parent, name, layer.folded())


def _children(network: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """List every module below the network: (parent, name in it, module)."""
    return [(parent, name, child) for parent in network.modules() for name, child in parent.named_children()]
