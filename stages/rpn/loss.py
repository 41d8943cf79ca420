"""The loss of a Region Proposal Network on one image's mini-batch, by the authors' program or by the paper's formula.

Equation 1 of the paper is ``cls / N_cls + lambda * box / N_reg`` with N_cls 256, N_reg the map's positions and lambda
10, on standardised transforms (as the MATLAB code has them). py-faster-rcnn divides both terms by the anchors sampled
and bends the box loss at 1/9 instead; torchvision's numbers are the same as its.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from .head import margins
from .targets import MiniBatch


@dataclass(frozen=True)
class LossRule:
    """How the two terms are weighed. ``authors``: means over the anchors sampled, plain transforms, sigma 3.

    ``paper``: cls by ``batch``; boxes by the map's positions and times ``balance``, transforms standardised by ``mean``
    and ``std`` (of :func:`.targets.transform_statistics`), sigma 1. The box loss bends at ``1 / sigma**2``.
    """

    rule: Literal["authors", "paper"] = "authors"
    sigma: float = 3.0
    batch: int = 256
    balance: float = 10.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)

    @property
    def knee(self) -> float:
        """Where the box loss turns from a parabola into a line."""
        return 1.0 / self.sigma**2


def paper_rule(mean: tuple[float, ...], std: tuple[float, ...], batch: int = 256) -> LossRule:
    """Return the paper's rule: lambda 10, sigma 1."""
    return LossRule("paper", sigma=1.0, batch=batch, mean=mean, std=std)


def rpn_loss(logits: Tensor, deltas: Tensor, sample: MiniBatch, rule: LossRule, positions: int) -> dict[str, Tensor]:
    """Compute the terms ``rpn_cls`` and ``rpn_box`` of one image.

    Of two images in a step take the mean of either term.

    Args:
        logits: [n, 2] or [n], as :class:`.head.RpnHead` orders them.
        deltas: [n, 4].
        sample: The anchors to learn from; with none both terms are 0.
        rule: How they are weighed.
        positions: Cells of the map, h * w.
    """
    rows = torch.from_numpy(sample.rows).to(logits.device)
    wanted = torch.from_numpy(sample.transforms).to(deltas)
    asked = margins(logits.index_select(0, rows))
    labels = torch.zeros_like(asked)
    labels[: sample.n_positive] = 1
    # of two logits the softmax cross-entropy is the logistic one of their difference
    cls = binary_cross_entropy_with_logits(asked, labels, reduction="sum")
    if rule.rule == "paper":
        wanted = (wanted - wanted.new_tensor(rule.mean)) / wanted.new_tensor(rule.std)
        by_cls, by_box = 1.0 / rule.batch, rule.balance / positions
    else:
        by_cls = by_box = 1.0 / max(len(sample), 1)
    found = deltas.index_select(0, rows[: sample.n_positive])
    box = smooth_l1_loss(found, wanted, beta=rule.knee, reduction="sum")
    return {"rpn_cls": cls * by_cls, "rpn_box": box * by_box}
