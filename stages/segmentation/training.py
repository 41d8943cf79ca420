"""Training the regressors: rows of the training images, in chunks that fit in memory (O2P's protocol).

Every class sees all rows of the first chunk. Of each later one it sees the rows that lie outside its tube by then, the
objects', and what is left of the chunks before: the objects' rows and those that had a multiplier, from which the
solver goes on. One pass; a chunk holds as many images as ``svr.memory_limit_mb`` has room for.

Deliberate differences to O2P (``o2p_train.m``): the targets of the rows that count twice are less their mean as all
others'; each of its chunks has the objects and best regions of all training images, ours the objects of those read so
far, and keeps best regions as any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from manifests import ImageRecord
from stages.contract import Log
from stages.kernels.linear import linear
from stages.kernels.threads import Threads
from stages.svm.liblinear import fit_liblinear_tube
from stages.svm.rows import squared_norms
from stages.svm.tube import TubeProblem, TubeRows, TubeSolution, fit_tube

from .rows import TrainingImage
from .settings import SvrSettings

_STATISTICS_IMAGES = 200  # images that the mean norm is taken from, drawn by the seed (the detector's SVMs: as many)
_SCORED_ROWS = 4096  # copied out of the pool at a time

Read = Callable[[ImageRecord], TrainingImage]


@dataclass(frozen=True)
class Fit:
    """One fit of a class, a row of ``fits.csv``; ``supports`` are the rows outside its tube, of which w is the sum."""

    class_name: str
    chunk: int
    images_seen: int
    rows: int
    supports: int
    objective: float
    iterations: int
    converged: bool
    gap: float | None


def mean_targets(
    targets: Callable[[ImageRecord], NDArray[np.float32]], records: Sequence[ImageRecord]
) -> NDArray[np.float64]:
    """Mean overlap of all training rows with each class, float64 [N]; StageError where there is no row at all."""
    total, rows = None, 0
    for record in records:
        own = targets(record)
        summed = own.sum(axis=0, dtype=np.float64)
        total, rows = summed if total is None else total + summed, rows + len(own)
    if total is None or not rows:
        raise StageError("svr: the training images have neither regions nor objects with masks; check the proposals")
    mean: NDArray[np.float64] = total / rows
    return mean


def mean_row_norm(read: Read, records: Sequence[ImageRecord], seed: int) -> float:
    """Mean length of the rows of at most 200 images drawn by the seed; StageError where all rows are 0."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(records))[:_STATISTICS_IMAGES])
    norms = [np.sqrt(squared_norms(np.ascontiguousarray(read(records[i]).values))) for i in drawn.tolist()]
    mean = float(np.concatenate(norms).mean()) if sum(map(len, norms)) else 0.0
    if not mean > 0:
        raise StageError("svr: all features of the training regions are 0; check network.weights and the proposals")
    return mean


def overlaps_reached(scores: NDArray[np.float32], targets: NDArray[np.float32]) -> list[float]:
    """Return how far the region that scores best for a class overlaps it, of each class that an image's regions meet.

    Both are [n, N], of the same regions; of equal scores the first region's.
    """
    met = np.flatnonzero(targets.max(axis=0, initial=0) > 0)
    return [float(targets[scores[:, label].argmax(), label]) for label in met.tolist()]


class _Pool:
    """Rows in memory, some of them free, with every class's target and multiplier."""

    def __init__(self, capacity: int, like: TrainingImage) -> None:
        d, n_classes = like.values.shape[1], like.targets.shape[1]
        self.values = np.zeros((capacity, d), like.values.dtype)
        self.targets = np.zeros((capacity, n_classes))
        self.counts, self.norms = np.ones(capacity), np.zeros(capacity)
        self.multipliers = np.zeros((capacity, n_classes))
        self.used, self.is_object, self.is_new = (np.zeros(capacity, bool) for _ in range(3))

    def free(self) -> NDArray[np.int64]:
        """Slots that hold nothing."""
        found: NDArray[np.int64] = np.flatnonzero(~self.used)
        return found

    def add(self, image: TrainingImage, means: NDArray[np.float64]) -> None:
        """Put an image's rows into free slots."""
        slots = self.free()[: len(image.values)]
        self.values[slots], self.targets[slots] = image.values, image.targets - means
        self.counts[slots], self.norms[slots] = image.counts, squared_norms(np.ascontiguousarray(image.values))
        self.multipliers[slots] = 0
        self.used[slots] = self.is_new[slots] = True
        self.is_object[slots] = np.arange(len(slots)) < image.objects

    def drop_idle(self) -> None:
        """Free the rows that no class has a multiplier for, but objects'; nothing is new any more."""
        self.used &= self.is_object | (self.multipliers != 0).any(axis=1)
        self.is_new[:] = False


