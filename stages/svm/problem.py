"""The problem that the SVM of one class solves, and what a solver finds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .settings import SvmSettings


@dataclass(frozen=True)
class SvmProblem:
    """The linear SVM with hinge losses and a regularised bias (paper section 2.3; rcnn_train.m: -s 3 -w1 2 -B 10).

    With x a scaled row and y = +-1 its label, minimise over w and b

        1/2 |w|^2 + 1/2 (b / bias_scale)^2 + sum_i cost_i max(0, 1 - y_i (w.x_i + b))

    where cost_i is C for a negative and C * positive_weight for a positive. In other words the last feature of every
    row is the constant ``bias_scale``, and b is that times its weight.
    """

    C: float
    positive_weight: float
    bias_scale: float

    @classmethod
    def of(cls, settings: SvmSettings) -> "SvmProblem":
        """Take the problem's constants from the parameters ``svm.C``, ``svm.positive_weight`` and ``svm.bias``."""
        return cls(settings.C, settings.positive_weight, settings.bias)

    @property
    def positive_cost(self) -> float:
        """Cost of a positive's loss: the upper bound of its multiplier in the dual problem."""
        return self.C * self.positive_weight

    @property
    def negative_cost(self) -> float:
        """Cost of a negative's loss: the upper bound of its multiplier in the dual problem."""
        return self.C

    def objective(self, w: ArrayLike, b: float, positive_scores: ArrayLike, negative_scores: ArrayLike) -> "Objective":
        """Return what is minimised, in float64, at weights w [d] and b with the rows' scores [p] and [n]."""
        w64 = np.asarray(w, np.float64)
        zp, zn = np.asarray(positive_scores, np.float64), np.asarray(negative_scores, np.float64)
        return Objective(
            regulariser=0.5 * float(w64 @ w64) + 0.5 * (float(b) / self.bias_scale) ** 2,
            positive_loss=self.positive_cost * float(np.maximum(0, 1 - zp).sum()),
            negative_loss=self.negative_cost * float(np.maximum(0, 1 + zn).sum()),
        )


@dataclass(frozen=True)
class Objective:
    """The three terms of what is minimised; the losses are weighted by their costs."""

    regulariser: float
    positive_loss: float
    negative_loss: float

    @property
    def total(self) -> float:
        """The objective itself."""
        return self.regulariser + self.positive_loss + self.negative_loss


@dataclass(frozen=True)
class Solution:
    """What a solver finds for one class with p positives and n negatives; scores and multipliers list positives first.

    Attributes:
        w: float [d]; the score of a scaled row x is ``x @ w + b``.
        b: the bias.
        scores: float [p + n], of the rows by w rounded to float32.
        iterations: passes over the rows.
        stop: the duality gap or tolerance at which the solver was to stop.
        converged: whether it got there.
        gap: of the dual solver: (P - D) / P, right to some 1e-6, since scores are float32.
        multipliers: of the dual solver: float64 [p + n], of which w is the sum.
        staleness: of the dual solver: float64 [p + n], how far the weights have moved since a score was computed. 0 but
            for negatives that cost nothing, where an older score proves that.
    """

    w: NDArray[np.floating[Any]]
    b: float
    scores: NDArray[np.floating[Any]]
    iterations: int
    stop: float
    converged: bool
    gap: float | None = None
    multipliers: NDArray[np.float64] | None = None
    staleness: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class DualSolution(Solution):
    """The :class:`Solution` of the dual solver: it has all of it."""

    gap: float
    multipliers: NDArray[np.float64]
    staleness: NDArray[np.float64]
