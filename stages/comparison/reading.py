"""Reading of a detector's results from the store, as its own evaluation reads them."""

from collections.abc import Sequence
from dataclasses import replace

from cache import Artifact, Store
from manifests import ImageRecord
from stages.contract import DetectorRun, Log
from stages.scoring.files import WITH_BBOX, WITHOUT_BBOX
from stages.scoring.objects import FlatDetections, Floats
from stages.scoring.reading import read_detections, read_proposals, thresholds


def read_found(store: Store, run: DetectorRun, records: Sequence[ImageRecord], log: Log) -> dict[str, FlatDetections]:
    """Read the detections of ``records`` with and without box regression, above the run's own thresholds.

    Images are told by their bytes, whatever ids they had when they were searched.
    """
    keys = dict(zip(run.images, run.detections.keys.values(), strict=True))
    detections = replace(run.detections, entries=tuple((record.id, keys[record.sha256]) for record in records))
    limits = thresholds(run.detections.summary, run.classes)
    return read_detections(store, detections, records, (WITH_BBOX, WITHOUT_BBOX), limits, log)


def read_regions(store: Store, proposals: Artifact | None, records: Sequence[ImageRecord]) -> list[Floats] | None:
    """Read the regions of each of ``records``, best first; None for a detector without an artifact of its regions."""
    return None if proposals is None else read_proposals(store, proposals, records)
