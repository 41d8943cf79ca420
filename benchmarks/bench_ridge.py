"""Box regressors of one class from pool5-shaped features, 4 targets, one thread, beside scikit-learn.

6,000 rows of 9,216 and a constant one, about what a class of VOC 2007 has. The rows are made up: positive parts of
400 objects' vectors and 15 jittered views of each, whose X'X falls off somewhat more slowly than that of a network's
features of jittered boxes does ([M] SqueezeNet on photographs, 2,304 rows: eigenvalues 11, 101 and 1,001 are 0.009,
0.0013 and 0.00006 of the first; these, as many rows: 0.03, 0.005 and 0.0001); it decides how many steps this side
takes. 20 classes are 20 times this. Both sides start from
rows in memory, scikit-learn from float64 ones, as this side's solution is accurate to float64; the time that
scikit-learn takes in float32, and how far its solution is off, is in the note.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from benchmarks import harness
from benchmarks.harness import Figure, median_ratio, seconds, take_turns
from stages.bbox.ridge import RowsRidge

OBJECTS, VIEWS, DIM = 400, 15, 9216
FACTORS = 1500  # that the features are made of
LAMBDA = 1000.0
NORM = 20.0  # mean norm that features are scaled to


def rows() -> tuple[Any, Any]:
    """Features float32 [6000, 9217], the last column 1, and whitened targets float64 [6000, 4]."""
    rng = np.random.default_rng(0)
    views = np.repeat(rng.standard_normal((OBJECTS, FACTORS), np.float32), VIEWS, axis=0)
    jitter = rng.standard_normal(views.shape, np.float32)
    fall = np.arange(1, FACTORS + 1, dtype=np.float32) ** -0.55
    mixing = rng.standard_normal((FACTORS, DIM), np.float32) * fall[:, None]
    x = ((views + 0.5 * jitter) @ mixing).clip(0)
    x *= NORM / np.linalg.norm(x, axis=1).mean()
    y = jitter[:, :4] + rng.standard_normal((len(x), 4))
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1), y - y.mean(axis=0)


def solve(x: Any, y: Any) -> Any:
    """Weights [9217, 4] as the bbox stage finds them."""
    solver = RowsRidge(len(x), x.shape[1])
    solver.add(x, y)
    return solver.solve(LAMBDA)[0]


def figures(device: str) -> Iterator[Figure]:
    """One figure; the device makes no difference."""
    with threadpool_limits(1):
        yield _figure(*rows())


def _figure(x: Any, y: Any) -> Figure:
    exact = x.astype(np.float64)
    peer = Ridge(alpha=LAMBDA, fit_intercept=False, solver="cholesky")
    solve(x[:40], y[:40])  # compile, or load compiled code, outside the timing
    theirs, ours = take_turns(lambda: peer.fit(exact, y), lambda: solve(x, y), rounds=1, warm_up=False)
    expected, found = peer.coef_.T, solve(x, y)
    apart = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    if apart > 1e-7:
        raise AssertionError(f"the solution is {apart:.1e} from scikit-learn's")
    single = seconds(lambda: peer.fit(x, y.astype(np.float32)))
    off = np.linalg.norm(peer.coef_.T - expected) / np.linalg.norm(expected)
    return Figure(
        f"ridge regression of one class, 4 targets, {len(x):,} x {DIM:,}, one thread",
        f"{median(ours):.2f} s",
        f"scikit-learn Ridge, float64: {median(theirs):.1f} s",
        median_ratio(theirs, ours),
        10,
        f"the same solution within {apart:.0e} (relative); scikit-learn in float32: {single:.1f} s, off by {off:.0e}",
    )


if __name__ == "__main__":
    harness.main(figures)
