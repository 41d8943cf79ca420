"""A network's layers in another mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(trunk: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its layers back into its own at the end."""
    modes = {module: module.training for module in trunk.modules()}
    trunk.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def dropout(network: nn.Module, active: bool) -> Iterator[None]:
    """Leave dropout as it is inside, or turn it off and back on afterwards."""
    layers = [m for m in network.modules() if isinstance(m, nn.Dropout)]
    rates = [layer.p for layer in layers]
    for layer in layers:
        layer.p = layer.p if active else 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate
