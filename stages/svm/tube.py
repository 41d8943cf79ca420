"""Support vector regression of one target by dual coordinate descent: the solver of :mod:`.dual` with a tube.

The problem is liblinear's ``-s 12`` without a bias (Ho and Lin, *Large-scale linear support vector regression*, JMLR
2012). With x a scaled row, y its target and U its cost (:class:`TubeProblem`; a row that counts twice costs twice):

    minimise over w   P(w) = 1/2 |w|^2 + sum_i U_i max(0, |z_i| - e)^2                 where z_i = w.x_i - y_i
    maximise over b   D(b) = sum_i (y_i b_i - e |b_i| - b_i^2 / (4 U_i)) - 1/2 |w|^2   where w = sum_i b_i x_i

P - D = sum_i (U_i max(0, |z_i| - e)^2 + b_i^2 / (4 U_i) + e |b_i| + b_i z_i), no term of which is negative: P lies at
most that far above its minimum. As there, rows are read in place, as stored; a fit starts at the multipliers of one
before; an epoch visits the active rows alone, fewer each time; and where the gap is computed, rows are skipped that are
certain to lie in the tube: their z moves by at most their length times the distance that w has moved.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.kernels.float16 import as_bits, widen

MAX_EPOCHS = 3000  # passes over the active rows; some tens are usual
_ROUND_EPOCHS = 20  # epochs between two computations of the gap ...
_ROUND_GAIN = 0.01  # ... or fewer, once the gap among the active rows is this share of what it was
_NEAR = 0.02  # of the tube's half width: a row in it stays active while it is this close to its wall
_ROUNDING = 1e-5  # by which a score may move without w moving: it is computed in float32
_MATH = {"reassoc", "contract"}  # lets the compiler sum in vector registers, in one fixed order


@dataclass(frozen=True)
class TubeProblem:
    """What is minimised: squared losses outside a tube of half width ``epsilon`` (O2P: C 3, epsilon 0.25)."""

    C: float
    epsilon: float

    def objective(self, w: NDArray[Any], scores: NDArray[Any], targets: NDArray[Any], counts: NDArray[Any]) -> float:
        """Compute P in float64 at weights w [d], with each row's score, target and how often it counts, all [n]."""
        outside = np.maximum(0, np.abs(np.asarray(scores, np.float64) - targets) - self.epsilon)
        w64 = np.asarray(w, np.float64)
        return 0.5 * float(w64 @ w64) + self.C * float((counts * outside**2).sum())


@dataclass(frozen=True)
class TubeRows:
    """The n rows that one regressor is trained on, read where they lie.

    Attributes:
        values: float16 or float32 [slots, d], as stored; other rows are among them.
        slots: int64 [n], which of them.
        norms: float64 [n], squared lengths, unscaled.
        scale: the solver sees ``scale`` times a row.
        targets: float64 [n].
        counts: float64 [n], how often each row counts.
    """

    values: NDArray[Any]
    slots: NDArray[np.int64]
    norms: NDArray[np.float64]
    scale: float
    targets: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class TubeSolution:
    """What a solver finds; the score of a scaled row x is ``x @ w``.

    Attributes:
        w: float64 [d].
        scores: float64 [n].
        multipliers: float64 [n], of which w is the sum; 0 in the tube. None of liblinear, which keeps them to itself.
        iterations: passes over the active rows (of liblinear: over all).
        gap: (P - D) / P; None of liblinear.
        converged: whether the solver got to where it was to stop.
    """

    w: NDArray[np.float64]
    scores: NDArray[np.float64]
    multipliers: NDArray[np.float64] | None
    iterations: int
    gap: float | None
    converged: bool


def fit_tube(
    rows: TubeRows, problem: TubeProblem, gap: float, seed: int, start: NDArray[np.float64] | None = None
) -> TubeSolution:
    """Fit one regressor until its duality gap is at most ``gap`` times the objective; deterministic.

    Args:
        rows: at least one.
        problem: what is minimised.
        gap: where to stop, relative to the objective.
        seed: of the order in which rows are visited.
        start: float64 [n], the multipliers to start from; None: zeros.

    Raises:
        ValueError: no row.
    """
    if not len(rows.slots):
        raise ValueError("a regressor needs at least one row")
    rng = np.random.default_rng(seed)
    ascent = _TubeAscent(rows, problem, np.zeros(len(rows.slots)) if start is None else start)
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
    ascent.compute(np.flatnonzero(ascent.computed_at != ascent.path))
    relative = current / primal if primal else 0.0
    return TubeSolution(ascent.w, ascent.residuals + rows.targets, ascent.multipliers, epochs, relative, converged)


