"""Caffe's SGD solver: momentum, weight decay, step schedule, and the authors' multipliers per parameter."""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class StepSchedule:
    """Caffe's policies "step" and "multistep": the base rate times ``gamma`` once per ``step`` iterations, or once from
    each of the listed iterations on (0-based, rising)."""

    base: float
    gamma: float
    step: int | tuple[int, ...]

    def rate(self, iteration: int) -> float:
        """Return the learning rate of iteration ``iteration`` (0-based)."""
        drops = iteration // self.step if isinstance(self.step, int) else bisect_right(self.step, iteration)
        return self.base * self.gamma**drops


@dataclass(frozen=True)
class Multipliers:
    """Factors on one parameter's learning rate and weight decay (Caffe's ``blobs_lr``, ``weight_decay``)."""

    rate: float = 1.0
    decay: float = 1.0


def caffe_multipliers(
    model: nn.Module,
    new: Collection[str] = (),
    new_rate: float = 10.0,
    *,
    decayed_biases: bool | Collection[str] = False,
) -> dict[str, Multipliers]:
    """Give every trainable parameter the authors' multipliers: weights 1 and decayed, biases 2 and not decayed.

    One-dimensional weights (batch normalisation's gains, which the authors' networks do not have) are not decayed
    either.

    Args:
        new: Names of the parameters of re-initialised layers.
        new_rate: Their factor on top: 10 and 20 in R-CNN's fine-tuning prototxt, 1 for SPP-net and Faster R-CNN.
        decayed_biases: Biases that are decayed like weights: none (R-CNN), those named (SPP-net's fc6 and fc7), or
            True for those of all layers but normalisation (py-faster-rcnn).

    Raises ValueError where a bias named in ``decayed_biases`` is no trainable parameter.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = set() if isinstance(decayed_biases, bool) else set(decayed_biases)
    if decayed - set(trainable):
        raise ValueError(f"no trainable parameters: {', '.join(sorted(decayed - set(trainable)))}")
    matrices = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.ndim > 1}
    out = {}
    for name, parameter in trainable.items():
        layer, _, kind = name.rpartition(".")
        bias = kind == "bias"
        if decayed_biases is True and bias and layer in matrices:
            decayed.add(name)
        rate = (2.0 if bias else 1.0) * (new_rate if name in new else 1.0)
        is_decayed = name in decayed or (not bias and parameter.ndim > 1)
        out[name] = Multipliers(rate, 1.0 if is_decayed else 0.0)
    return out


class MomentumSGD:
    """Stochastic gradient descent as Caffe's solver computes it.

    ``v = momentum * v + rate * (gradient + decay * w);  w = w - v``. torch.optim.SGD keeps the rate outside ``v``; the
    two differ after the rate drops, where Caffe's velocity still carries the old rate. Takes trainable parameters
    only: ValueError names one that is frozen.
    """

    def __init__(
        self,
        model: nn.Module,
        multipliers: Mapping[str, Multipliers],
        *,
        momentum: float,
        weight_decay: float,
    ) -> None:
        parameters = dict(model.named_parameters())
        self.parameters = {name: parameters[name] for name in multipliers}
        frozen = [name for name, parameter in self.parameters.items() if not parameter.requires_grad]
        if frozen:
            raise ValueError(f"frozen parameters cannot be stepped: {', '.join(frozen)}")
        self.multipliers = dict(multipliers)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.velocity = {name: torch.zeros_like(p) for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter that has a gradient, and clear the gradients; the others are not touched."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            by = self.multipliers[name]
            # In place, since fresh memory for the gradient of a large fc6 costs a fifth of a step from stored maps.
            gradient = parameter.grad.add_(parameter, alpha=self.weight_decay * by.decay)
            self.velocity[name].mul_(self.momentum).add_(gradient, alpha=rate * by.rate)
            parameter.sub_(self.velocity[name])
            parameter.grad = None
