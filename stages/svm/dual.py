"""The SVM of one class by dual coordinate descent, warm-started, stopped by its duality gap.

The problem is liblinear's ``-s 3`` (Hsieh et al., *A dual coordinate descent method for large-scale linear SVM*,
ICML 2008). With x a scaled row to which the constant feature ``bias_scale`` is appended, y = +-1 its label and U its
cost (:class:`.problem.SvmProblem`):

    minimise over w         P(w) = 1/2 |w|^2 + sum_i U_i max(0, g_i)        where g_i = 1 - y_i w.x_i
    maximise over 0<=a<=U   D(a) = sum_i a_i - 1/2 |w|^2                    where w = sum_i a_i y_i x_i

g is the gradient of D, and P - D = sum_i (U_i max(0, g_i) - a_i g_i), no term of which is negative: the gap is what the
rows cost that are not yet where they belong, and P lies at most that far above its minimum.

What makes it fast:
- The multipliers of a class's last fit are the start of the next, and scores known from it are not computed again.
- Rows are read in place and densely, as stored, float16 being widened in registers: a row of 4,096 takes a quarter of a
  microsecond, a quarter of the time that liblinear takes over its non-zeros.
- Shrinking (section 3.2 there): an epoch visits only the active rows, those that contribute to the gap or soon may, and
  each epoch of a round fewer of them.
- Between rounds, when the gap is computed, rows are skipped that cannot have left their bound: a score moves by at most
  the row's length times the distance that w has moved.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.kernels.float16 import as_bits, widen
from stages.kernels.threads import Threads

from .problem import DualSolution, SvmProblem
from .rows import Rows

MAX_EPOCHS = 3000  # passes over the active rows, whose number shrinks; some tens are usual
_ROUND_EPOCHS = 20  # epochs between two computations of the gap ...
_ROUND_GAIN = 0.003  # ... or fewer, once the gap among the active rows is this share of what it was
_NEAR = 0.02  # a row at its bound stays active while its margin is this close to 1
_ROUNDING = 1e-5  # by which a score may move without w moving: it is computed in float32
_PARTS = 4  # into which rows are divided for threads
_MATH = {"reassoc", "contract"}  # lets the compiler sum in vector registers, in one fixed order
_SAME = 1e-6  # two weight vectors this near, relative to their length, differ by rounding to float32 alone


@dataclass(frozen=True)
class Start:
    """Where a fit starts: the multipliers, and the scores that are known of its rows, positives first.

    Attributes:
        multipliers: float64 [p + n].
        scores: float [p + n]; not computed again if ``w`` and ``b`` are the weights that the multipliers make.
        staleness: float [p + n], how far the weights have moved since each score was computed; 0 if it is by ``w``.
        w: float [d], the weights that the scores are by.
        b: the bias that the scores are by.
    """

    multipliers: NDArray[np.float64]
    scores: NDArray[Any]
    staleness: NDArray[Any]
    w: NDArray[Any]
    b: float


def from_scratch(rows: Rows) -> Start:
    """Return the start of a class's first fit: all zeros."""
    n = len(rows.norms)
    return Start(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(rows.values.shape[1]), 0.0)


def fit_dual(
    rows: Rows,
    start: Start,
    problem: SvmProblem,
    gap: float,
    seed: int,
    threads: Threads | None = None,
    threshold: float | None = None,
) -> DualSolution:
    """Fit one class until its duality gap is at most ``gap`` times the objective.

    The same arguments give the same bits: the random order of the rows follows from ``seed``, and ``threads`` share out
    only what is computed row by row.

    Args:
        rows: p positives and n negatives.
        start: the multipliers to start from.
        problem: what is minimised.
        gap: where to stop, relative to the objective.
        seed: of the order in which rows are visited.
        threads: idle ones that may help.
        threshold: leaves the score of a negative stale if that is certain to cost nothing and to lie on the same
            side of the threshold; None brings all scores up to date.

    Returns:
        w in float64; ``iterations`` are epochs.

    Raises:
        ValueError: no positive or no negative.
    """
    if not (len(rows.positives) and len(rows.slots)):
        raise ValueError("an SVM needs at least one positive and one negative row")
    rng = np.random.default_rng(seed)
    ascent = _DualAscent(rows, start, problem, threads)
    epochs = 0
    while True:
        active, current, primal = ascent.optimality()
        converged = current <= gap * primal
        if converged or epochs >= MAX_EPOCHS:
            break
        enough = max(_ROUND_GAIN * current, 0.5 * gap * primal)
        for _ in range(_ROUND_EPOCHS):
            epochs += 1
            if ascent.epoch(rng.permutation(active)) <= enough:
                break
            active = ascent.still_moving(active)
        ascent.refresh()
    ascent.refresh_skipped(threshold)
    return DualSolution(
        ascent.w, problem.bias_scale * ascent.w_bias, ascent.scores(), epochs, gap, converged,
        current / primal, ascent.multipliers, ascent.staleness(),
    )  # fmt: skip