def train_regressors(
    read: Read,
    records: Sequence[ImageRecord],
    classes: Sequence[str],
    means: NDArray[np.float64],
    scale: float,
    problem: TubeProblem,
    settings: SvrSettings,
    seed: int,
    workers: int,
    log: Log,
) -> tuple[NDArray[np.float32], list[Fit]]:
    """Train one regressor per class.

    Args:
        read: gives an image's rows.
        records: the images to train on, in the order in which they are read.
        classes: the N classes' names.
        means: float64 [N], the targets' means.
        scale: factor on the features.
        problem: what is minimised.
        settings: the solver, the memory.
        seed: each (class, chunk) draws from a stream of its own that follows from it.
        workers: threads; they change no bit.
        log: told of progress.

    Returns:
        Weights float32 [N, d], and what each fit did.

    Raises:
        StageError: the memory does not hold one image beside what must be kept.
    """
    weights, pool, chunk = np.zeros((len(classes), 0)), None, 0
    fits: list[Fit] = []
    with Threads(workers) as threads:
        for seen, record in enumerate(records, 1):
            image = read(record)
            if pool is None:
                pool = _Pool(_capacity(image, settings.memory_limit_mb), image)
                weights = np.zeros((len(classes), image.values.shape[1]))
            if len(pool.free()) < len(image.values):
                weights, more = _fit_chunk(
                    pool, weights, classes, scale, problem, settings, seed, chunk, seen - 1, threads
                )
                fits, chunk = fits + more, chunk + 1
                pool.drop_idle()
            if len(pool.free()) < len(image.values):
                raise StageError(
                    f"svr.memory_limit_mb: {settings.memory_limit_mb} MiB hold {len(pool.used)} rows, of which "
                    f"{int(pool.used.sum())} must be kept; the {len(image.values)} of {record.file_name} do not fit; "
                    "set it higher"
                )
            pool.add(image, means)
            log.progress(seen, len(records), "images", f"chunk {chunk + 1}")
        assert pool is not None  # there are training images, or the manifest would not have been made
        weights, more = _fit_chunk(pool, weights, classes, scale, problem, settings, seed, chunk, len(records), threads)
    return weights.astype(np.float32), fits + more


def _capacity(image: TrainingImage, memory_limit_mb: int) -> int:
    """How many rows the memory holds: features, and a target and a multiplier of each class."""
    d, n_classes = image.values.shape[1], image.targets.shape[1]
    return int(max(1, memory_limit_mb * 2**20 // (d * image.values.itemsize + 16 * n_classes)))


def _new_scores(pool: _Pool, used: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score the new rows of those in use, [len(used), N]; 0 of the others. A few rows at a time are copied."""
    scores = np.zeros((len(used), len(weights)), np.float32)
    new = np.flatnonzero(pool.is_new[used])
    for start in range(0, len(new), _SCORED_ROWS):
        some = new[start : start + _SCORED_ROWS]
        scores[some] = linear(pool.values[used[some]], weights)
    return scores


def _fit_chunk(
    pool: _Pool,
    weights: NDArray[np.float64],
    classes: Sequence[str],
    scale: float,
    problem: TubeProblem,
    settings: SvrSettings,
    seed: int,
    chunk: int,
    images_seen: int,
    threads: Threads,
) -> tuple[NDArray[np.float64], list[Fit]]:
    """Fit every class on what it sees of the pool, and keep its multipliers there."""
    used = np.flatnonzero(pool.used)
    scores = _new_scores(pool, used, (weights * scale).astype(np.float32)) if chunk else None

    def fit(label: int) -> tuple[NDArray[np.int64], TubeSolution, float]:
        slots = used
        if scores is not None:
            outside = np.abs(scores[:, label] - pool.targets[used, label]) > problem.epsilon
            seen = pool.is_object[used] | (pool.multipliers[used, label] != 0) | (pool.is_new[used] & outside)
            slots = used[seen]
        if not len(slots):  # nothing lies outside the tube, and there is no object
            return slots, TubeSolution(weights[label], np.zeros(0), np.zeros(0), 0, 0.0, True), 0.0
        rows = TubeRows(
            pool.values, slots, pool.norms[slots], scale, pool.targets[slots, label].copy(), pool.counts[slots]
        )
        own = int(np.random.SeedSequence([seed, label, chunk]).generate_state(1)[0])
        if settings.solver == "liblinear":
            found = fit_liblinear_tube(rows, problem, settings.tolerance, own)
        else:
            found = fit_tube(rows, problem, settings.gap, own, pool.multipliers[slots, label])
        return slots, found, problem.objective(found.w, found.scores, rows.targets, rows.counts)

    done, solutions = [], threads.map(fit, range(len(classes)))
    for label, (slots, found, objective) in enumerate(solutions):
        supports = found.multipliers
        if supports is None:  # liblinear: a row's multiplier is not 0 where it lies outside the tube
            supports = np.abs(found.scores - pool.targets[slots, label]) >= problem.epsilon
        pool.multipliers[:, label] = 0
        pool.multipliers[slots, label] = supports
        done.append(
            Fit(
                classes[label], chunk, images_seen, len(slots), int((supports != 0).sum()), objective,
                found.iterations, found.converged, found.gap,
            )
        )  # fmt: skip
    return np.array([found.w for _, found, _ in solutions]), done
