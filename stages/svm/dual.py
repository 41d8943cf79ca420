"""The L2-regularised hinge-loss linear SVM by dual coordinate descent, warm-started, stopped by its duality gap.

The same problem as liblinear's ``-s 3`` (Hsieh et al., *A dual coordinate descent method for large-scale linear SVM*,
ICML 2008): with x a scaled row and the constant feature ``bias`` appended, y = +-1 and U = C, for a positive
C * positive_weight,

    minimise over w         P(w) = 1/2 |w|^2 + sum_i U_i max(0, g_i)        where g_i = 1 - y_i w.x_i
    maximise over 0<=a<=U   D(a) = sum_i a_i - 1/2 |w|^2                    where w = sum_i a_i y_i x_i

and P - D = sum_i (U_i max(0, g_i) - a_i g_i), no term of which is negative: the gap is what the rows that are not yet
where they belong cost, and bounds how far P lies above its minimum. Three things make it fast. The multipliers of a
class's last fit are the start of the next, and the scores known by then are not computed again. Rows are read in place
and densely, as stored: with float16 widened in registers, a row of 4,096 takes a quarter of a microsecond, a quarter of
liblinear's time over its non-zeros. And between two looks at the rows only those that contribute to the gap
or soon may are visited, and the longer the fewer (shrinking, section 3.2 there); a look passes over rows that cannot
have left their bound, since a score moves by at most the row's length times what w has travelled.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.kernels.float16 import as_bits
from stages.kernels.threads import Threads

from .rows import Rows, find_slack, sum_rows, visit
from .settings import SvmSettings

_NEAR = 0.02  # a row at its bound stays active while its margin is this close to 1
_ROUNDING = 1e-5  # by which a score may move without w moving: it is computed in float32
_PARTS = 4  # of a look, for threads
_SAME = 1e-6  # two weight vectors this near, relative to their length, differ by rounding to float32 alone


@dataclass(frozen=True)
class Start:
    """Where to start: ``multipliers`` float64 [p + n], and ``scores`` [p + n] of the rows by the weights ``w``, ``b``.

    ``staleness`` float64 [p + n]: how far the weights have travelled since each score was computed, 0 for a score by
    ``w``. Where those are the weights that the multipliers make, the scores are not computed again.
    """

    multipliers: NDArray[np.float64]
    scores: NDArray[Any]
    staleness: NDArray[Any]
    w: NDArray[Any]
    b: float


def from_scratch(rows: Rows) -> Start:
    """The start of a class's first fit: all zeros."""
    n = len(rows.norms)
    return Start(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(rows.values.shape[1]), 0.0)


