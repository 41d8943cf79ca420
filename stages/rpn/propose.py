"""One image's proposals, from the scores and transforms of its anchors (Faster R-CNN paper section 3).

As py-faster-rcnn's proposal_layer.py: transform, clip to the image, drop what is too small, rank, take the best,
suppress, take the best of the rest. Deliberate differences: a transform of zero gives the anchor itself (there it adds
a pixel to the right and lower side), growth is held to the bound of ``stages.boxes.coding``, and a box is suppressed
strictly above the IoU, as their GPU code has it (their CPU code: at it).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.boxes.coding import decode
from stages.boxes.geometry import Boxes, clip
from stages.boxes.nms import first_kept
from stages.kernels.selection import best_rows

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ProposalRule:
    """How anchors become proposals; the defaults are the paper's at test time.

    ``before_nms`` and ``after_nms`` are how many are taken by rank before and after suppression (None: all),
    ``nms_iou`` None suppresses nothing, ``min_side_px`` is the least side in the original image. The rest are Table 1's
    ablations: ``rank`` "random" draws an order without looking at scores, ``regress`` False proposes the anchors
    themselves.
    """

    before_nms: int | None = 6000
    nms_iou: float | None = 0.7
    after_nms: int | None = 300
    min_side_px: float = 16.0
    rank: Literal["score", "random"] = "score"
    regress: bool = True


@dataclass(frozen=True)
class ScaledProposals:
    """Proposals of one image, best first: ``boxes`` float32 [k, 4] px of the resized image, ``scores`` float32 [k].

    ``rows`` int64 [k] are the anchors they came from, of a grid in the order (h, w, a).
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def shapes(self, n_shapes: int) -> Rows:
        """Return which of the anchors' ``n_shapes`` shapes each came from, int64 [k]."""
        shapes: Rows = self.rows % n_shapes
        return shapes


def propose(
    anchors: NDArray[Any],
    scores: NDArray[np.float32],
    deltas: NDArray[np.float32],
    width: int,
    height: int,
    rule: ProposalRule,
    *,
    scale: float = 1.0,
    rng: np.random.Generator | None = None,
) -> ScaledProposals:
    """Make one image's proposals; none where nothing is left.

    Args:
        anchors: [n, 4] px of the resized image.
        scores: [n], larger is more an object: logits rank finer than probabilities, which float32 rounds to 1. Of equal
            ones the first anchor is better, and NaN is worst.
        deltas: [n, 4] of ``tx, ty, tw, th``. A box that is no number is dropped.
        width, height: The resized image's, px.
        rule: What is kept.
        scale: The resized image's px per px of the original, for ``rule.min_side_px``.
        rng: Draws the order where ``rule.rank`` is random.
    """
    rows, boxes = _candidates(_ranking(scores, rule, rng), anchors, deltas, width, height, rule, scale)
    if rule.nms_iou is None:
        kept = np.arange(len(rows))[: rule.after_nms]
    else:
        kept = first_kept(boxes, rule.nms_iou, rule.after_nms)
    rows = rows[kept]
    return ScaledProposals(boxes[kept], np.asarray(scores, np.float32)[rows], rows)


def _ranking(scores: NDArray[np.float32], rule: ProposalRule, rng: np.random.Generator | None) -> Callable[[int], Rows]:
    """Return what gives the first so many anchors by rank."""
    if rule.rank == "score":
        return lambda count: best_rows(scores[None], count)[0][0]
    if rng is None:
        raise ValueError("propose: a random rank is drawn from a generator")
    order = rng.permutation(len(scores))
    return lambda count: order[:count]


def _candidates(
    ranked: Callable[[int], Rows],
    anchors: NDArray[Any],
    deltas: NDArray[np.float32],
    width: int,
    height: int,
    rule: ProposalRule,
    scale: float,
) -> tuple[Rows, Boxes]:
    """Return the ``before_nms`` best that are large enough: rows [k], boxes [k, 4].

    Only some more than these are ranked and transformed; all where too many of them turn out small.
    """
    n = len(anchors)
    wanted = n if rule.before_nms is None else min(rule.before_nms, n)
    count = min(n, wanted + wanted // 4)
    while True:
        rows = ranked(count)
        boxes = np.take(anchors, rows, axis=0)
        boxes = clip(decode(boxes, np.take(deltas, rows, axis=0)) if rule.regress else boxes, width, height)
        large = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= rule.min_side_px * scale
        if count == n or large.sum() >= wanted:
            return rows[large][:wanted], boxes[large][:wanted]
        count = n


def mean_sizes(boxes: NDArray[Any], shapes: Rows, n_shapes: int) -> NDArray[np.float64]:
    """Average the proposals of each anchor shape: float64 [A, 2] of width and height, px (the table in section 3).

    Args:
        boxes: [k, 4] of any number of images, px of the resized images.
        shapes: int64 [k], which anchor shape each came from.
        n_shapes: A. A shape without a proposal has NaN.
    """
    sides = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = sides[:, 2:] - sides[:, :2]
    sums = np.stack([np.bincount(shapes, weights=sides[:, k], minlength=n_shapes) for k in (0, 1)], axis=1)
    counts = np.bincount(shapes, minlength=n_shapes)[:, None]
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means
