"""The loss of Fast R-CNN: which class, and for foreground where its object is (section 2.3; py-faster-rcnn)."""

import torch
from torch import Tensor
from torch.nn import functional


def fast_loss(
    logits: Tensor, transforms: Tensor, labels: Tensor, targets: Tensor, *, sigma: float = 1.0
) -> dict[str, Tensor]:
    """Compute the two terms of a mini-batch's loss, each a mean over all of its RoIs; 0 of no RoI.

    Args:
        logits: [n, n_classes + 1], background first.
        transforms: [n, n_classes, 4], normalised.
        labels: int64 [n], 0 for background, 1 + class for foreground.
        targets: [n, 4], the normalised transform of each RoI's own class; of background nothing is read.
        sigma: Where smooth L1 turns from square to line, ``1 / sigma ** 2``: 1 in the paper, 3 (1/9) in torchvision.

    Returns:
        ``cls``: softmax cross-entropy. ``box``: smooth L1 of foreground, summed over its four coordinates, background
        counting 0.
    """
    n = max(len(labels), 1)
    foreground = torch.nonzero(labels > 0).flatten()
    own = transforms[foreground, labels[foreground] - 1]
    beta = 1 / sigma**2
    return {
        "cls": functional.cross_entropy(logits, labels, reduction="sum") / n,
        "box": functional.smooth_l1_loss(own, targets[foreground], reduction="sum", beta=beta) / n,
    }
