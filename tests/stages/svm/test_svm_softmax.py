"""The softmax variant: the model's scores against torch, and the network's last layer found or refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cache.errors import StageError
from stages.networks.network import Network, build
from stages.networks.weights import save_weights
from stages.svm.classifier import Classifier
from stages.svm.softmax import softmax_classifier

CLASSES = ("cat", "dog", "owl")


def test_scores_are_torchs_softmax_without_background() -> None:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(4, 10)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    model = Classifier("softmax", "fc7", CLASSES, 1.0, weights[1:], bias[1:], weights[0], float(bias[0]))
    x = (20 * rng.normal(size=(30, 10))).astype(np.float16)  # large: a naive exp would overflow
    logits = torch.from_numpy(x.astype(np.float32)) @ torch.from_numpy(weights).T + torch.from_numpy(bias)
    expected = torch.softmax(logits, dim=1)[:, 1:].numpy()
    np.testing.assert_allclose(model.scores(x), expected, rtol=2e-4, atol=1e-7)
    assert model.scores(x[:0]).shape == (0, 3)


def test_svm_scores_are_the_documented_formula() -> None:
    rng = np.random.default_rng(1)
    w, b = rng.normal(size=(3, 10)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    x = rng.random((5, 10)).astype(np.float16)
    scores = Classifier("svm", "fc7", CLASSES, 0.7, w, b).scores(x)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, (x.astype(np.float64) * 0.7) @ w.T + b, rtol=1e-5, atol=1e-6)


def network(name: str, n_outputs: int) -> Network:
    return build(name, n_outputs, generator=torch.Generator().manual_seed(0)).eval()


def test_the_networks_own_probabilities(tmp_path: Path) -> None:
    net = network("small", 4)
    save_weights(tmp_path / "w.safetensors", net)
    model = softmax_classifier(tmp_path / "w.safetensors", "fc7", CLASSES)
    crops = torch.randn((3, 3, net.input.side_px, net.input.side_px), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.softmax(net(crops), dim=1)[:, 1:].numpy()
        features = net.extract(crops, ["fc7"])["fc7"].numpy()
    assert model.kind == "softmax" and model.feature_scale == 1.0
    np.testing.assert_allclose(model.scores(features), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "n_outputs", "layer", "said"),
    [
        ("small", 4, "fc6", "svm.layer"),
        ("small", 7, "fc7", "7 outputs, and softmax needs 4"),
        ("squeezenet1_0", 4, "pool5", "not a linear layer applied to pool5"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, name: str, n_outputs: int, layer: str, said: str) -> None:
    save_weights(tmp_path / "w.safetensors", network(name, n_outputs))
    with pytest.raises(StageError, match=said):
        softmax_classifier(tmp_path / "w.safetensors", layer, CLASSES)
