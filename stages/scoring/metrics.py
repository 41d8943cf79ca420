"""All scores of a detector, as the nested mapping that ``metrics.json`` holds and as a table of text.

:func:`score` scores one set of detections, :func:`proposal_metrics` the proposals, :func:`assemble` puts both sets
(with and without box regression) and the proposals together, :func:`scores_table` prints that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.text import counted

from .bootstrap import Weights, interval, resampled_map
from .coco import coco_scores
from .matching import Matches, match
from .objects import FlatDetections, GroundTruth
from .proposals import IOU_STEPS, Coverage
from .voc import Curve, area_ap, curve, eleven_point_ap, mean_ap


@dataclass(frozen=True)
class Scores:
    """Scores of one set of detections: what goes to the metrics file, and what the other outputs are made of."""

    metrics: dict[str, Any]
    matches: Matches
    curves: list[Curve | None]
    resampled: NDArray[np.float64]


def score(
    detections: FlatDetections,
    truth: GroundTruth,
    classes: Sequence[str],
    voc_iou: float,
    weights: Weights,
) -> Scores:
    """Score ``detections`` by VOC 2007, VOC 2010 and COCO.

    ``weights`` [n_resamples, n_images] are the bootstrap's image weights (no rows: no interval). A class with
    no object that counts scores None and is left out of the means.
    """
    matches = match(detections, truth, voc_iou)
    curves = [curve(detections, matches, truth, j) for j in range(truth.n_classes)]
    voc2007 = [None if c is None else eleven_point_ap(c.recall, c.precision) for c in curves]
    voc2010 = [None if c is None else area_ap(c.recall, c.precision) for c in curves]
    coco = coco_scores(detections, truth, matches.ranking)
    resampled = resampled_map(detections, matches, truth, weights)
    metrics: dict[str, Any] = {
        "voc2007": {"mAP": mean_ap(voc2007), "AP": dict(zip(classes, voc2007, strict=True))},
        "voc2010": {
            "mAP": mean_ap(voc2010),
            **bounds(resampled),
            "AP": dict(zip(classes, voc2010, strict=True)),
        },
        "coco": {
            "AP": coco.ap,
            "AP50": coco.ap50,
            "AP75": coco.ap75,
            "AP_class": dict(zip(classes, coco.per_class, strict=True)),
        },
    }
    return Scores(metrics, matches, curves, resampled)


def bounds(resampled: NDArray[np.float64], what: str = "mAP") -> dict[str, float]:
    """Return the 95% interval of a score ``what``, as ``{"mAP_low": ..., "mAP_high": ...}``; empty without samples."""
    found = interval(resampled)
    return {} if found is None else {f"{what}_low": found[0], f"{what}_high": found[1]}


def proposal_metrics(
    overall: Coverage | None, each: Sequence[Coverage | None], classes: Sequence[str], n_boxes: int, n_images: int
) -> dict[str, Any]:
    """Summarise proposals: recall at IoU 0.5 and 0.7 and mean best overlap of proposals, overall and per class."""
    at50, at70 = IOU_STEPS.index(0.5), IOU_STEPS.index(0.7)

    def summary(one: Coverage | None) -> dict[str, float | None]:
        return {
            "recall_50": None if one is None else one.recall[at50],
            "recall_70": None if one is None else one.recall[at70],
            "mean_best_overlap": None if one is None else one.mean_best_overlap,
        }

    return {
        "per_image": n_boxes / n_images if n_images else None,
        **summary(overall),
        "class": {name: summary(one) for name, one in zip(classes, each, strict=True)},
    }


def assemble(
    with_bbox: Scores, without: Scores, proposals: dict[str, Any], truth: GroundTruth, voc_iou: float
) -> dict[str, Any]:
    """Build the metrics document: scores with regression at the top, the same keys without it under ``no_bbox``."""
    gain_map = [s.metrics["voc2010"]["mAP"] for s in (with_bbox, without)]
    gain = {
        "mAP": None if None in gain_map else gain_map[0] - gain_map[1],
        **bounds(with_bbox.resampled - without.resampled),
    }
    return {
        **with_bbox.metrics,
        "no_bbox": without.metrics,
        "bbox_gain": {"voc2010": gain},
        "proposals": proposals,
        "protocol": {
            "voc_iou": voc_iou,
            "n_bootstrap": len(with_bbox.resampled),
            "images": truth.n_images,
            "objects": int(truth.positives.sum()),
            "difficult": int(truth.difficult.sum()),
            "crowd": int(truth.crowd.sum()),
        },
    }


def without_and_with(metrics: Mapping[str, Any], everything: Scores, n_images: int) -> dict[str, Any]:
    """Add to a metrics document of the images that are no duplicates the means of all that were searched.

    Args:
        metrics: of the test images without those that ``manifest.drop_duplicates`` lists: the scores that count.
        everything: with box regression, of the ``n_images`` test images with the listed ones: what the duplicates make
            of them. The detections are the same, and so are the thresholds below which none is kept.
    """
    found = everything.metrics
    return {
        **metrics,
        "with_duplicates": {
            "images": n_images,
            "voc2007": {"mAP": found["voc2007"]["mAP"]},
            "voc2010": {"mAP": found["voc2010"]["mAP"]},
            "coco": {"AP": found["coco"]["AP"], "AP50": found["coco"]["AP50"]},
        },
    }


def duplicates_line(metrics: Mapping[str, Any]) -> str:
    """Say what the scores are with the duplicates that were left out; "" where none were."""
    if (both := metrics.get("with_duplicates")) is None:
        return ""
    left_out = both["images"] - metrics["protocol"]["images"]
    return (
        f"{counted(left_out, 'duplicate')} of training or other test images left out (manifest.drop_duplicates); with "
        f"them, and BB: VOC 2010 mAP {_percent(both['voc2010']['mAP'])}, VOC 2007 mAP "
        f"{_percent(both['voc2007']['mAP'])}, COCO AP {_percent(both['coco']['AP'])}."
    )


def has_ground_truth(protocol: Mapping[str, Any]) -> bool:
    """Tell from a metrics document's ``protocol`` whether any object of the test images is annotated.

    Without one nothing can be scored: a test set whose annotations others keep (VOC 2010 and later), or a folder of
    pictures that nobody has labelled.
    """
    return any(protocol[kind] for kind in ("objects", "difficult", "crowd"))


# A protocol's name, and how its AP of a class and its mean are read from a set's part of the metrics.
_Column = tuple[str, Callable[[Mapping[str, Any], str], float | None], Callable[[Mapping[str, Any]], float | None]]


def scores_table(metrics: Mapping[str, Any]) -> str:
    """Return the scores as a text table with the protocol they were taken by; values in percent."""
    if not has_ground_truth(metrics["protocol"]):
        return f"No object of the {metrics['protocol']['images']} test images is annotated, so nothing is scored."
    classes = list(metrics["voc2010"]["AP"])
    width = max([len("mean of classes"), *map(len, classes)])
    plain = metrics["no_bbox"]
    columns: tuple[_Column, ...] = (
        ("VOC 2010", lambda m, c: m["voc2010"]["AP"][c], lambda m: m["voc2010"]["mAP"]),
        ("VOC 2007", lambda m, c: m["voc2007"]["AP"][c], lambda m: m["voc2007"]["mAP"]),
        ("COCO", lambda m, c: m["coco"]["AP_class"][c], lambda m: m["coco"]["AP"]),
    )
    title = "AP, %".ljust(width)
    lines = [
        title + "".join(f"{name:>18}" for name, _, _ in columns),
        " " * width + "   with BB  without" * len(columns),
    ]
    for name in classes:
        lines.append(name.ljust(width) + "".join(_pair(get(metrics, name), get(plain, name)) for _, get, _ in columns))
    lines.append("mean of classes".ljust(width) + "".join(_pair(get(metrics), get(plain)) for _, _, get in columns))
    return "\n".join([*lines, *protocol_lines(metrics)])


def _pair(with_bbox: float | None, without: float | None) -> str:
    return "".join(f"{_percent(value):>9}" for value in (with_bbox, without))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def protocol_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Say how the scores were taken, in sentences for a reader who compares them with another tool's."""
    protocol = metrics["protocol"]
    lines = [
        f"Test split: {protocol['images']} images, {protocol['objects']} objects that count; "
        f"{protocol['difficult']} difficult and {protocol['crowd']} crowd ones are ignored.",
        f"VOC 2010: area under the curve; VOC 2007: 11 points; both at IoU >= {protocol['voc_iou']:g}. "
        "COCO: mean over IoU 0.5 to 0.95. BB: bounding-box regression.",
    ]
    if both := duplicates_line(metrics):
        lines.append(both)
    for name, part in (("with", metrics), ("without", metrics["no_bbox"])):
        if "mAP_low" in part["voc2010"]:
            low, high = part["voc2010"]["mAP_low"], part["voc2010"]["mAP_high"]
            lines.append(
                f"95% of {protocol['n_bootstrap']} resamples of the images put VOC 2010 mAP {name} BB "
                f"between {100 * low:.1f} and {100 * high:.1f}."
            )
    if "ilsvrc" in metrics:
        with_bbox, plain = metrics["ilsvrc"], metrics["no_bbox"]["ilsvrc"]
        mean, median = (f"{_percent(with_bbox[key])} ({_percent(plain[key])} without BB)" for key in ("mAP", "median"))
        lines.append(f"By ILSVRC's rules: mean AP {mean}, median {median}.")
    absent = [name for name, ap in metrics["voc2010"]["AP"].items() if ap is None]
    if absent:
        lines.append(f"No object that counts in the test split, so left out of the means: {', '.join(absent)}.")
    return lines
