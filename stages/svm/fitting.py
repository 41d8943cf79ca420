"""The fit of a class: the rows that it is trained on, and the solver that the settings name."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.kernels.threads import Threads

from .dual import Start, fit_dual, from_scratch
from .liblinear import fit_liblinear
from .negative_pool import NegativePool
from .problem import Solution, SvmProblem
from .rows import Rows, squared_norms
from .settings import SvmSettings


class TrainingRows:
    """Every class's positives and cached negatives, and what its last fit has found, which is where the next starts.

    Args:
        positives: for each class [p_j, d], as stored.
        negatives: the pool; rows are read where they lie in it.
        scale: factor on the features.
    """

    def __init__(self, positives: Sequence[NDArray[Any]], negatives: NegativePool, scale: float) -> None:
        self._positives, self._negatives, self._scale = positives, negatives, scale
        self._norms = [squared_norms(rows) for rows in positives]
        self._last: dict[int, Solution] = {}

    def of(self, j: int) -> Rows:
        """Return the rows of class ``j``; valid until the next change of the pool."""
        values, norms = self._negatives.stored()
        slots = self._negatives.slots(j)
        return Rows(self._positives[j], values, slots, np.concatenate([self._norms[j], norms[slots]]), self._scale)

    def start(self, j: int, rows: Rows) -> Start:
        """Return where the dual solver starts on class ``j``: at its last fit, and at 0 for rows that came since."""
        last = self._last.get(j)
        if last is None or last.multipliers is None:
            return from_scratch(rows)
        multipliers, scores, staleness = self._negatives.state(j)
        p = len(rows.positives)
        return Start(
            np.concatenate([last.multipliers[:p], multipliers]),
            np.concatenate([last.scores[:p], scores]),
            np.concatenate([np.zeros(p), staleness]),
            last.w,
            last.b,
        )

    def keep(self, j: int, solution: Solution, easy: NDArray[np.bool_]) -> None:
        """Keep what a fit of class ``j`` has found, but for its ``easy`` negatives, bool [n], which it forgets."""
        p = len(self._positives[j])
        zeros = np.zeros(len(easy))
        multipliers = zeros if solution.multipliers is None else solution.multipliers[p:]
        staleness = zeros if solution.staleness is None else solution.staleness[p:]
        self._last[j] = solution
        self._negatives.set_state(j, multipliers, solution.scores[p:], staleness)
        self._negatives.drop(j, easy)


def fit_classes(
    due: Sequence[int],
    fits: NDArray[np.int64],
    rows: TrainingRows,
    problem: SvmProblem,
    settings: SvmSettings,
    seed: int,
    is_last: bool,
    threads: Threads,
) -> list[Solution]:
    """Fit the classes that are due: several with a thread each, a single one with the help of all threads.

    Args:
        due: the classes.
        fits: int64 [N], how often each class was fitted before.
        rows: the rows of all classes.
        problem: what is minimised.
        settings: which solver, and where it stops.
        seed: each (class, fit) draws from a stream of its own that follows from it.
        is_last: whether mining ends with these fits.
        threads: all are idle; their number changes no bit.

    Returns:
        One for each class that is due, in their order.
    """
    helpers = threads if len(due) == 1 else None

    def fit(j: int) -> Solution:
        own_seed = int(np.random.SeedSequence([seed, j, int(fits[j])]).generate_state(1)[0])
        return fit_class(rows, j, problem, settings, own_seed, is_last, helpers)

    return threads.map(fit, due)


def fit_class(
    rows: TrainingRows,
    j: int,
    problem: SvmProblem,
    settings: SvmSettings,
    seed: int,
    is_last: bool,
    threads: Threads | None = None,
) -> Solution:
    """Fit class ``j`` on its rows; change nothing, so that classes may be fitted at the same time.

    With the dual solver the last fit of a class is exact (``gap``). One before it only has to find the hard negatives
    (``mining_gap``), unless none of its negatives stays for a later fit, so that this may be the last.

    Args:
        rows: the rows of all classes.
        j: the class.
        problem: what is minimised.
        settings: which solver, where it stops, and which negatives are to be evicted after.
        seed: of the solver's random order.
        is_last: whether mining ends with this fit.
        threads: idle ones that may help.

    Returns:
        w and b rounded to float32, as the model stores them.
    """
    own = rows.of(j)
    if settings.solver == "liblinear":
        return _rounded(fit_liblinear(own, problem, settings.tolerance, seed))
    start = rows.start(j, own)
    if not is_last:
        wide = max(settings.gap, settings.mining_gap)
        found = fit_dual(own, start, problem, wide, seed, threads, settings.evict_below)
        if not (found.scores[len(own.positives) :] < settings.evict_below).all():
            return _rounded(found)
    return _rounded(fit_dual(own, start, problem, settings.gap, seed, threads, settings.evict_below))


def _rounded(found: Solution) -> Solution:
    return replace(found, w=found.w.astype(np.float32), b=float(np.float32(found.b)))
