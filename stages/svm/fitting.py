"""One class's fit on its positives and cached negatives, by the solver that the settings name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.kernels.linear import linear
from stages.kernels.threads import Threads

from .dual import Start, fit_dual, from_scratch
from .liblinear import fit
from .negatives import NegativePool
from .rows import Rows, squared_norms
from .settings import SvmSettings


@dataclass(frozen=True)
class ClassFit:
    """Weights float32 [d] and bias, the scores of the class's positives and negatives by them, how the solver fared.

    ``multipliers`` and ``staleness`` float64 (positives, then negatives) and ``gap`` (relative) are the dual solver's;
    with it, negatives that cost nothing have the scores of earlier weights where those tell that they do, and whether
    they lie below ``evict_below`` (``staleness`` > 0).
    """

    w: NDArray[np.float32]
    b: np.float32
    positive_scores: NDArray[Any]
    negative_scores: NDArray[Any]
    iterations: int
    converged: bool
    gap: float | None = None
    multipliers: NDArray[np.float64] | None = None
    staleness: NDArray[np.float64] | None = None


class Fitter:
    """Fits classes; those of different classes may run in threads, while nothing is added to the pool or dropped."""

    def __init__(
        self, positives: Sequence[NDArray[Any]], pool: NegativePool, feature_scale: float, settings: SvmSettings
    ) -> None:
        self._positives, self._pool, self._scale, self._settings = positives, pool, feature_scale, settings
        self._while_mining = settings.while_mining()
        self._norms = [squared_norms(rows) for rows in positives]
        self._last: dict[int, ClassFit] = {}

    def fit(self, j: int, seed: int, is_last: bool, threads: Threads | None = None) -> ClassFit:
        """Fit class ``j`` on what the pool holds of it; nothing is changed. ``threads``: idle ones, which may help.

        Of a fit that is not the class's last the detector serves to find negatives alone, and need not be exact.
        """
        if self._settings.solver == "liblinear":
            return self._liblinear(j, seed)
        if not is_last:
            fitted = self._dual(j, seed, self._while_mining, threads)
            if not (fitted.negative_scores < self._settings.evict_below).all():
                return fitted  # else none of them stays for a later fit, and this may be the last
        return self._dual(j, seed, self._settings, threads)

    def keep(self, j: int, fitted: ClassFit) -> None:
        """Make a fit the start of the class's next one; before anything is dropped."""
        p = len(self._positives[j])
        n = len(fitted.negative_scores)
        multipliers = np.zeros(n) if fitted.multipliers is None else fitted.multipliers[p:]
        staleness = np.zeros(n) if fitted.staleness is None else fitted.staleness[p:]
        self._last[j] = fitted
        self._pool.set_state(j, multipliers, fitted.negative_scores, staleness)

    def _dual(self, j: int, seed: int, settings: SvmSettings, threads: Threads | None) -> ClassFit:
        values, norms = self._pool.stored()
        slots, p = self._pool.slots(j), len(self._positives[j])
        rows = Rows(self._positives[j], values, slots, np.concatenate([self._norms[j], norms[slots]]))
        found = fit_dual(rows, self._start(j, rows), self._scale, settings, seed, threads, settings.evict_below)
        return ClassFit(
            found.w.astype(np.float32), np.float32(found.b), found.scores[:p], found.scores[p:],
            found.iterations, found.converged, found.gap, found.multipliers, found.staleness,
        )  # fmt: skip

    def _start(self, j: int, rows: Rows) -> Start:
        last = self._last.get(j)
        if last is None or last.multipliers is None:
            return from_scratch(rows)
        multipliers, scores, staleness = self._pool.state(j)
        p = len(rows.positives)
        return Start(
            np.concatenate([last.multipliers[:p], multipliers]),
            np.concatenate([last.positive_scores, scores]),
            np.concatenate([np.zeros(p), staleness]),
            last.w,
            float(last.b),
        )

    def _liblinear(self, j: int, seed: int) -> ClassFit:
        negatives = self._pool.features(j)
        found = fit([self._positives[j]], [negatives], self._scale, self._settings, seed)
        w, b = found.w.astype(np.float32), np.float32(found.b)
        return ClassFit(
            w, b, self._scores(self._positives[j], w, b), self._scores(negatives, w, b),
            found.iterations, found.converged,
        )  # fmt: skip

    def _scores(self, rows: NDArray[Any], w: NDArray[np.float32], b: np.float32) -> NDArray[np.float32]:
        weights = (w * np.float32(self._scale))[None]
        return linear(rows, weights)[:, 0] + b
