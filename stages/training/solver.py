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
        """The learning rate of iteration ``iteration`` (0-based)."""
        drops = iteration // self.step if isinstance(self.step, int) else bisect_right(self.step, iteration)
        return self.base * self.gamma**drops


@dataclass(frozen=True)
class Multipliers:
    """Factors on one parameter's learning rate and weight decay (Caffe's ``blobs_lr``, ``weight_decay``)."""

    rate: float = 1.0
    decay: float = 1.0


def caffe_multipliers(network: nn.Module, new: Collection[str] = (), new_rate: float = 10.0) -> dict[str, Multipliers]:
    """The authors' multipliers per trainable parameter: weights 1 and decayed, biases 2 and not decayed.

    Parameters named in ``new`` (the re-initialised layer) get ``new_rate`` times as much: 10 and 20 by
    default, as in the authors' fine-tuning prototxt. One-dimensional weights (batch normalisation's gains,
    which the authors' networks do not have) are not decayed either.
    """
    out = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        bias = name.rpartition(".")[2] == "bias"
        rate = (2.0 if bias else 1.0) * (new_rate if name in new else 1.0)
        out[name] = Multipliers(rate, 0.0 if bias or parameter.ndim < 2 else 1.0)
    return out


class MomentumSGD:
    """``v = momentum * v + rate * (gradient + decay * w);  w = w - v``, as Caffe's solver computes it.

    torch.optim.SGD keeps the rate outside ``v``; the two differ after the rate drops, where Caffe's velocity
    still carries the old rate.
    """

    def __init__(
        self,
        network: nn.Module,
        multipliers: Mapping[str, Multipliers],
        *,
        momentum: float,
        weight_decay: float,
    ) -> None:
        parameters = dict(network.named_parameters())
        self.parameters = {name: parameters[name] for name in multipliers}
        self.multipliers = dict(multipliers)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.velocity = {name: torch.zeros_like(p) for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter that has a gradient, and clear the gradients."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            by = self.multipliers[name]
            gradient = parameter.grad.add(parameter, alpha=self.weight_decay * by.decay)
            self.velocity[name].mul_(self.momentum).add_(gradient, alpha=rate * by.rate)
            parameter.sub_(self.velocity[name])
            parameter.grad = None