class _TubeAscent:
    """The state of one fit: multipliers, the weights that they make, and the residuals z as last computed.

    ``path`` is the length of the way that w has gone since the fit began, ``computed_at`` float64 [n] what it was when
    each z was computed.
    """

    def __init__(self, rows: TubeRows, problem: TubeProblem, start: NDArray[np.float64]) -> None:
        self.values, self.slots, self.scale = as_bits(rows.values), rows.slots, float(rows.scale)
        self.targets, self.epsilon = rows.targets, problem.epsilon
        self.costs = problem.C * np.asarray(rows.counts, np.float64)
        self.multipliers = np.array(start, np.float64)
        self.squares = rows.norms * self.scale**2
        self.lengths = np.sqrt(self.squares)
        self.residuals, self.computed_at, self.path = -rows.targets, np.zeros(len(rows.slots)), 0.0
        self._sum_weights()
        self.compute(np.arange(len(rows.slots)))

    def optimality(self) -> tuple[NDArray[np.int64], float, float]:
        """Return (active rows, duality gap, objective P) by the residuals as last computed.

        A row is active if it has a multiplier, lies outside the tube, or next to its wall.
        """
        z, b = self.residuals, self.multipliers
        loss = self.costs * np.maximum(0, np.abs(z) - self.epsilon) ** 2  # a row that was skipped has none
        share = loss + b**2 / (4 * self.costs) + self.epsilon * np.abs(b) + b * z
        movable = (b != 0) | (np.abs(z) > (1 - _NEAR) * self.epsilon)
        return np.flatnonzero(movable), float(share.sum()), 0.5 * float(self.w @ self.w) + float(loss.sum())

    def epoch(self, order: NDArray[np.int64]) -> float:
        """Set the multiplier of each row in ``order`` to its best value; return the gap the rows made up as visited."""
        self.computed_at[order] = -np.inf  # by weights that are on the move
        return float(
            _update_multipliers(
                self.values, self.slots, order, self.multipliers, self.costs, self.squares, self.targets,
                self._weights, self.scale, self.epsilon, self.residuals,
            )
        )  # fmt: skip

    def still_moving(self, active: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the active rows that have a multiplier, or are near the tube's wall (shrinking)."""
        z = np.abs(self.residuals[active])
        moving: NDArray[np.int64] = active[(self.multipliers[active] != 0) | (z > (1 - _NEAR) * self.epsilon)]
        return moving

    def refresh(self) -> None:
        """Sum the weights anew and compute the residuals, but for rows that are certain to lie in the tube."""
        before = self.w
        self._sum_weights()
        self.path += float(np.sqrt(((self.w - before) ** 2).sum()))
        known = np.isfinite(self.computed_at)  # a row of length 0 would make inf * 0
        reach = np.where(known, (self.path - np.where(known, self.computed_at, 0)) * self.lengths, np.inf) + _ROUNDING
        inside = (self.multipliers == 0) & (np.abs(self.residuals) + reach < self.epsilon)
        self.compute(np.flatnonzero(~inside))

    def compute(self, rows: NDArray[np.int64]) -> None:
        """Compute the residuals of some rows by the weights as last summed."""
        _update_residuals(self.values, self.slots, rows, self._weights, self.targets, self.residuals)
        self.computed_at[rows] = self.path

    def _sum_weights(self) -> None:
        """Sum the weights that the multipliers make; and the same in float32 and scaled, for rows as stored."""
        self.w = np.zeros(self.values.shape[1])
        _sum_rows(self.values, self.slots, self.multipliers, self.scale, self.w)
        self._weights = (self.w * self.scale).astype(np.float32)


# compiled; these stand here, too, because numba's cache on disk does not see a change made in another file


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
def _sum_rows(values: Any, slots: Any, multipliers: Any, scale: float, w: Any) -> None:
    """Add scale * sum_i b_i x_i to w float64 [d]."""
    for i in range(multipliers.size):
        if multipliers[i] != 0:
            _add(values[slots[i]], multipliers[i] * scale, w)


@njit(cache=True, nogil=True)
def _update_residuals(values: Any, slots: Any, rows: Any, weights: Any, targets: Any, residuals: Any) -> None:
    """Set z_i = x_i @ weights - y_i of some rows, int64 [k]; ``weights`` are scale * w."""
    for i in rows:
        residuals[i] = _dot(values[slots[i]], weights) - targets[i]


@njit(cache=True, nogil=True)
def _update_multipliers(
    values: Any, slots: Any, order: Any, multipliers: Any, costs: Any, squares: Any, targets: Any,
    weights: Any, scale: float, epsilon: float, residuals: Any,
) -> float:  # fmt: skip
    """Set the multiplier of each row in ``order`` to its best value, and move ``weights`` (scale * w) with it.

    Returns:
        The gap that these rows made up when they were visited; their ``residuals`` are those of this moment, too.
    """
    gap = 0.0
    for i in order:
        x, b, cost = values[slots[i]], multipliers[i], costs[i]
        z = _dot(x, weights) - targets[i]
        residuals[i] = z
        outside = max(0.0, abs(z) - epsilon)
        gap += cost * outside * outside + b * b / (4 * cost) + epsilon * abs(b) + b * z
        curvature = squares[i] + 1 / (2 * cost)
        slope = z + b / (2 * cost)
        # the best b is 0 where the tube's wall holds it there, else the parabola's lowest point on its side of 0
        if slope + epsilon < curvature * b:
            best = b - (slope + epsilon) / curvature
        elif slope - epsilon > curvature * b:
            best = b - (slope - epsilon) / curvature
        else:
            best = 0.0
        if best != b:
            _add(x, np.float32((best - b) * scale * scale), weights)
            multipliers[i] = best
    return gap
