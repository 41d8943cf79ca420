"""The whole evaluation as one pure function of arrays: from boxes to the text of every file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache.documents import json_text
from stages.evaluate.settings import EvaluateSettings

from .bootstrap import image_weights
from .examples import examples
from .files import WITH_BBOX, WITHOUT_BBOX, errors_csv, pr_csv, recall_iou_csv
from .metrics import assemble, proposal_metrics, score
from .mistakes import count_errors, diagnose, similarity
from .objects import Detections, Floats, GroundTruth
from .proposals import best_overlaps, class_coverage
from .voc import Curve, best_f1_score


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` as nested mapping, and the text of the files by the name of the stage's output.

    ``best_f1``: for ``bbox`` and ``no_bbox`` the score of each class that balances precision and recall best; a class
    of which nothing was found has none.
    """

    metrics: dict[str, Any]
    files: dict[str, str]
    best_f1: dict[str, dict[str, float]]


def evaluate(
    found: Mapping[str, Detections],
    truth: GroundTruth,
    proposed: Sequence[Floats],
    *,
    image_ids: Sequence[int],
    classes: Sequence[str],
    settings: EvaluateSettings,
    rng: np.random.Generator,
) -> Evaluation:
    """Score ``found["bbox"]`` and ``found["no_bbox"]`` against the ground truth.

    ``proposed``: boxes [n, 4] of each image; ``image_ids``: the images' ids, in the order that ``truth`` and the
    detections index. Everything is a function of the arguments; ``rng`` draws the bootstrap's resamples, the
    same ones for both sets, so that their difference has an interval too.
    """
    weights = image_weights(truth.n_images, settings.n_bootstrap, rng)
    scores = {name: score(found[name], truth, classes, settings.voc_iou, weights) for name in (WITH_BBOX, WITHOUT_BBOX)}
    covered = best_overlaps(truth, proposed)
    overall, each = class_coverage(truth, covered)
    proposals = proposal_metrics(overall, each, classes, sum(map(len, proposed)), truth.n_images)
    metrics = assemble(scores[WITH_BBOX], scores[WITHOUT_BBOX], proposals, truth, settings.voc_iou)

    similar = similarity(classes, settings.similar_classes)
    diagnoses = {name: diagnose(found[name], one.matches, truth, similar) for name, one in scores.items()}
    shown = examples(
        found[WITH_BBOX],
        scores[WITH_BBOX].matches,
        truth,
        diagnoses[WITH_BBOX],
        covered,
        image_ids,
        classes,
        settings.examples_per_class,
    )
    counts = {name: list(count_errors(one.matches, truth, diagnoses[name])) for name, one in scores.items()}
    files = {
        "scores": json_text(metrics),
        "pr": pr_csv({name: one.curves for name, one in scores.items()}, classes),
        "recall_iou": recall_iou_csv(overall, each, classes),
        "errors": errors_csv(counts, classes),
        "examples": json_text(shown),
    }
    points = {name: _best_f1(one.curves, classes) for name, one in scores.items()}
    return Evaluation(metrics, files, points)


def _best_f1(curves: Sequence[Curve | None], classes: Sequence[str]) -> dict[str, float]:
    found = [None if one is None else best_f1_score(one) for one in curves]
    return {name: score for name, score in zip(classes, found, strict=True) if score is not None}
