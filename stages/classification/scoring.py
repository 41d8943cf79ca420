"""Error rates from the views' logits: softmax, averaged over a method's views, and the rank of the true class.

Of dense views (OverFeat section 3.3) the maximum over the windows of each scale and flip comes between the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.features.views import CENTRE, CORNERS, FULL, MIRRORED_CENTRE, MIRRORED_CORNERS, MIRRORED_FULL

Scores = NDArray[np.float64]  # [N], by the network's outputs

TOP = 5
# The views of each method. "8+2full" has the two full views in place of the two centre crops (section 3.1.4).
METHODS: Mapping[str, tuple[int, ...]] = {
    "1_crop": (CENTRE,),
    "10_crops": (*CORNERS, CENTRE, *MIRRORED_CORNERS, MIRRORED_CENTRE),
    "1_full": (FULL,),
    "8_crops_2_full": (*CORNERS, *MIRRORED_CORNERS, FULL, MIRRORED_FULL),
}


@dataclass(frozen=True)
class DenseMethod:
    """Which windows of a scale are looked at (``stride``), and whether the mirror image's are, too."""

    stride: Literal["coarse", "fine"]
    mirrored: bool = True


# In the paper every result is with flips.
DENSE: Mapping[str, DenseMethod] = {
    "dense_coarse": DenseMethod("coarse"),
    "dense_fine": DenseMethod("fine"),
    "dense_coarse_unmirrored": DenseMethod("coarse", mirrored=False),
    "dense_fine_unmirrored": DenseMethod("fine", mirrored=False),
}


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The softmax over the last axis."""
    rows = np.asarray(logits, np.float64)
    exponents = np.exp(rows - rows.max(axis=-1, keepdims=True))
    found: NDArray[np.float64] = exponents / exponents.sum(axis=-1, keepdims=True)
    return found


def mean_scores(logits: NDArray[np.floating], views: Sequence[int], wanted: Sequence[int]) -> Scores:
    """The class probabilities [N] averaged over the ``wanted`` views; ``logits`` [n, N] are of ``views``, in order."""
    mean: Scores = probabilities(logits[[list(views).index(view) for view in wanted]]).mean(axis=0)
    return mean


def window_scores(logits: NDArray[np.floating], offsets: int) -> dict[str, NDArray[np.float64]]:
    """The largest probability of each class in the windows of one scale, [flips, N], by ``DenseMethod.stride``.

    ``logits`` [flips, rows, columns, N] are of all windows, the fine stride; the coarse one has every ``offsets``-th
    along either side, from the first on.
    """
    fine = probabilities(logits)
    return {"coarse": fine[:, ::offsets, ::offsets].max(axis=(1, 2)), "fine": fine.max(axis=(1, 2))}


def dense_scores(scales: Sequence[Mapping[str, NDArray[np.float64]]], method: DenseMethod) -> Scores:
    """The scores [N] averaged over all scales and flips of a method; ``scales`` as :func:`window_scores` gives them.

    The first flip is the picture itself.
    """
    flips = slice(None) if method.mirrored else slice(1)
    mean: Scores = np.concatenate([maxima[method.stride][flips] for maxima in scales]).mean(axis=0)
    return mean


def rank(scores: Scores, label: int) -> int:
    """How many classes come before ``label``, best score first; of equal scores the lower class comes first."""
    own = scores[label]
    return int((scores > own).sum() + (scores[:label] == own).sum())


def error_rates(ranks: Sequence[int], n_classes: int) -> dict[str, float | None]:
    """Top-1 and top-5 error, % of the pictures; the latter None where five classes are all there are."""
    found = np.asarray(ranks)
    wrong = {limit: 100 * int((found >= limit).sum()) / len(found) for limit in (1, TOP)}
    return {"top1_error": wrong[1], "top5_error": wrong[TOP] if n_classes > TOP else None}
