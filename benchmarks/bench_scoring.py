"""Scoring 2,000 regions for 100,000 classes and finding each class's 100 best, beside the matrix product alone.

The product is float32's: bfloat16's is faster and keeps another top 100 (how far off, and float32's own distance from
float64, is measured too). Both sides use as many threads as numpy's BLAS does and take turns on a part of the
classes; this side then does them all, for its time and the process's memory. Features and weights are made up, the
positive parts of normal numbers and normal numbers: scores that lie closer together than a trained detector's.
"""

import resource
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.harness import CORES, Figure, median_ratio, seconds, take_turns
from stages.kernels.selection import best_rows
from stages.svm.classifier import Classifier

REGIONS, DIM, CLASSES, BEST = 2000, 4096, 100_000, 100
TIMED = 8192  # classes beside the peer
AT_ONCE = 1024
COMPARED = 1024  # classes whose 100 best are compared between number types


def detector(weights: Any) -> Classifier:
    """SVMs with these weights and no bias."""
    names = tuple(map(str, range(len(weights))))
    return Classifier("svm", "fc7", names, 1.0, weights, np.zeros(len(weights), np.float32))


def score(features: Any, svm: Classifier) -> int:
    """Scores and best regions of every class, as the detect stage finds them; how many regions."""
    return sum(best_rows(scores, BEST)[0].size for _, scores in svm.class_blocks(features))


def product(features: Any, weights: Any, out: Any) -> None:
    """The bare product in parts, into memory that is there."""
    for begin in range(0, len(weights), AT_ONCE):
        np.matmul(weights[begin : begin + AT_ONCE], features.T, out=out)


def kept(features: Any, weights: Any, dtype: torch.dtype) -> float:
    """The part of float64's 100 best per class that this number type finds."""
    x, w = torch.from_numpy(features), torch.from_numpy(weights)
    exact, found = ((w.to(t) @ x.to(t).T).topk(BEST, 1).indices.sort(1).values for t in (torch.float64, dtype))
    same = [np.isin(a, b, assume_unique=True).mean() for a, b in zip(exact.numpy(), found.numpy(), strict=True)]
    return float(np.mean(same))


def figures(device: str) -> Iterator[Figure]:
    """Scoring of an image; it is done on the CPU on either machine."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((REGIONS, DIM), np.float32).clip(0)
    weights = rng.standard_normal((CLASSES, DIM), np.float32)
    part, out = weights[:TIMED], np.empty((AT_ONCE, REGIONS), np.float32)
    bare, taken = take_turns(lambda: product(features, part, out), lambda: score(features, detector(part)), rounds=3)
    svm = detector(weights)
    whole = seconds(lambda: score(features, svm))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    torch.set_num_threads(CORES)
    x, w = (torch.from_numpy(a).bfloat16() for a in (features, part[:COMPARED]))
    half = median(seconds(lambda: w @ x.T) for _ in range(3)) * TIMED / COMPARED
    shares = [kept(features, part[:COMPARED], t) for t in (torch.float32, torch.bfloat16)]
    yield Figure(
        f"scoring {REGIONS:,} regions for {CLASSES:,} classes with the {BEST} best of each",
        f"{whole:.1f} s on {CORES} threads, {memory:.2f} GiB with the weights ({weights.nbytes / 2**30:.2f})",
        f"the float32 product alone, {TIMED:,} of the classes: {median(bare):.2f} s (this {median(taken):.2f} s)",
        median_ratio(bare, taken),
        0.9,
        f"of float64's best {BEST} float32 keeps {100 * shares[0]:.3f}%, bfloat16 {100 * shares[1]:.2f}% in "
        f"{half:.2f} s; the paper: 10 s, 1.5 GB",
    )


if __name__ == "__main__":
    harness.main(figures)
