"""Error rates from the views' logits: softmax, averaged over a method's views, and the rank of the true class."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.features.views import CENTRE, CORNERS, FULL, MIRRORED_CENTRE, MIRRORED_CORNERS, MIRRORED_FULL

TOP = 5
# The views of each method. "8+2full" has the two full views in place of the two centre crops (section 3.1.4).
METHODS: Mapping[str, tuple[int, ...]] = {
    "1_crop": (CENTRE,),
    "10_crops": (*CORNERS, CENTRE, *MIRRORED_CORNERS, MIRRORED_CENTRE),
    "1_full": (FULL,),
    "8_crops_2_full": (*CORNERS, *MIRRORED_CORNERS, FULL, MIRRORED_FULL),
}


def mean_scores(logits: NDArray[np.floating], views: Sequence[int], wanted: Sequence[int]) -> NDArray[np.float64]:
    """The class probabilities [N] averaged over the ``wanted`` views; ``logits`` [n, N] are of ``views``, in order."""
    rows = np.asarray(logits, np.float64)[[list(views).index(view) for view in wanted]]
    exponents = np.exp(rows - rows.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    mean: NDArray[np.float64] = probabilities.mean(axis=0)
    return mean


def rank(scores: NDArray[np.float64], label: int) -> int:
    """How many classes come before ``label``, best score first; of equal scores the lower class comes first."""
    own = scores[label]
    return int((scores > own).sum() + (scores[:label] == own).sum())


def error_rates(ranks: Sequence[int], n_classes: int) -> dict[str, float | None]:
    """Top-1 and top-5 error, % of the pictures; the latter None where five classes are all there are."""
    found = np.asarray(ranks)
    wrong = {limit: 100 * int((found >= limit).sum()) / len(found) for limit in (1, TOP)}
    return {"top1_error": wrong[1], "top5_error": wrong[TOP] if n_classes > TOP else None}
