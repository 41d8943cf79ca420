"""A detector's whole evaluation as pure functions of arrays: from boxes to the text of every file.

:func:`measure` finds out all there is to know of one detector; :func:`evaluate` makes the evaluate stage's files of
it, and ``stages/comparison`` a page of several.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache.documents import json_text

from .bootstrap import Weights, image_weights
from .examples import examples
from .files import WITH_BBOX, WITHOUT_BBOX, errors_csv, pr_csv, recall_iou_csv
from .ilsvrc import ilsvrc_scores
from .metrics import Scores, assemble, proposal_metrics, score, without_and_with
from .mistakes import Diagnosis, ErrorCounts, count_errors, diagnose, similarity
from .objects import FlatDetections, Floats, GroundTruth, Ints
from .proposals import class_coverage, proposal_overlaps
from .settings import EvaluateSettings
from .voc import Curve, best_f1_score


@dataclass(frozen=True)
class Measured:
    """What scoring finds out about a detector; every field by ``bbox`` (with box regression) and ``no_bbox``.

    ``best_f1``: the score of each class that balances precision and recall best; a class of which nothing was found
    has none.
    """

    scores: dict[str, Scores]
    diagnoses: dict[str, Diagnosis]
    counts: dict[str, list[ErrorCounts]]
    best_f1: dict[str, dict[str, float]]


def measure(
    found: Mapping[str, FlatDetections],
    truth: GroundTruth,
    classes: Sequence[str],
    settings: EvaluateSettings,
    weights: Weights,
) -> Measured:
    """Score ``found["bbox"]`` and ``found["no_bbox"]`` against the ground truth, and sort their mistakes.

    Args:
        weights: [n_resamples, n_images], the bootstrap's; the same for both sets (and for every detector that is
            compared), so that differences have an interval too.
    """
    scores = {name: score(found[name], truth, classes, settings.voc_iou, weights) for name in (WITH_BBOX, WITHOUT_BBOX)}
    similar = similarity(classes, settings.similar_classes)
    diagnoses = {name: diagnose(found[name], one.matches, truth, similar) for name, one in scores.items()}
    counts = {name: list(count_errors(one.matches, truth, diagnoses[name])) for name, one in scores.items()}
    points = {name: _best_f1(one.curves, classes) for name, one in scores.items()}
    return Measured(scores, diagnoses, counts, points)


def _best_f1(curves: Sequence[Curve | None], classes: Sequence[str]) -> dict[str, float]:
    found = [None if one is None else best_f1_score(one) for one in curves]
    return {name: score for name, score in zip(classes, found, strict=True) if score is not None}


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` as nested mapping, the text of the files by the stage's output, and :class:`Measured`'s best_f1."""

    metrics: dict[str, Any]
    files: dict[str, str]
    best_f1: dict[str, dict[str, float]]


def evaluate(
    found: Mapping[str, FlatDetections],
    truth: GroundTruth,
    proposed: Sequence[Floats],
    *,
    image_ids: Sequence[int],
    classes: Sequence[str],
    settings: EvaluateSettings,
    rng: np.random.Generator,
    everything: tuple[FlatDetections, GroundTruth] | None = None,
    unscored: Ints | None = None,
) -> Evaluation:
    """Write every file of the evaluation; a function of its arguments alone.

    Args:
        found: detections by ``bbox`` and ``no_bbox``.
        proposed: boxes [n, 4] of each image.
        image_ids: the images' ids, in the order that ``truth`` and the detections index.
        rng: draws the bootstrap's resamples (:func:`.bootstrap.resampling`).
        everything: detections with box regression and objects of these images and of the duplicates that were left out
            of all else here; None: none were. Their means stand in ``metrics["with_duplicates"]``.
        unscored: int64 [k, 2], images and labels that ILSVRC's rules leave out (:func:`.ilsvrc.unscored_pairs`).
    """
    weights = image_weights(truth.n_images, settings.n_bootstrap, rng)
    measured = measure(found, truth, classes, settings, weights)
    scores = measured.scores
    covered = proposal_overlaps(truth, proposed)
    overall, each = class_coverage(truth, covered)
    proposals = proposal_metrics(overall, each, classes, sum(map(len, proposed)), truth.n_images)
    metrics = assemble(scores[WITH_BBOX], scores[WITHOUT_BBOX], proposals, truth, settings.voc_iou)
    if settings.ilsvrc:
        pairs = np.zeros((0, 2), np.int64) if unscored is None else unscored
        sets = {name: ilsvrc_scores(found[name], truth, classes, pairs) for name in (WITH_BBOX, WITHOUT_BBOX)}
        metrics |= {"ilsvrc": sets[WITH_BBOX], "no_bbox": metrics["no_bbox"] | {"ilsvrc": sets[WITHOUT_BBOX]}}
    if everything is not None:
        unweighted = image_weights(everything[1].n_images, 0, rng)
        both = score(*everything, classes, settings.voc_iou, unweighted)
        metrics = without_and_with(metrics, both, everything[1].n_images)
    shown = examples(
        found[WITH_BBOX],
        scores[WITH_BBOX].matches,
        truth,
        measured.diagnoses[WITH_BBOX],
        covered,
        image_ids,
        classes,
        settings.examples_per_class,
    )
    files = {
        "scores": json_text(metrics),
        "pr": pr_csv({name: one.curves for name, one in scores.items()}, classes),
        "recall_iou": recall_iou_csv(overall, each, classes),
        "errors": errors_csv(measured.counts, classes),
        "examples": json_text(shown),
    }
    return Evaluation(metrics, files, measured.best_f1)
