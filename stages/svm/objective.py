"""The objective of the L2-regularised hinge-loss linear SVM, from its scores, whichever solver made the weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .settings import SvmSettings


@dataclass(frozen=True)
class Objective:
    """What either solver minimises: ``regulariser + positive_loss + negative_loss``, losses already weighted by C."""

    regulariser: float
    positive_loss: float
    negative_loss: float

    @property
    def total(self) -> float:
        """The objective itself."""
        return self.regulariser + self.positive_loss + self.negative_loss


def objective(
    w: NDArray[Any], b: float, positive_scores: NDArray[Any], negative_scores: NDArray[Any], settings: SvmSettings
) -> Objective:
    """1/2 |w|^2 + 1/2 (b/bias)^2 + C (positive_weight * sum max(0, 1 - z+) + sum max(0, 1 + z-)), in float64."""
    w64 = np.asarray(w, np.float64)
    zp, zn = np.asarray(positive_scores, np.float64), np.asarray(negative_scores, np.float64)
    return Objective(
        regulariser=0.5 * float(w64 @ w64) + 0.5 * (float(b) / settings.bias) ** 2,
        positive_loss=settings.C * settings.positive_weight * float(np.maximum(0, 1 - zp).sum()),
        negative_loss=settings.C * float(np.maximum(0, 1 + zn).sum()),
    )
