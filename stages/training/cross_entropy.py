"""Classification by softmax cross-entropy: batches with labels, the loss, and how well a network does on them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.networks.forward import in_precision

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class LabelledBatch:
    """A mini-batch: what a classification network takes, and what it should answer.

    ``inputs`` are crops float32 [n, 3, side, side], or pooled vectors [n, d]; ``labels`` int64 [n] are classes.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


def cross_entropy(precision: Precision = "float32") -> Callable[[nn.Module, LabelledBatch], dict[str, Tensor]]:
    """Make the loss of :func:`stages.training.loop.train` with one term: the batch's mean softmax cross-entropy.

    ``precision`` is the arithmetic of convolutions and products; the loss itself is float32's.
    """

    def loss(network: nn.Module, batch: LabelledBatch) -> dict[str, Tensor]:
        logits = _logits(network, batch.inputs, precision)
        labels = torch.from_numpy(batch.labels).to(logits.device)
        return {"cross_entropy": nn.functional.cross_entropy(logits, labels)}

    return loss


@torch.no_grad()
def classify(
    network: nn.Module, batches: Iterable[LabelledBatch], precision: Precision = "float32"
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Classify every sample of the batches, dropout off.

    Returns:
        Cross-entropy [n], predicted class [n] and true class [n], samples in order.
    """
    network.eval()
    losses, predicted, labels = [], [], []
    for batch in batches:
        logits = _logits(network, batch.inputs, precision)
        target = torch.from_numpy(batch.labels).to(logits.device)
        losses.append(nn.functional.cross_entropy(logits, target, reduction="none").double().cpu().numpy())
        predicted.append(logits.argmax(1).cpu().numpy())
        labels.append(batch.labels)
    return np.concatenate(losses), np.concatenate(predicted), np.concatenate(labels)


def _logits(network: nn.Module, inputs: NDArray[np.float32], precision: Precision) -> Tensor:
    """Compute the network's logits on its own device: float32 [n, outputs]."""
    device = next(network.parameters()).device
    with in_precision(device, precision):
        # channels-last memory: a third faster on CPUs, and what tensor cores want
        form = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
        logits: Tensor = network(torch.from_numpy(inputs).to(device, memory_format=form))
    return logits.float()
