"""``overfeat_fast`` and ``overfeat_accurate``: OverFeat's two networks (Sermanet et al. 2013, Tables 1 and 3)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ConvLayer:
    """One convolution with its ReLU: filters of ``kernel`` squared, and max pooling ``pool`` / ``pool`` (1: none)."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    pool: int = 1


class OverFeat(nn.Module):
    """Convolutions in ``features``, three fully connected layers in ``classifier``: what both networks share.

    No normalisation; pooling does not overlap, and rounds down as convolutions do. fc6 takes ``grid`` x ``grid`` cells
    of the last map, flattened as (c, y, x): in the paper it is a convolution of that size, whose weights
    [out, in, y, x] are this matrix. Dropout .5 on the outputs of the first two, weights start N(0, 0.01) (both
    section 3.1), biases at 0 (the paper is silent). The ReLU is the plain one: the authors' code makes 0 of what is
    not above 1e-6, the paper does not.
    """

    layers: ClassVar[tuple[ConvLayer, ...]]
    grid: ClassVar[int]
    units: ClassVar[tuple[int, int]]

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        inputs, features = 3, list[nn.Module]()
        for layer in self.layers:
            features += [
                nn.Conv2d(inputs, layer.channels, layer.kernel, stride=layer.stride, padding=layer.padding),
                nn.ReLU(inplace=True),
            ]
            if layer.pool > 1:
                features.append(nn.MaxPool2d(layer.pool))
            inputs = layer.channels
        self.features = nn.Sequential(*features)
        fc6, fc7 = self.units
        self.classifier = nn.Sequential(
            nn.Linear(inputs * self.grid**2, fc6),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(fc6, fc7),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(fc7, n_outputs),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map crops [B, 3, side, side] to logits [B, n_outputs]."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


class OverFeatFast(OverFeat):
    """The *fast* network: 231 -> 56, 28 -> 24, 12 -> 12 -> 12 -> 12, 6; 145,920,872 parameters with 1,000 outputs.

    A step of its 6 x 6 window over pool5 is 32 px.
    """

    layers = (
        ConvLayer(96, 11, stride=4, pool=2),
        ConvLayer(256, 5, pool=2),
        ConvLayer(512, 3, padding=1),
        ConvLayer(1024, 3, padding=1),
        ConvLayer(1024, 3, padding=1, pool=2),
    )
    grid = 6
    units = (3072, 4096)


class OverFeatAccurate(OverFeat):
    """The *accurate* network: 221 -> 108, 36 -> 30, 15 -> 15 x 4, 5; 144,656,488 parameters with 1,000 outputs.

    It has six convolutions: conv5 and pool5, fc6, fc7 and fc8 of the named layers are the paper's layers 6 to 9. A step
    of its 5 x 5 window over pool5 is 36 px.
    """

    layers = (
        ConvLayer(96, 7, stride=2, pool=3),
        ConvLayer(256, 7, pool=2),
        ConvLayer(512, 3, padding=1),
        ConvLayer(512, 3, padding=1),
        ConvLayer(1024, 3, padding=1),
        ConvLayer(1024, 3, padding=1, pool=3),
    )
    grid = 5
    units = (4096, 4096)
