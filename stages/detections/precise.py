"""Detections chosen by their precision on an evaluated curve, and labelled with it (the paper's Figures 8 to 11)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.scoring.precision import PrecisionCurve

from .suppression import Detection

MIN_PRECISION = 0.5  # the paper's


@dataclass(frozen=True)
class Precise:
    """Chooses detections of a precision above ``least``; a class without a curve has none."""

    curves: Mapping[str, PrecisionCurve]
    least: float = MIN_PRECISION

    def __call__(self, found: Sequence[Detection]) -> list[Detection]:
        """Return those of ``found`` with their precision in the place of the score, the most precise first."""
        known = [d for d in found if d.label in self.curves]
        valued = [replace(d, score=float(self.curves[d.label].at([d.score])[0])) for d in known]
        order = np.argsort([-d.score for d in valued], kind="stable").tolist()
        return [valued[i] for i in order if valued[i].score > self.least]
