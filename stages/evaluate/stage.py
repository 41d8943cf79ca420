"""evaluate: detections and the manifest -> metrics, curves, examples, and results in COCO's and VOC's form.

``dvc repro evaluate`` or ``rcnn run evaluate``; seconds for thousands of images. Scores are in [0, 1]; keys without
regression stand under ``no_bbox``. The protocol is in ``matching.py``, ``voc.py`` and ``coco.py``. Where no test image
is annotated the results are written all the same, for whoever has the annotations, and every score is null.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.documents import json_text
from manifests import Dataset, ImageRecord
from stages.contract import Context
from stages.scoring.bootstrap import resampling
from stages.scoring.evaluation import evaluate
from stages.scoring.files import (
    WITH_BBOX,
    WITHOUT_BBOX,
    coco_results,
    comp4_lines,
    comp4_names,
    comp4_table,
    voc_image_ids,
)
from stages.scoring.ilsvrc import unscored_pairs
from stages.scoring.metrics import has_ground_truth, scores_table
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.reading import evaluated_images, read_detections, read_proposals, thresholds
from stages.scoring.settings import EvaluateSettings


def run(ctx: Context) -> None:
    """Score the detections of the test split and write every output."""
    dataset, detect = ctx.dataset(), ctx.artifact("detections")
    searched = evaluated_images(dataset, detect, with_duplicates=True)
    records = evaluated_images(dataset, detect)
    limits = thresholds(detect.summary, dataset.classes)
    found = read_detections(ctx.store, detect, searched, (WITH_BBOX, WITHOUT_BBOX), limits, ctx.log)
    scored, everything = _scored(found, searched, records, len(dataset.classes))
    result = evaluate(
        scored,
        GroundTruth.of(records, len(dataset.classes)),
        read_proposals(ctx.store, ctx.artifact("proposals"), records),
        image_ids=[record.id for record in records],
        classes=dataset.classes,
        settings=ctx.settings(EvaluateSettings),
        rng=resampling(ctx.seed),
        everything=everything,
        unscored=unscored_pairs(records),
    )
    for name, text in result.files.items():
        _write(ctx.output(name), text)
    _write(ctx.output("metrics"), json_text(headline(result.metrics)))
    _write(ctx.output("operating_points"), json_text({"detect": detect.digest, **result.best_f1}))
    _write_results(ctx.output("results"), found, dataset, searched)
    if not has_ground_truth(result.metrics["protocol"]):
        ctx.log.warning(
            f"no object of the {len(records)} test images is annotated, so nothing is scored; their detections are in "
            f"{ctx.shown('results')}: comp4_det_test_CLASS.txt as VOC's server takes them, coco_bbox.json as COCO's"
        )
        return
    for line in scores_table(result.metrics).splitlines():
        ctx.log.info(line)


def _scored(
    found: Mapping[str, FlatDetections], searched: Sequence[ImageRecord], records: Sequence[ImageRecord], n_classes: int
) -> tuple[Mapping[str, FlatDetections], tuple[FlatDetections, GroundTruth] | None]:
    """Part the detections that are scored, those in ``records``, from all that were found; None: they are the same."""
    if len(records) == len(searched):
        return found, None
    wanted = {record.id for record in records}
    places = np.array([place for place, record in enumerate(searched) if record.id in wanted])
    everything = found[WITH_BBOX], GroundTruth.of(searched, n_classes)
    return {name: one.of_images(places) for name, one in found.items()}, everything


def headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the few scores that `dvc metrics show` prints in one row of a terminal; all stand in scores.json.

    The scores are of the test images without those that ``manifest.drop_duplicates`` lists. Where it lists some,
    ``with_duplicates`` has the same scores of all test images. ``ground_truth`` is there only to say that there is
    none, and that the scores are null for that.
    """
    ilsvrc = {"ilsvrc": {key: scores["ilsvrc"][key] for key in ("mAP", "median")}} if "ilsvrc" in scores else {}
    both = {name: scores[name] for name in ("with_duplicates",) if name in scores}
    none = {} if has_ground_truth(scores["protocol"]) else {"ground_truth": "none: no test image is annotated"}
    return {
        **none,
        "voc2007": {"mAP": scores["voc2007"]["mAP"]},
        "voc2010": {"mAP": scores["voc2010"]["mAP"]},
        "coco": {"AP": scores["coco"]["AP"], "AP50": scores["coco"]["AP50"]},
        **both,
        **ilsvrc,
    }


def _write_results(
    folder: Path, found: Mapping[str, FlatDetections], dataset: Dataset, records: Sequence[ImageRecord]
) -> None:
    """Write COCO results JSON of both sets; VOC text files with regression, and in ``no_bbox/`` without."""
    image_ids, names = [r.id for r in records], voc_image_ids([r.file_name for r in records])
    files, table = comp4_names(dataset.classes), comp4_table(dataset.classes)
    for prefix, text_folder in (("bbox", folder), ("no_bbox", folder / "no_bbox")):
        text_folder.mkdir(parents=True, exist_ok=True)
        _write(
            folder / f"coco_{prefix}.json",
            json.dumps(coco_results(found[prefix], image_ids, dataset.category_ids), allow_nan=False) + "\n",
        )
        for label, name in enumerate(files):
            _write(text_folder / name, comp4_lines(found[prefix], label, names))
        if table is not None:
            _write(text_folder / "comp4_classes.json", table)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
