"""OverFeat's greedy merging of 1,000 boxes of one class, one thread.

Beside numpy taking the least of all pairs' match scores in every step. It keeps them from step to step, and computes
only those of the box that has changed; computing all of them anew each time would take a hundred times as long. Boxes
are jittered objects, as regressed boxes are, and merge to about as many.
"""

from collections.abc import Iterator
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from benchmarks.harness import Figure, median_ratio, take_turns
from stages.overfeat.merging import greedy_merge

BOXES = 1000
OBJECTS = 20
SPREAD_PX = 6
T = 0.5

Floats = NDArray[np.float64]


def made_up() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes [n, 4] about 20 objects of 40 to 120 px, and their scores, best first."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 400, (OBJECTS, 2))
    objects = np.concatenate([corners, corners + rng.uniform(40, 120, (OBJECTS, 2))], axis=1)
    boxes = objects[rng.integers(0, OBJECTS, BOXES)] + rng.normal(0, SPREAD_PX, (BOXES, 4))
    return boxes.astype(np.float32), np.sort(rng.random(BOXES)).astype(np.float32)[::-1]


def match_scores(boxes: Floats, others: Floats) -> Floats:
    """Match scores [n, m] of boxes [n, 4] and [m, 4]: as :mod:`stages.overfeat.merging` has them."""
    (centre, diagonal, area), (other_centre, other_diagonal, other_area) = (
        (
            (b[:, :2] + b[:, 2:]) / 2,
            np.sqrt(((b[:, 2:] - b[:, :2]) ** 2).sum(axis=1)),
            (b[:, 2:] - b[:, :2]).prod(axis=1),
        )
        for b in (boxes, others)
    )
    distance = np.sqrt(((centre[:, None] - other_centre) ** 2).sum(axis=2))
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    overlap = np.minimum(shared / (area[:, None] + other_area - shared), 1)
    found: Floats = distance / ((diagonal[:, None] + other_diagonal) / 2) + (1 - overlap)
    return found


def by_argmin(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Merge as numpy would; boxes and scores that are left. A row that is gone is infinitely far from all."""
    sums, totals, counts = boxes.astype(np.float64), scores.astype(np.float64), np.ones(len(boxes))
    apart = match_scores(sums, sums)
    apart[np.tri(len(apart), dtype=bool)] = np.inf
    alive = np.ones(len(boxes), bool)
    while True:
        i, j = divmod(int(apart.argmin()), len(boxes))
        if apart[i, j] > T:
            return sums[alive] / counts[alive, None], totals[alive]
        sums[i] += sums[j]
        totals[i] += totals[j]
        counts[i] += counts[j]
        alive[j] = False
        apart[j], apart[:, j] = np.inf, np.inf
        means = sums / counts[:, None]
        changed = np.where(alive, match_scores(means[i : i + 1], means)[0], np.inf)
        apart[:i, i], apart[i, i + 1 :] = changed[:i], changed[i + 1 :]


def figures(device: str) -> Iterator[Figure]:
    """The one figure; the device makes no difference."""
    boxes, scores = made_up()
    merged = greedy_merge(boxes, scores, T)
    theirs_boxes, theirs_scores = by_argmin(boxes, scores)
    if not (np.array_equal(merged.boxes, theirs_boxes) and np.array_equal(merged.scores, theirs_scores)):
        raise AssertionError("numpy's boxes are others")
    theirs, ours = take_turns(lambda: by_argmin(boxes, scores), lambda: greedy_merge(boxes, scores, T), rounds=3)
    yield Figure(
        f"OverFeat's merging of {BOXES:,} boxes of a class",
        f"{1000 * median(ours):.1f} ms",
        f"numpy, least of all pairs in every step, kept from step to step: {1000 * median(theirs):,.0f} ms",
        median_ratio(theirs, ours),
        100,
        f"the same {len(merged.counts)} boxes, to the bit",
    )


if __name__ == "__main__":
    harness.main(figures)
