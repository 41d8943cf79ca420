"""Normalised average precision (Hoiem et al., ECCV 2012): comparable between classes of many and of few objects."""

from dataclasses import dataclass

import numpy as np

from .objects import Bools, Ints
from .voc import envelope


@dataclass(frozen=True)
class NormalisedAP:
    """Normalised AP of a class or of some of its objects, its standard error, and the objects: all, and those found."""

    ap: float
    standard_error: float
    n_objects: int
    n_found: int


def wrong_above(right: Bools) -> Ints:
    """Count the wrong detections above each right one: bool [k] best first, without ignored ones -> int64 [tp]."""
    at = np.flatnonzero(right)
    return at - np.arange(len(at))


def normalised_ap(wrong: Ints, n_objects: int, n_normal: float) -> NormalisedAP | None:
    """Average the precision that a class would have with ``n_normal`` objects (averagePrecisionNormalized.m).

    Precision is ``t / (t + fp)``, where ``t = tp * n_normal / n_objects``. Each object found has the best such
    precision from its detection on, each one missed 0; their mean is the AP, their standard deviation (n - 1) over the
    root of their number its standard error (0 for a single object, as MATLAB's ``std`` has it).

    Args:
        wrong: [tp] of each right detection, best first, how many wrong ones are above it (:func:`wrong_above`); these
            are all that matter, since precision falls until the next right one.
        n_objects: how many objects there are to find; with 0 there is no AP.
        n_normal: the number of objects that precision is normalised to.
    """
    if not n_objects:
        return None
    found = np.arange(1, len(wrong) + 1) * (n_normal / n_objects)
    each = np.zeros(n_objects)
    each[: len(wrong)] = envelope(found / (found + wrong))
    mean = each.sum() / n_objects
    spread = float(np.sqrt(np.square(each - mean).sum() / (n_objects - 1))) if n_objects > 1 else 0.0
    return NormalisedAP(float(mean), spread / n_objects**0.5, n_objects, len(wrong))
