"""Every number of a comparison, as pure functions of :class:`ComparisonData`.

All scores come from ``stages.scoring`` as each detector's own evaluation computes them, so that a figure here is the
figure there. What is added: intervals of all the means by the *same* resamples of the test images for all detectors,
hence intervals of their differences; recall by the number of regions; and on which images the detectors disagree.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.scoring.bootstrap import (
    Weights,
    image_weights,
    resampled_coco,
    resampled_eleven_point_map,
    resampling,
)
from stages.scoring.coco import RECALLS, coco_matches
from stages.scoring.evaluation import Measured, measure
from stages.scoring.files import WITH_BBOX, WITHOUT_BBOX
from stages.scoring.metrics import bounds, has_ground_truth
from stages.scoring.mistakes import ErrorCounts
from stages.scoring.objects import Bools, GroundTruth
from stages.scoring.proposals import IOU_STEPS, Coverage, class_coverage, proposal_overlaps
from stages.scoring.voc import Curve, envelope

from .disagreement import disagreement, image_f1, most_disputed, worth_keeping
from .inputs import Compared, ComparisonData

# The means that are compared: where they stand in the metrics, and what people call them.
HEADLINES = (
    ("voc2010", "mAP", "VOC 2010 mAP"),
    ("voc2007", "mAP", "VOC 2007 mAP"),
    ("coco", "AP", "COCO AP"),
    ("coco", "AP50", "COCO AP50"),
)
# Numbers of best regions at which recall is asked; None: all.
REGION_NUMBERS = (10, 30, 100, 300, 1000, None)
_KINDS = ("right", "localisation", "similar", "other", "background")

_Samples = Mapping[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class Figures:
    """One detector's numbers, as JSON values; see :func:`document`.

    Args:
        scores: VOC 2007, VOC 2010 and COCO, as in ``metrics.json``, each mean with its interval; and ``no_bbox``.
        difference: of each mean to the first detector's, with its paired interval; empty for the first.
        precision: best precision at recall 0, 0.01, ... as far as the curve goes; of each class that has objects, and
            under "" the mean over these classes.
        mistakes: number of each kind among as many best detections as there are objects; of each class with objects.
        regions: recall of its regions; None: it has none.
        same_regions: the first detector that has the same regions; its own name if none before has.
    """

    name: str
    kind: str
    title: str
    scores: dict[str, Any]
    difference: dict[str, Any]
    best_f1: dict[str, float]
    precision: dict[str, list[float]]
    mistakes: dict[str, dict[str, int]]
    regions: dict[str, Any] | None
    same_regions: str
    cost: dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """One detector's verdicts for the pictures.

    Args:
        kept, right, ignored: bool [m], of its detections with regression.
        missed: of each image, bool [n]: the objects that count and that no kept detection finds.
    """

    kept: Bools
    right: Bools
    ignored: Bools
    missed: Sequence[Bools]


@dataclass(frozen=True)
class Comparison:
    """The numbers of all detectors, in their order.

    Args:
        f1: float64 [detectors, n_images], of the detections worth keeping.
        disputed: indices of the images shown, the most disputed first.
    """

    protocol: dict[str, Any]
    figures: Sequence[Figures]
    drawn: Sequence[Drawn]
    f1: NDArray[np.float64]
    disputed: Sequence[int]

    @property
    def scored(self) -> bool:
        """Whether any test object is annotated; else there are detections to look at and no score."""
        return has_ground_truth(self.protocol)


def compare(data: ComparisonData) -> Comparison:
    """Compute every number; a function of ``data`` alone."""
    truth = GroundTruth.of(data.tested, len(data.classes))
    weights = image_weights(truth.n_images, data.settings.n_bootstrap, resampling(data.seed))
    measured = [measure(one.found, truth, data.classes, data.scoring, weights) for one in data.detectors]
    samples = [_samples(one, own, truth, weights) for one, own in zip(data.detectors, measured, strict=True)]
    regions = _all_regions(data.detectors, truth)
    figures = [
        _figures(one, own, samples[i], measured[0], samples[0], regions[i], data.classes, is_first=i == 0)
        for i, (one, own) in enumerate(zip(data.detectors, measured, strict=True))
    ]
    drawn = [_drawn(one, own, truth, data.classes) for one, own in zip(data.detectors, measured, strict=True)]
    f1 = np.array(
        [
            image_f1(one.found[WITH_BBOX], own.scores[WITH_BBOX].matches, truth, marks.kept)
            for one, own, marks in zip(data.detectors, measured, drawn, strict=True)
        ]
    )
    disputed = most_disputed(f1, [record.id for record in data.tested], data.settings.max_images)
    protocol = {
        "voc_iou": data.scoring.voc_iou,
        "n_bootstrap": len(weights),
        "images": truth.n_images,
        "objects": int(truth.positives.sum()),
        "difficult": int(truth.difficult.sum()),
        "crowd": int(truth.crowd.sum()),
    }
    return Comparison(protocol, figures, drawn, f1, disputed)


def document(data: ComparisonData, comparison: Comparison) -> dict[str, Any]:
    """Return ``comparison.json``: all that the page shows in figures, and what the detectors were made from."""
    first = data.detectors[0].name
    apart = disagreement(comparison.f1)
    return {
        "dataset": data.dataset.name,
        "classes": list(data.classes),
        "protocol": comparison.protocol,
        "first": first,
        "detectors": {
            one.name: {
                "kind": one.kind,
                "title": one.title,
                **one.scores,
                **({"difference": one.difference} if one.name != first else {}),
                "best_f1": one.best_f1,
                "precision_at_recall": {"mean": one.precision[""], "class": _named(one.precision)},
                "mistakes": one.mistakes,
                "regions": None if one.regions is None else {"same_as": one.same_regions, **one.regions},
                "cost": one.cost,
                "parameters": dict(source.parameters),
                "digests": dict(source.digests),
            }
            for one, source in zip(comparison.figures, data.detectors, strict=True)
        },
        "disputed_images": [
            {
                "id": data.tested[i].id,
                "name": data.tested[i].name,
                "disagreement": float(apart[i]) if comparison.scored else None,
                "f1": {
                    one.name: float(f1[i]) if comparison.scored else None
                    for one, f1 in zip(data.detectors, comparison.f1, strict=True)
                },
            }
            for i in comparison.disputed
        ],
    }


def _named(precision: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: points for name, points in precision.items() if name}


def _samples(one: Compared, own: Measured, truth: GroundTruth, weights: Weights) -> _Samples:
    """Return each headline's mean in each resample: float64 [n_resamples]."""
    found, scores = one.found[WITH_BBOX], own.scores[WITH_BBOX]
    ap, ap50 = resampled_coco(found, coco_matches(found, truth, scores.matches.ranking), truth, weights)
    return {
        ("voc2007", "mAP"): resampled_eleven_point_map(found, scores.matches, truth, weights),
        ("voc2010", "mAP"): scores.resampled,
        ("coco", "AP"): ap,
        ("coco", "AP50"): ap50,
    }


