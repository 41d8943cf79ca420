"""The fine-tuned network's own last layer in place of SVMs (paper appendix B; the authors' rcnn_test_softmax.m)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.errors import StageError

from .classifier import Classifier

if TYPE_CHECKING:
    from stages.networks.network import Network


def softmax_classifier(weights_path: Path, layer: str, classes: tuple[str, ...]) -> Classifier:
    """Take the network's last linear layer as the classifier of ``layer``, whose features are not scaled.

    Args:
        weights_path: the fine-tuned network, whose outputs are background first, then the classes.
        layer: the feature layer that is scored.
        classes: their names.

    Raises:
        StageError: the network has not an output per class and one for background, or its output is not a linear
            function of that layer (SqueezeNet's is not: a ReLU and an average follow its last convolution).
    """
    from stages.networks.weights import load_weights  # torch takes seconds to load, and SVMs do without

    network = load_weights(weights_path)
    weight, *rest = (p.detach().cpu().numpy().astype(np.float32) for p in network.classifier_parameters())
    bias = rest[0] if rest else np.zeros(len(weight), np.float32)
    if len(weight) != len(classes) + 1:
        raise StageError(
            f"{weights_path}: the network has {len(weight)} outputs, and softmax needs {len(classes) + 1}, background "
            f"and {len(classes)} classes; fine-tune it (finetune.iterations > 0), or set svm.classifier: svm"
        )
    if weight.ndim != 2 or not _is_linear_in(network, layer, weight, bias):
        raise StageError(
            f"svm.layer: the output of network {network.name} is not a linear layer applied to {layer}; name the layer "
            "before the classifier (fc7 in AlexNet, CaffeNet and VGG), or set svm.classifier: svm"
        )
    return Classifier(
        kind="softmax",
        layer=layer,
        classes=classes,
        feature_scale=1.0,
        weights=weight[1:].copy(),
        bias=bias[1:].copy(),
        background_weights=weight[0].copy(),
        background_bias=float(bias[0]),
    )


def _is_linear_in(network: "Network", layer: str, weight: np.ndarray, bias: np.ndarray) -> bool:
    """Return whether the network's outputs are ``layer @ weight.T + bias``, tried on two noise crops."""
    import torch

    generator = torch.Generator().manual_seed(0)
    crops = torch.randn((2, 3, network.input.side_px, network.input.side_px), generator=generator)
    crops *= network.input.value_range / max(network.input.std) / 4
    with torch.no_grad():
        logits = network(crops).numpy()
        features = network.extract(crops, [layer])[layer].numpy()
    if features.shape[1] != weight.shape[1]:
        return False
    return bool(np.allclose(features @ weight.T + bias, logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max()))