class Problem:
    """One class's problem and where its solution has come to.

    ``slack`` float64 [p + n] holds g as last seen. ``travelled`` is the length of the path that w has taken since the
    solver began, ``seen_at`` float64 [p + n] what that was when each row was last seen, below 0 for scores from before.
    """

    def __init__(self, rows: Rows, start: Start, scale: float, settings: SvmSettings, threads: Threads | None) -> None:
        self.threads = threads
        p = len(rows.positives)
        self.positives, self.values, self.slots = as_bits(rows.positives), as_bits(rows.values), rows.slots
        self.scale, self.bias = float(scale), settings.bias
        self.upper = np.full(len(rows.norms), settings.C)
        self.upper[:p] *= settings.positive_weight
        self.signs = np.where(np.arange(len(rows.norms)) < p, 1.0, -1.0)
        self.multipliers = np.clip(start.multipliers, 0, self.upper)
        self.curvature = rows.norms * self.scale**2 + self.bias**2  # squared length of a row, scaled, bias and all
        self.lengths = np.sqrt(self.curvature)
        self.slack = 1 - self.signs * start.scores
        self.seen_at, self.travelled = -np.asarray(start.staleness, np.float64), 0.0
        self._sum()
        if not self._is_near(start):
            self._look(np.arange(len(rows.norms)))

    def _sum(self) -> None:
        """The weights that the multipliers make, and the same in float32 and scaled, for rows as stored."""
        self.w = np.zeros(self.values.shape[1])
        sum_rows(self.positives, self.values, self.slots, self.multipliers, self.scale, self.w)
        self.w_bias = self.bias * float(self.signs @ self.multipliers)
        self._weights, self._w_bias = (self.w * self.scale).astype(np.float32), np.array([self.w_bias])

    def _is_near(self, start: Start) -> bool:
        apart = ((self.w - start.w) ** 2).sum() + (self.w_bias - start.b / self.bias) ** 2
        return bool(apart <= _SAME**2 * (self.w @ self.w + self.w_bias**2))

    def see(self) -> None:
        """Bring the slack of the rows up to date with the multipliers, but for those that cannot make up any gap."""
        before, bias_before = self.w, self.w_bias
        self._sum()
        self.travelled += float(np.sqrt(((self.w - before) ** 2).sum() + (self.w_bias - bias_before) ** 2))
        reach = self._reach()
        idle = (self.multipliers == 0) & (self.slack < -reach)
        full = (self.multipliers == self.upper) & (self.slack > reach)
        self._look(np.flatnonzero(~(idle | full)))

    def see_rest(self, threshold: float | None) -> None:
        """Bring the slack of the rows that :meth:`see` has passed over up to date, as far as ``threshold`` asks."""
        stale = self.seen_at != self.travelled
        if threshold is not None:
            reach = self._reach()
            idle = (self.multipliers == 0) & (self.slack < -reach)
            stale &= ~(idle & (self.signs < 0) & (np.abs(self.slack - (1 + threshold)) > reach))
        self._look(np.flatnonzero(stale))

    def staleness(self) -> NDArray[np.float64]:
        """float64 [p + n]: how far the weights have travelled since each row was last seen."""
        return self.travelled - self.seen_at

    def _reach(self) -> NDArray[np.float64]:
        """By how much each row's slack may have changed since it was last seen."""
        return self.staleness() * self.lengths + _ROUNDING

    def _look(self, rows: NDArray[np.int64]) -> None:
        def part(some: NDArray[np.int64]) -> None:
            b = self.bias * self.w_bias
            find_slack(self.positives, self.values, self.slots, some, self._weights, b, self.slack)

        if self.threads is None:
            part(rows)
        else:
            self.threads.map(part, np.array_split(rows, _PARTS))
        self.seen_at[rows] = self.travelled

    def state(self) -> tuple[NDArray[np.int64], float, float]:
        """Of what was just seen: the rows that contribute to the gap or soon may, the gap, and P."""
        # rows passed over add nothing, with the slack they had as with the one they have
        share = self.upper * np.maximum(0, self.slack) - self.multipliers * self.slack
        gap = float(share.sum())
        dual = float(self.multipliers.sum()) - 0.5 * (float(self.w @ self.w) + self.w_bias**2)
        movable = (share > 0) | (self.multipliers > 0) | (self.slack > -_NEAR)
        return np.flatnonzero(movable), gap, dual + gap

    def scores(self) -> NDArray[np.float64]:
        """float64 [p + n], of what was just seen."""
        return self.signs * (1 - self.slack)

    def epoch(self, order: NDArray[np.int64]) -> float:
        """Visit some rows; the gap that they made up when visited."""
        self.seen_at[order] = -np.inf  # by weights that are on the move
        return float(
            visit(
                self.positives, self.values, self.slots, order, self.multipliers, self.upper, self.curvature,
                self._weights, self._w_bias, self.scale, self.bias, self.slack,
            )
        )  # fmt: skip

    def unsettled(self, active: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that were not left at a bound, or only just."""
        a, slack = self.multipliers[active], self.slack[active]
        return active[((a > 0) & (a < self.upper[active])) | (np.abs(slack) < _NEAR)]


MAX_EPOCHS = 3000  # passes over the active rows, whose number shrinks; some tens are usual
_ROUND_EPOCHS = 20  # passes between two looks
_ROUND_GAIN = 0.003  # ... or fewer, once the gap among the active rows is this share of what it was


@dataclass(frozen=True)
class DualFit:
    """``w`` float64 [d] and ``b`` as in :class:`.liblinear.LinearFit`; ``scores`` float64 [p + n] of the rows by them.

    ``staleness`` float64 [p + n] as in :class:`Start`: 0 for all, unless a threshold was given.

    ``multipliers`` float64 [p + n] are a, from which w is summed; ``gap`` is (P - D) / P, right to some
    1e-6, since scores are float32.
    """

    w: NDArray[np.float64]
    b: float
    scores: NDArray[np.float64]
    staleness: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    gap: float
    iterations: int
    converged: bool


def fit_dual(
    rows: Rows,
    start: Start,
    feature_scale: float,
    settings: SvmSettings,
    seed: int,
    threads: Threads | None = None,
    threshold: float | None = None,
) -> DualFit:
    """Train one class to ``settings.gap``.

    With a ``threshold``, the score of a negative that costs nothing is left as it was last computed where that tells
    on which side of the threshold it lies and that it costs nothing.

    Its random order is its own, and only the looks, whose rows do not depend on each other, are shared out among
    ``threads``: the same arguments give the same bits.
    """
    p, n = len(rows.positives), len(rows.slots)
    if not (p and n):
        raise ValueError("an SVM needs at least one positive and one negative row")
    rng = np.random.default_rng(seed)
    problem = Problem(rows, start, feature_scale, settings, threads)
    epochs = 0
    while True:
        active, gap, primal = problem.state()
        converged = gap <= settings.gap * primal
        if converged or epochs >= MAX_EPOCHS:
            break
        enough = max(_ROUND_GAIN * gap, 0.5 * settings.gap * primal)
        for _ in range(_ROUND_EPOCHS):
            epochs += 1
            if problem.epoch(rng.permutation(active)) <= enough:
                break
            active = problem.unsettled(active)
        problem.see()
    problem.see_rest(threshold)
    b = settings.bias * problem.w_bias
    return DualFit(
        problem.w, b, problem.scores(), problem.staleness(), problem.multipliers, gap / primal, epochs, converged
    )