class _DualAscent:
    """The state of one class's fit: multipliers, the weights that they make, and the gradient as last computed.

    ``gradient`` float64 [p + n] is g; ``path`` is the length of the way that w has gone since the fit began, and
    ``computed_at`` float64 [p + n] what it was when each row's g was computed, below 0 where that was before the fit.
    """

    def __init__(self, rows: Rows, start: Start, problem: SvmProblem, threads: Threads | None) -> None:
        self.threads = threads
        p = len(rows.positives)
        self.positives, self.values, self.slots = as_bits(rows.positives), as_bits(rows.values), rows.slots
        self.scale, self.bias_scale = float(rows.scale), problem.bias_scale
        self.upper = np.full(len(rows.norms), problem.negative_cost)
        self.upper[:p] = problem.positive_cost
        self.signs = np.where(np.arange(len(rows.norms)) < p, 1.0, -1.0)
        self.multipliers = np.clip(start.multipliers, 0, self.upper)
        self.curvature = rows.norms * self.scale**2 + self.bias_scale**2  # |x|^2, scaled, constant feature and all
        self.lengths = np.sqrt(self.curvature)
        self.gradient = 1 - self.signs * start.scores
        self.computed_at, self.path = -np.asarray(start.staleness, np.float64), 0.0
        self._sum_weights()
        if not self._weights_are(start):
            self._compute(np.arange(len(rows.norms)))

    def optimality(self) -> tuple[NDArray[np.int64], float, float]:
        """Return (active rows, duality gap, objective P) by the gradient as last computed.

        A row is active if it adds to the gap, has a positive multiplier, or has g > -_NEAR.
        """
        # rows that were skipped add nothing, with the g they had as with the one they have
        share = self.upper * np.maximum(0, self.gradient) - self.multipliers * self.gradient
        gap = float(share.sum())
        dual = float(self.multipliers.sum()) - 0.5 * (float(self.w @ self.w) + self.w_bias**2)
        movable = (share > 0) | (self.multipliers > 0) | (self.gradient > -_NEAR)
        return np.flatnonzero(movable), gap, dual + gap

    def epoch(self, order: NDArray[np.int64]) -> float:
        """Set the multiplier of each row in ``order`` to its best value; return the gap the rows made up as visited."""
        self.computed_at[order] = -np.inf  # by weights that are on the move
        return float(
            _update_multipliers(
                self.positives, self.values, self.slots, order, self.multipliers, self.upper, self.curvature,
                self._weights, self._w_bias, self.scale, self.bias_scale, self.gradient,
            )
        )  # fmt: skip

    def still_moving(self, active: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the active rows that are not at a bound, or only just (shrinking)."""
        a, gradient = self.multipliers[active], self.gradient[active]
        moving: NDArray[np.int64] = active[((a > 0) & (a < self.upper[active])) | (np.abs(gradient) < _NEAR)]
        return moving

    def refresh(self) -> None:
        """Sum the weights anew and compute the gradient, but for rows that are certain to add nothing to the gap."""
        before, bias_before = self.w, self.w_bias
        self._sum_weights()
        self.path += float(np.sqrt(((self.w - before) ** 2).sum() + (self.w_bias - bias_before) ** 2))
        reach = self._reach()
        idle = (self.multipliers == 0) & (self.gradient < -reach)
        full = (self.multipliers == self.upper) & (self.gradient > reach)
        self._compute(np.flatnonzero(~(idle | full)))

    def refresh_skipped(self, threshold: float | None) -> None:
        """Compute the gradient of the rows that ``refresh`` skipped.

        With a threshold, skip idle negatives further if it is certain on which side of it they score.
        """
        stale = self.computed_at != self.path
        if threshold is not None:
            reach = self._reach()
            idle = (self.multipliers == 0) & (self.gradient < -reach)
            stale &= ~(idle & (self.signs < 0) & (np.abs(self.gradient - (1 + threshold)) > reach))
        self._compute(np.flatnonzero(stale))

    def scores(self) -> NDArray[np.float64]:
        """Return the rows' scores, float64 [p + n], as last computed."""
        scores: NDArray[np.float64] = self.signs * (1 - self.gradient)
        return scores

    def staleness(self) -> NDArray[np.float64]:
        """Return how far the weights have moved since each row's g was computed, float64 [p + n]."""
        return self.path - self.computed_at

    def _reach(self) -> NDArray[np.float64]:
        """Return by how much each row's g may have changed since it was computed, float64 [p + n]."""
        return self.staleness() * self.lengths + _ROUNDING

    def _compute(self, rows: NDArray[np.int64]) -> None:
        """Compute the gradient of some rows by the weights as last summed."""

        def part(some: NDArray[np.int64]) -> None:
            b = self.bias_scale * self.w_bias
            _update_gradient(self.positives, self.values, self.slots, some, self._weights, b, self.gradient)

        if self.threads is None:
            part(rows)
        else:
            self.threads.map(part, np.array_split(rows, _PARTS))
        self.computed_at[rows] = self.path

    def _sum_weights(self) -> None:
        """Sum the weights that the multipliers make; and the same in float32 and scaled, for rows as stored."""
        self.w = np.zeros(self.values.shape[1])
        _sum_rows(self.positives, self.values, self.slots, self.multipliers, self.scale, self.w)
        self.w_bias = self.bias_scale * float(self.signs @ self.multipliers)
        self._weights, self._w_bias = (self.w * self.scale).astype(np.float32), np.array([self.w_bias])

    def _weights_are(self, start: Start) -> bool:
        """Return whether the weights are those that the scores at the start are by."""
        apart = ((self.w - start.w) ** 2).sum() + (self.w_bias - start.b / self.bias_scale) ** 2
        return bool(apart <= _SAME**2 * (self.w @ self.w + self.w_bias**2))


# compiled; these stand here because numba's cache on disk does not see a change made in another file


@njit(cache=True, nogil=True, fastmath=_MATH)
def _dot(x: Any, weights: Any) -> float:
    total = np.float32(0)
    for k in range(x.size):
        total += widen(x[k]) * weights[k]
    return float(total)


@njit(cache=True, nogil=True, fastmath=_MATH)
def _add(x: Any, factor: Any, weights: Any) -> None:
    for k in range(x.size):
        weights[k] += factor * widen(x[k])


@njit(cache=True, nogil=True)
def _sum_rows(positives: Any, values: Any, slots: Any, multipliers: Any, scale: float, w: Any) -> None:
    """Add scale * sum_i a_i y_i x_i to w float64 [d]."""
    p = len(positives)
    for i in range(multipliers.size):
        if multipliers[i] != 0:
            if i < p:
                _add(positives[i], multipliers[i] * scale, w)
            else:
                _add(values[slots[i - p]], -multipliers[i] * scale, w)


@njit(cache=True, nogil=True)
def _update_gradient(positives: Any, values: Any, slots: Any, rows: Any, weights: Any, b: float, gradient: Any) -> None:
    """Set g_i = 1 - y_i (x_i @ weights + b) of some rows, int64 [k]; ``weights`` are scale * w."""
    p = len(positives)
    for i in rows:
        if i < p:
            gradient[i] = 1 - (_dot(positives[i], weights) + b)
        else:
            gradient[i] = 1 + (_dot(values[slots[i - p]], weights) + b)


@njit(cache=True, nogil=True)
def _update_multipliers(
    positives: Any, values: Any, slots: Any, order: Any, multipliers: Any, upper: Any, curvature: Any,
    weights: Any, w_bias: Any, scale: float, bias_scale: float, gradient: Any,
) -> float:  # fmt: skip
    """Set the multiplier of each row in ``order`` to its best value, and move ``weights`` (scale * w) and bias with it.

    Returns:
        The gap that these rows made up when they were visited; their ``gradient`` is that of this moment, too.
    """
    p, gap = len(positives), 0.0
    for i in order:
        x, y = (positives[i], 1.0) if i < p else (values[slots[i - p]], -1.0)
        a = multipliers[i]
        g = 1 - y * (_dot(x, weights) + bias_scale * w_bias[0])
        gradient[i] = g
        gap += upper[i] * max(0.0, g) - a * g
        best = min(max(a + g / curvature[i], 0.0), upper[i])
        if best != a:
            _add(x, np.float32((best - a) * y * scale * scale), weights)
            w_bias[0] += (best - a) * y * bias_scale
            multipliers[i] = best
    return gap
