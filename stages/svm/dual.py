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

import numpy as np
from numpy.typing import NDArray

from .crew import Crew
from .problem import Problem, Start
from .rows import Rows
from .settings import SvmSettings

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
    threads: Crew | None = None,
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
