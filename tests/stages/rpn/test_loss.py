"""The loss and its gradients against torchvision's, and against the paper's formula written out."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork

from stages.rpn.loss import LossRule, paper_rule, rpn_loss
from stages.rpn.targets import MiniBatch

N = 600
CELLS = N // 6


def problem(seed: int, *, pairs: bool, k: int = 256, positive: int = 90) -> tuple[Tensor, Tensor, MiniBatch]:
    """Logits, deltas and a mini-batch; deltas near and far from what is wanted, on either side of the knee."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, (N, 2) if pairs else N).astype(np.float32)).requires_grad_()
    rows = rng.permutation(N)[:k]
    wanted = rng.normal(0, 1, (positive, 4)).astype(np.float32)
    deltas = rng.normal(0, 1, (N, 4))
    deltas[rows[:positive]] = wanted + rng.normal(0, 0.2, (positive, 4))
    return logits, torch.tensor(deltas, dtype=torch.float32, requires_grad=True), MiniBatch(rows, positive, wanted)


def gradients(terms: dict[str, Tensor], *of: Tensor) -> list[Tensor]:
    """Of both terms, weighed apart."""
    total = terms["rpn_cls"] + 0.7 * terms["rpn_box"]
    return list(torch.autograd.grad(total, of))


@pytest.mark.parametrize(("k", "positive"), [(256, 128), (256, 3), (256, 0), (40, 11)])
def test_as_torchvision(k: int, positive: int) -> None:
    logits, deltas, sample = problem(0, pairs=False, k=k, positive=positive)
    labels, targets = torch.full((N,), -1.0), torch.zeros(N, 4)
    labels[sample.rows], labels[sample.rows[:positive]] = 0, 1
    targets[sample.rows[:positive]] = torch.from_numpy(sample.transforms)
    counts = {"training": 1, "testing": 1}
    nothing = torch.nn.Identity()
    fraction = positive / k + 1e-9  # of the anchors that have a label its sampler then takes every one
    rpn = RegionProposalNetwork(nothing, nothing, 0.7, 0.3, k, fraction, counts, counts, 0.7)
    cls, box = rpn.compute_loss(logits[:, None], deltas, [labels], [targets])
    ours = rpn_loss(logits, deltas, sample, LossRule(), CELLS)
    torch.testing.assert_close(ours["rpn_cls"], cls, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours["rpn_box"], box, rtol=1e-5, atol=1e-7)
    theirs = gradients({"rpn_cls": cls, "rpn_box": box}, logits, deltas)
    for one, other in zip(gradients(ours, logits, deltas), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_two_logits_are_a_softmax() -> None:
    logits, deltas, sample = problem(1, pairs=True)
    labels = torch.zeros(len(sample), dtype=torch.int64)
    labels[: sample.n_positive] = 1
    expected = torch.nn.functional.cross_entropy(logits[sample.rows], labels)
    found = rpn_loss(logits, deltas, sample, LossRule(), CELLS)["rpn_cls"]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


def caffes(d: float, sigma: float) -> float:
    """The authors' smooth_L1_loss_layer.cu of one difference."""
    return 0.5 * (sigma * d) ** 2 if abs(d) < 1 / sigma**2 else abs(d) - 0.5 / sigma**2


@pytest.mark.parametrize("pairs", [True, False])
def test_both_rules_written_out(pairs: bool) -> None:
    logits, deltas, sample = problem(2, pairs=pairs, k=200, positive=30)
    mean, std = (0.1, -0.1, 0.2, 0.3), (0.5, 0.4, 1.5, 2.0)
    cls = authors = paper = 0.0
    for i, row in enumerate(sample.rows.tolist()):
        pair = logits[row].tolist() if pairs else [0.0, logits[row].item()]
        cls += float(np.logaddexp(*pair) - pair[i < sample.n_positive])
        if i < sample.n_positive:
            for c, (got, wanted) in enumerate(zip(deltas[row].tolist(), sample.transforms[i].tolist(), strict=True)):
                authors += caffes(got - wanted, 3)
                paper += caffes(got - (wanted - mean[c]) / std[c], 1)
    found = rpn_loss(logits, deltas, sample, LossRule(), CELLS)
    assert found["rpn_cls"].item() == pytest.approx(cls / 200, rel=1e-5)
    assert found["rpn_box"].item() == pytest.approx(authors / 200, rel=1e-5)
    found = rpn_loss(logits, deltas, sample, paper_rule(mean, std), CELLS)
    assert found["rpn_cls"].item() == pytest.approx(cls / 256, rel=1e-5)
    assert found["rpn_box"].item() == pytest.approx(10 * paper / CELLS, rel=1e-5)


@pytest.mark.parametrize("rule", [LossRule(), paper_rule((0.0,) * 4, (1.0,) * 4)])
def test_an_empty_mini_batch_costs_nothing_and_has_gradients(rule: LossRule) -> None:
    logits, deltas, sample = problem(3, pairs=True, k=0, positive=0)
    found = rpn_loss(logits, deltas, sample, rule, CELLS)
    assert found["rpn_cls"].item() == found["rpn_box"].item() == 0
    assert not any(gradient.any() for gradient in gradients(found, logits, deltas))
