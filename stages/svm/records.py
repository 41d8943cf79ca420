"""What mining tells of its progress: a row of ``mining.csv`` per fit of a class, and lines for the user."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.contract import Log

from .problem import Solution, SvmProblem
from .settings import SvmSettings


class ConvergenceWarning(UserWarning):
    """The solver ran out of iterations; the model is usable, but not at the tolerance asked for."""


class MemoryLimitWarning(UserWarning):
    """The cached negatives met ``svm.memory_limit_mb`` and the easiest were forgotten."""


@dataclass(frozen=True)
class ClassFit:
    """One fit of one class, and the negatives that came and went about it."""

    class_index: int
    number: int  # 1, 2, ... per class
    solution: Solution
    new_negatives: int  # since the class's last fit
    evicted: int  # below svm.evict_below after the fit
    evicted_for_memory: int  # since the class's last fit


@dataclass(frozen=True)
class MinedImage:
    """One step of mining: an image was seen, and the classes fitted that were due."""

    image_id: int
    images_seen: int  # of all passes
    images_total: int
    cached: int  # negatives of all classes, after the fits
    forgotten: int  # for want of memory
    fits: Sequence[ClassFit]


@dataclass(frozen=True)
class FitRecord:
    """One row of the mining log: a class was fitted, on what, and what came out (losses weighted by C)."""

    class_name: str
    fit: int  # 1, 2, ... per class
    image_id: int  # the image that brought it about
    images_seen: int
    positives: int
    negatives: int  # cached at the fit, before eviction
    new_negatives: int  # since the class's last fit
    evicted: int  # below svm.evict_below after the fit
    evicted_for_memory: int  # since the class's last fit
    objective: float
    regulariser: float
    positive_loss: float
    negative_loss: float
    iterations: int
    converged: bool
    gap: float | None  # of the dual solver: at most this share of the objective lies above its minimum


def fit_records(
    mined: MinedImage, classes: Sequence[str], n_positives: Sequence[int], problem: SvmProblem
) -> list[FitRecord]:
    """Return the log's rows of the fits after an image, with each one's objective over the rows it was fitted on."""
    return [
        _fit_record(fit, mined, classes[fit.class_index], n_positives[fit.class_index], problem) for fit in mined.fits
    ]


def _fit_record(fit: ClassFit, mined: MinedImage, class_name: str, p: int, problem: SvmProblem) -> FitRecord:
    found = fit.solution
    objective = problem.objective(found.w, found.b, found.scores[:p], found.scores[p:])
    return FitRecord(
        class_name=class_name,
        fit=fit.number,
        image_id=mined.image_id,
        images_seen=mined.images_seen,
        positives=p,
        negatives=len(found.scores) - p,
        new_negatives=fit.new_negatives,
        evicted=fit.evicted,
        evicted_for_memory=fit.evicted_for_memory,
        objective=objective.total,
        regulariser=objective.regulariser,
        positive_loss=objective.positive_loss,
        negative_loss=objective.negative_loss,
        iterations=found.iterations,
        converged=found.converged,
        gap=found.gap,
    )


def log_image(mined: MinedImage, records: Sequence[FitRecord], settings: SvmSettings, log: Log) -> None:
    """Tell the user of one step: what was forgotten, each fit, each fit that did not converge, the progress."""
    if mined.forgotten:
        log.warning(
            f"{MemoryLimitWarning.__name__}: image {mined.image_id}: the cached negatives met svm.memory_limit_mb = "
            f"{settings.memory_limit_mb}; the {mined.forgotten} easiest were forgotten; raise it to keep them"
        )
    for record, fit in zip(records, mined.fits, strict=True):
        log.info(
            f"{record.class_name}: fit {record.fit} on {record.positives} positives, {record.negatives} negatives "
            f"({record.new_negatives} new): objective {record.objective:.4f} = {record.regulariser:.4f} (regulariser) "
            f"+ {record.positive_loss:.4f} (positives) + {record.negative_loss:.4f} (negatives); "
            f"evicted {record.evicted}"
        )
        if not record.converged:
            stop = _stop_parameter(fit.solution.stop, settings)
            log.warning(
                f"{ConvergenceWarning.__name__}: {record.class_name}, fit {record.fit}: {settings.solver} stopped "
                f"after {record.iterations} iterations without reaching {stop} = {fit.solution.stop}; raise {stop} or "
                "lower svm.C"
            )
    log.progress(mined.images_seen, mined.images_total, "images", f"{mined.cached} negatives cached")


def _stop_parameter(stop: float, settings: SvmSettings) -> str:
    """Name the parameter whose value ``stop`` is."""
    if settings.solver == "liblinear":
        return "svm.tolerance"
    return "svm.gap" if stop == settings.gap else "svm.mining_gap"
