"""Average precision of one ranking, as PASCAL VOC defines it (VOCap.m)."""

import numpy as np
from numpy.typing import NDArray


def area_ap(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Area under the monotone envelope of the curve: VOC 2010 and later. [k], [k] best first -> [0, 1]."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(recall, prepend=0.0) @ envelope)


def eleven_point_ap(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Mean of the best precision at recall of at least 0, 0.1, ... 1: VOC 2007. [k], [k] best first -> [0, 1].

    The devkit's third step is 3 x 0.1 = 0.30000000000000004, which a recall of exactly 3/10 misses; here it is 3 / 10,
    and equal ratios of counts are equal numbers.
    """
    best = [precision[recall >= step / 10].max(initial=0.0) for step in range(11)]
    return float(np.sum(best) / 11)