def _figures(
    one: Compared,
    own: Measured,
    samples: _Samples,
    first: Measured,
    first_samples: _Samples,
    regions: tuple[str, dict[str, Any] | None],
    classes: Sequence[str],
    *,
    is_first: bool,
) -> Figures:
    metrics, reference = own.scores[WITH_BBOX].metrics, first.scores[WITH_BBOX].metrics
    scores = {part: dict(metrics[part]) for part in ("voc2007", "voc2010", "coco")}
    difference: dict[str, Any] = {part: {} for part in scores}
    for part, what, _ in HEADLINES:
        scores[part] |= bounds(samples[part, what], what)
        pair = metrics[part][what], reference[part][what]
        difference[part] |= {
            what: None if None in pair else pair[0] - pair[1],
            **bounds(samples[part, what] - first_samples[part, what], what),
        }
    return Figures(
        one.name,
        one.kind,
        one.title,
        {**scores, "no_bbox": own.scores[WITHOUT_BBOX].metrics},
        {} if is_first else difference,
        own.best_f1[WITH_BBOX],
        _precision(own.scores[WITH_BBOX].curves, classes),
        {classes[counts.label]: _kinds(counts) for counts in own.counts[WITH_BBOX] if counts.multiple == 1.0},
        regions[1],
        regions[0],
        _cost(one),
    )


def _kinds(counts: ErrorCounts) -> dict[str, int]:
    return {kind: getattr(counts, kind) for kind in _KINDS}


