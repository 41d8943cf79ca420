"""The detections worth looking at: per class the best right ones, the worst wrong ones, and missed objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .matching import Matches
from .mistakes import Diagnosis, Verdict
from .objects import Bools, FlatDetections, GroundTruth, Ints


def examples(
    detections: FlatDetections,
    matches: Matches,
    truth: GroundTruth,
    diagnosis: Diagnosis,
    proposal_overlaps: NDArray[np.float64],
    image_ids: Sequence[int],
    classes: Sequence[str],
    limit: int,
) -> dict[str, Any]:
    """Choose up to ``limit`` of each kind per class: ``{class: {"right": [...], "wrong": [...], "missed": [...]}}``.

    Right and wrong detections come highest score first, and no two of a list from one image while others are left;
    missed objects come largest first, with the best overlap of any proposal (so that one sees which part failed).
    Boxes are ``x1, y1, x2, y2`` in px as inside.
    """
    found = np.zeros(len(truth.labels), bool)
    found[matches.nearest[matches.right]] = True
    result = {}
    for label, name in enumerate(classes):
        ranked = matches.ranked(label)
        wrong = ranked[~matches.ignored[ranked] & ~matches.right[ranked]]
        right = ranked[matches.right[ranked]]
        missed = _missed(truth, label, found)
        result[name] = {
            "right": [_detection(i, detections, matches, image_ids) for i in _spread(right, detections.image, limit)],
            "wrong": [
                _detection(i, detections, matches, image_ids) | _mistake(i, diagnosis, classes)
                for i in _spread(wrong, detections.image, limit)
            ],
            "missed": [_object(i, truth, image_ids, proposal_overlaps) for i in _spread(missed, truth.image, limit)],
        }
    return result


def _missed(truth: GroundTruth, label: int, found: Bools) -> Ints:
    missed = np.flatnonzero((truth.labels == label) & ~truth.ignored & ~found)
    sides = (truth.boxes[missed, 2:] - truth.boxes[missed, :2]).astype(np.float64)
    return missed[np.argsort(-sides.prod(axis=1), kind="stable")]


def _spread(ranked: Ints, image: Ints, limit: int) -> list[int]:
    """Return the first ``limit``, passing over further ones of an image until every image has had its turn."""
    _, first = np.unique(image[ranked], return_index=True)
    again = np.ones(len(ranked), bool)
    again[first] = False
    order = np.argsort(again, kind="stable")[:limit]
    kept: list[int] = ranked[np.sort(order)].tolist()
    return kept


def _detection(i: int, detections: FlatDetections, matches: Matches, image_ids: Sequence[int]) -> dict[str, Any]:
    return {
        "image": int(image_ids[detections.image[i]]),
        "box": detections.boxes[i].tolist(),
        "score": float(detections.scores[i]),
        "iou": float(matches.overlap[i]),
    }


def _mistake(i: int, diagnosis: Diagnosis, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": Verdict(diagnosis.verdict[i]).name.lower(),
        "confused": classes[diagnosis.confused[i]] if diagnosis.confused[i] >= 0 else None,
    }


def _object(
    i: int, truth: GroundTruth, image_ids: Sequence[int], proposal_overlaps: NDArray[np.float64]
) -> dict[str, Any]:
    return {
        "image": int(image_ids[truth.image[i]]),
        "box": truth.boxes[i].tolist(),
        "proposal_iou": float(proposal_overlaps[i]),
    }
