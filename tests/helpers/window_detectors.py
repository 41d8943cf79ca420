"""A tiny classifier of windows and a box regressor, not trained but with answers that differ, and pictures."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.networks.network import build
from stages.networks.weights import weights_digest
from stages.overfeat.classifier import DenseClassifier, new_classifier
from stages.overfeat.pooled_rows import fc6_length
from stages.overfeat.regressor import EDGES, EdgeRegressor, new_edge_layers

CLASSES = ("ant", "bee", "cow", "dog")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def window_classifier(seed: int = 0, *, context: bool = False) -> DenseClassifier:
    """Network ``small``: windows of 64 px every 8, pooled to 4 x 4 values of 64 channels."""
    made = new_classifier(build("small", 9, generator=seeded(seed)), CLASSES, seeded(seed + 1), context=context)
    with torch.no_grad():
        for parameter in made.network.classifier_parameters():
            parameter.normal_(0, 0.05, generator=seeded(seed + 2))
        if made.around is not None:
            made.around.weight.normal_(0, 0.05, generator=seeded(seed + 3))
    return made


def edge_regressor(classifier: DenseClassifier, seed: int = 5, *, per_class: bool = False) -> EdgeRegressor:
    """Two hidden layers of 16 and 8; objects that about fill their windows."""
    network = classifier.network
    layers = new_edge_layers(
        fc6_length(network), (16, 8), EDGES * (len(CLASSES) if per_class else 1), seeded(seed)
    ).eval()
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.normal_(0, 0.5, generator=seeded(seed + 1))
    mean, std = np.array([0.1, 0.15, 0.9, 0.8]), np.array([0.1, 0.12, 0.14, 0.16])
    digest = weights_digest(network, [network.conv5])
    return EdgeRegressor(layers.requires_grad_(False), mean, std, CLASSES, per_class, digest)


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Patches of 16 px, each of a colour of its own: uint8 [H, W, 3]."""
    patches = np.random.default_rng(seed).integers(0, 256, (-(-height // 16), -(-width // 16), 3)).astype(np.uint8)
    return patches.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
