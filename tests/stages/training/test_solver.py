"""The SGD step against Caffe's formula written out in numpy and against torch.optim."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.training.solver import MomentumSGD, Multipliers, StepSchedule, caffe_multipliers


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))


def test_step_schedule() -> None:
    schedule = StepSchedule(0.001, 0.1, 20_000)
    asked = [0, 19_999, 20_000, 39_999, 40_000, 69_999]
    np.testing.assert_allclose([schedule.rate(i) for i in asked], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6])


def test_the_schedule_of_spp_nets_authors() -> None:
    """0.001 for 30,000 iterations, 0.0001 up to the 60,000th, then 0.00001 (their solver prototxt)."""
    schedule = StepSchedule(0.001, 0.1, (30_000, 60_000))
    asked = [0, 29_999, 30_000, 59_999, 60_000, 199_999]
    np.testing.assert_allclose([schedule.rate(i) for i in asked], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_iterations_listed_at_equal_distances_are_the_step_policy() -> None:
    listed, every = StepSchedule(0.01, 0.3, (7, 14, 21)), StepSchedule(0.01, 0.3, 7)
    assert [listed.rate(i) for i in range(28)] == [every.rate(i) for i in range(28)]


def test_multipliers_are_the_authors() -> None:
    found = caffe_multipliers(two_layers(), {"3.weight", "3.bias"}, 10.0)
    assert found == {
        "0.weight": Multipliers(1, 1),
        "0.bias": Multipliers(2, 0),
        "1.weight": Multipliers(1, 0),
        "1.bias": Multipliers(2, 0),
        "3.weight": Multipliers(10, 1),
        "3.bias": Multipliers(20, 0),
    }


def test_frozen_parameters_are_left_out() -> None:
    network = two_layers()
    network[0].weight.requires_grad_(False)
    assert "0.weight" not in caffe_multipliers(network)


def gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def test_steps_are_caffes_formula_with_a_rate_that_drops() -> None:
    network = two_layers().double()
    multipliers = caffe_multipliers(network, {"3.weight", "3.bias"}, 10.0)
    weights = {n: p.detach().numpy().copy() for n, p in network.named_parameters()}
    velocity = {n: np.zeros_like(w) for n, w in weights.items()}
    solver = MomentumSGD(network, multipliers, momentum=0.9, weight_decay=0.0005)
    schedule = StepSchedule(0.01, 0.1, 3)
    for iteration in range(6):
        gradients(network, iteration)
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            by, gradient = multipliers[name], parameter.grad.numpy()
            regularised = gradient + 0.0005 * by.decay * weights[name]
            velocity[name] = 0.9 * velocity[name] + schedule.rate(iteration) * by.rate * regularised
            weights[name] = weights[name] - velocity[name]
        solver.step(schedule.rate(iteration))
    for name, parameter in network.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-12, err_msg=name)
        assert parameter.grad is None


def test_steps_are_torchs_while_the_rate_is_constant() -> None:
    ours, theirs = two_layers(), two_layers()
    multipliers = caffe_multipliers(ours, {"3.weight", "3.bias"}, 10.0)
    solver = MomentumSGD(ours, multipliers, momentum=0.9, weight_decay=0.0005)
    groups = [
        {"params": [p], "lr": 0.02 * multipliers[n].rate, "weight_decay": 0.0005 * multipliers[n].decay}
        for n, p in theirs.named_parameters()
    ]
    reference = torch.optim.SGD(groups, lr=1, momentum=0.9)
    for iteration in range(5):
        gradients(ours, iteration)
        gradients(theirs, iteration)
        solver.step(0.02)
        reference.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_parameter_without_gradient_stays(momentum: float) -> None:
    network = two_layers()
    first: Any = network[0]
    before = first.weight.detach().clone()
    solver = MomentumSGD(network, caffe_multipliers(network), momentum=momentum, weight_decay=0.1)
    gradients(network, 0)
    first.weight.grad = None
    solver.step(0.1)
    assert torch.equal(first.weight, before)


def test_the_multipliers_of_the_other_authors() -> None:
    """py-faster-rcnn decays biases and gives new layers no rate of their own; SPP-net decays those of fc6 and fc7."""
    model = two_layers()
    everywhere = caffe_multipliers(model, {"3.weight", "3.bias"}, 1.0, decayed_biases=True)
    assert everywhere == {
        "0.weight": Multipliers(1, 1),
        "0.bias": Multipliers(2, 1),
        "1.weight": Multipliers(1, 0),
        "1.bias": Multipliers(2, 0),  # batch normalisation's
        "3.weight": Multipliers(1, 1),
        "3.bias": Multipliers(2, 1),
    }
    named = caffe_multipliers(model, decayed_biases={"0.bias"})
    assert named == caffe_multipliers(model) | {"0.bias": Multipliers(2, 1)}
    with pytest.raises(ValueError, match=r"no trainable parameters: 7\.bias"):
        caffe_multipliers(model, decayed_biases={"0.bias", "7.bias"})


def test_a_solver_takes_trainable_parameters_only() -> None:
    model = two_layers()
    multipliers = caffe_multipliers(model)
    model[0].bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"frozen parameters cannot be stepped: 0\.bias"):
        MomentumSGD(model, multipliers, momentum=0.9, weight_decay=0.1)
    assert "0.bias" not in MomentumSGD(model, caffe_multipliers(model), momentum=0.9, weight_decay=0.1).velocity
