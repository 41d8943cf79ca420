"""One trial of splitting 20,000 images of 200 classes into balanced halves, one thread.

Beside the distances alone, as scipy computes them, of the pairs that the search must compare: each of 10,000 images
with all that are left, which are 10,000 on average. They are measured on some rows and extrapolated.
"""

import tracemalloc
from collections.abc import Iterator
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from benchmarks import harness
from benchmarks.harness import Figure, median_ratio, take_turns
from manifests.halves import best_halves

IMAGES, CLASSES = 20_000, 200
ROWS = 100  # of the peer's IMAGES / 4 rows of all images
MOST_MIB = 300


def made_up() -> NDArray[np.int32]:
    """Counts [n, N] of one to three classes an image, one to three objects each."""
    rng = np.random.default_rng(0)
    counts = np.zeros((IMAGES, CLASSES), np.int32)
    for _ in range(3):
        shown = rng.random(IMAGES) < 0.66
        np.add.at(
            counts, (np.flatnonzero(shown), rng.integers(0, CLASSES, shown.sum())), rng.integers(1, 4, shown.sum())
        )
    return counts


def figures(device: str) -> Iterator[Figure]:
    """The time and the memory; the device makes no difference."""
    counts = made_up()
    floats = counts.astype(np.float64)
    theirs, ours = take_turns(
        lambda: cdist(floats[:ROWS], floats, "cityblock"),
        lambda: best_halves(counts, 1, np.random.default_rng(0)),
        rounds=3,
    )
    whole = [one * IMAGES / 4 / ROWS for one in theirs]
    tracemalloc.start()
    found = best_halves(counts, 1, np.random.default_rng(0))
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    yield Figure(
        f"one trial of halving {IMAGES:,} images of {CLASSES} classes",
        f"{median(ours):.2f} s",
        f"scipy's distances alone: {median(whole):.1f} s, extrapolated from {ROWS} rows",
        median_ratio(whole, ours),
        1 / 1.5,
        f"imbalance at most {found.largest:.3f}, median {found.median:.3f}",
    )
    yield Figure("its peak memory beside the counts", f"{peak_mib:.0f} MiB", f"{MOST_MIB} MiB", MOST_MIB / peak_mib, 1)


if __name__ == "__main__":
    harness.main(figures)
