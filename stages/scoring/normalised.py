"""Normalised average precision (Hoiem et al., ECCV 2012): comparable between classes of many and of few objects."""

from dataclasses import dataclass

import numpy as np

from .objects import Bools
from .voc import envelope

# The number of objects that precision is normalised to, as a part of the number of images (the authors' NORM_FRACT).
NORMAL_SHARE = 0.15


@dataclass(frozen=True)
class NormalisedAP:
    """Normalised AP of a class or of some of its objects, its standard error, and the objects: all, and those found."""

    ap: float
    standard_error: float
    n_objects: int
    n_found: int


def normalised_ap(right: Bools, n_objects: int, n_normal: float) -> NormalisedAP | None:
    """Average the precision that a class would have with ``n_normal`` objects (averagePrecisionNormalized.m).

    Precision is ``t / (t + fp)``, where ``t = tp * n_normal / n_objects``. Each object found has the best such
    precision from its detection on, each one missed 0; their mean is the AP, their standard deviation (n - 1) over the
    root of their number its standard error (0 for a single object, as MATLAB's ``std`` has it).

    Args:
        right: [k] of each detection, best first, whether it is right, without those that are ignored.
        n_objects: how many objects there are to find; with 0 there is no AP.
        n_normal: the number of objects that precision is normalised to.
    """
    if not n_objects:
        return None
    found = np.cumsum(right, dtype=np.float64) * (n_normal / n_objects)
    wrong = np.cumsum(~right, dtype=np.float64)
    precision = envelope(np.divide(found, found + wrong, out=np.zeros(len(found)), where=found + wrong > 0))
    each = np.zeros(n_objects)
    n_found = int(right.sum())
    each[:n_found] = precision[right]
    spread = float(np.std(each, ddof=1)) if n_objects > 1 else 0.0
    return NormalisedAP(float(each.mean()), spread / n_objects**0.5, n_objects, n_found)
