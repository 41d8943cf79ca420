"""The mining log: one record per fit of a class, and what is said of it on the way."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.contract import Log

from .fitting import ClassFit
from .settings import SvmSettings


class ConvergenceWarning(UserWarning):
    """The solver ran out of iterations; the model is usable, but not at the tolerance asked for."""


class MemoryLimitWarning(UserWarning):
    """The cached negatives met ``svm.memory_limit_mb`` and the easiest were forgotten."""


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


def fit_record(
    fitted: ClassFit, settings: SvmSettings, *, class_name: str, fit: int, image_id: int, images_seen: int,
    new_negatives: int, evicted: int, evicted_for_memory: int,
) -> FitRecord:  # fmt: skip
    """The record of one fit, its objective computed from the scores."""
    parts = objective(fitted.w, float(fitted.b), fitted.positive_scores, fitted.negative_scores, settings)
    return FitRecord(
        class_name=class_name,
        fit=fit,
        image_id=image_id,
        images_seen=images_seen,
        positives=len(fitted.positive_scores),
        negatives=len(fitted.negative_scores),
        new_negatives=new_negatives,
        evicted=evicted,
        evicted_for_memory=evicted_for_memory,
        objective=parts.total,
        regulariser=parts.regulariser,
        positive_loss=parts.positive_loss,
        negative_loss=parts.negative_loss,
        iterations=fitted.iterations,
        converged=fitted.converged,
        gap=fitted.gap,
    )


def tell(record: FitRecord, solver: str, stop: tuple[str, float], log: Log) -> None:
    """One line about a fit, and a warning where the solver gave up before ``stop`` (``SvmSettings.stop``)."""
    log.info(
        f"{record.class_name}: fit {record.fit} on {record.positives} positives, {record.negatives} negatives "
        f"({record.new_negatives} new): objective {record.objective:.4f} = {record.regulariser:.4f} (regulariser) "
        f"+ {record.positive_loss:.4f} (positives) + {record.negative_loss:.4f} (negatives); evicted {record.evicted}"
    )
    if not record.converged:
        message = (
            f"{record.class_name}, fit {record.fit}: {solver} stopped after {record.iterations} iterations "
            f"without reaching {stop[0]} = {stop[1]}; raise {stop[0]} or lower svm.C"
        )
        log.warning(f"{ConvergenceWarning.__name__}: {message}")


def tell_forgotten(lost: int, image_id: int, settings: SvmSettings, log: Log) -> None:
    """A warning that negatives were forgotten for want of memory."""
    message = (
        f"image {image_id}: the cached negatives met svm.memory_limit_mb = {settings.memory_limit_mb}; "
        f"the {lost} easiest were forgotten; raise it to keep them"
    )
    log.warning(f"{MemoryLimitWarning.__name__}: {message}")


@dataclass(frozen=True)
class Objective:
    """What either solver minimises: ``regulariser + positive_loss + negative_loss``, losses already weighted by C."""

    regulariser: float
    positive_loss: float
    negative_loss: float

    @property
    def total(self) -> float:
        """The objective itself."""
        return self.regulariser + self.positive_loss + self.negative_loss


def objective(
    w: NDArray[Any], b: float, positive_scores: NDArray[Any], negative_scores: NDArray[Any], settings: SvmSettings
) -> Objective:
    """1/2 |w|^2 + 1/2 (b/bias)^2 + C (positive_weight * sum max(0, 1 - z+) + sum max(0, 1 + z-)), in float64."""
    w64 = np.asarray(w, np.float64)
    zp, zn = np.asarray(positive_scores, np.float64), np.asarray(negative_scores, np.float64)
    return Objective(
        regulariser=0.5 * float(w64 @ w64) + 0.5 * (float(b) / settings.bias) ** 2,
        positive_loss=settings.C * settings.positive_weight * float(np.maximum(0, 1 - zp).sum()),
        negative_loss=settings.C * float(np.maximum(0, 1 + zn).sum()),
    )