def _precision(curves: Sequence[Curve | None], classes: Sequence[str]) -> dict[str, list[float]]:
    """Return the best precision at recall of at least 0, 0.01, ... 1; in the mean a curve that has ended counts 0."""
    points: dict[str, list[float]] = {"": []}
    full = []
    for name, one in zip(classes, curves, strict=True):
        if one is not None:
            first = np.searchsorted(one.recall, RECALLS, "left")
            points[name] = envelope(one.precision)[first[first < len(one.recall)]].tolist()
            full.append(points[name] + [0.0] * (len(RECALLS) - len(points[name])))
    points[""] = np.mean(full, axis=0).tolist() if full else []
    return points


def _drawn(one: Compared, own: Measured, truth: GroundTruth, classes: Sequence[str]) -> Drawn:
    matches = own.scores[WITH_BBOX].matches
    shown_from = own.best_f1[WITH_BBOX] if len(truth.labels) else dict.fromkeys(classes, one.boundary)
    kept = worth_keeping(one.found[WITH_BBOX], shown_from, classes)
    missed = ~truth.ignored
    missed[matches.nearest[kept & matches.right]] = False
    ends = np.searchsorted(truth.image, np.arange(1, truth.n_images))
    return Drawn(kept, matches.right, matches.ignored, np.split(missed, ends))


def _all_regions(detectors: Sequence[Compared], truth: GroundTruth) -> list[tuple[str, dict[str, Any] | None]]:
    """Return each detector's recall of regions, and the first that has the same ones, which are measured once."""
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    found: list[tuple[str, dict[str, Any] | None]] = []
    for one in detectors:
        if one.proposals is None:
            found.append((one.name, None))
            continue
        digest = _digest(one.proposals)
        if digest not in known:
            known[digest] = one.name, region_recall(truth, one.proposals)
        found.append(known[digest])
    return found


def _digest(proposals: Sequence[Boxes]) -> str:
    digest = hashlib.sha256()
    for boxes in proposals:
        digest.update(len(boxes).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(boxes, np.float32).tobytes())
    return digest.hexdigest()


def region_recall(truth: GroundTruth, proposals: Sequence[Boxes]) -> dict[str, Any]:
    """Measure how many of the objects that count the regions cover.

    Args:
        proposals: [n, 4] of each image, best first.

    Returns:
        ``per_image``: mean number; ``mean_best_overlap``; ``recall_iou``: recall of all regions by the IoU asked for;
        ``recall_number``: by number of best regions per image (``"10"``, ... ``"all"``) recall at IoU 0.5 and 0.7.
        None in place of a recall where there is no object.
    """
    by_number = {
        number: class_coverage(truth, proposal_overlaps(truth, [boxes[:number] for boxes in proposals]))[0]
        for number in REGION_NUMBERS
    }
    every = by_number[None]
    return {
        "per_image": sum(map(len, proposals)) / len(proposals) if proposals else None,
        "mean_best_overlap": None if every is None else every.mean_best_overlap,
        "recall_iou": {f"{step:.2f}": _recall(every, step) for step in IOU_STEPS},
        "recall_number": {
            "all" if number is None else str(number): {"recall_50": _recall(one, 0.5), "recall_70": _recall(one, 0.7)}
            for number, one in by_number.items()
        },
    }


def _recall(coverage: Coverage | None, at: float) -> float | None:
    return None if coverage is None else coverage.recall[IOU_STEPS.index(at)]


def _cost(one: Compared) -> dict[str, Any]:
    parts = seconds_per_image(one)
    known = [seconds for seconds in parts.values() if seconds is not None]
    peaks = [cost.peak_mb for cost in one.costs.values() if cost.peak_mb is not None]
    return {
        "seconds_per_image": parts,
        "total_seconds_per_image": sum(known) if known and len(known) == len(parts) else None,
        "training_seconds": one.training_seconds,
        "disk_bytes": one.disk_bytes,
        "peak_mb": max(peaks, default=None),
    }


def seconds_per_image(one: Compared) -> dict[str, float | None]:
    """Split the time of one new image into the parts of its way through ``test_nodes``; None: not known.

    A node whose parts were measured (conv, fc, rest) gives those; any other the seconds of its run by its images.
    """
    parts: dict[str, float | None] = {}
    for node in one.test_nodes:
        cost = one.costs.get(node)
        if cost is not None and cost.per_image:
            parts |= {f"{node} {part}" if part in parts else part: value for part, value in cost.per_image.items()}
        else:
            parts[node] = cost.seconds / cost.images if cost is not None and cost.images else None
    return parts
