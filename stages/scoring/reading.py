"""Reading of detections and proposals from the store, as scoring takes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Store
from cache.errors import StageError
from manifests import Dataset, ImageRecord
from manifests.select import without_duplicates
from stages.contract import Log

from .objects import FlatDetections, Floats


def evaluated_images(dataset: Dataset, detect: Artifact, *, with_duplicates: bool = False) -> list[ImageRecord]:
    """Return the images that were searched, in the manifest's order; StageError if the dataset lacks one.

    Those that ``manifest.drop_duplicates`` lists are among them only ``with_duplicates``.
    """
    records = [record for record in dataset.images if record.id in detect.keys]
    if len(records) != len(detect.keys):
        unknown = sorted(detect.keys.keys() - {record.id for record in records})
        raise StageError(
            f"dataset {dataset.name}: there are detections of image {unknown[0]}, which it does not have "
            "(the detections are of an older manifest); run `dvc repro detect`"
        )
    if not records:
        raise StageError(f"dataset {dataset.name}: no image was searched for objects; is the test split empty?")
    return records if with_duplicates else without_duplicates(records)


def thresholds(summary: Mapping[str, Any], classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the least score of each class by the detect stage's dataset-wide rule: float64 [N]; null is no limit."""
    values = summary.get("thresholds")
    if not isinstance(values, dict) or set(values) != set(classes):
        raise StageError(
            "artifacts/combine/manifest.json: summary.thresholds does not name the dataset's classes; "
            "the detections are of another dataset: run `dvc repro -f combine`"
        )
    limits = [values[name] for name in classes]
    return np.array([-np.inf if limit is None else limit for limit in limits], np.float64)


def read_detections(
    store: Store,
    detect: Artifact,
    records: Sequence[ImageRecord],
    prefixes: Iterable[str],
    limits: NDArray[np.float64],
    log: Log,
) -> dict[str, FlatDetections]:
    """Read the detections of all images for each array prefix (``bbox``, ``no_bbox``), those below their limit dropped.

    ``detect`` lists objects of stage ``detect``, or of ``combine``, which have the same arrays.
    """
    prefixes = tuple(prefixes)
    names = [f"{prefix}.{part}" for prefix in prefixes for part in ("boxes", "scores", "labels")]
    found: dict[str, list[tuple[Floats, Floats, NDArray[np.int64]]]] = {prefix: [] for prefix in prefixes}
    for done, record in enumerate(records, 1):
        arrays = store.get(detect.stage, detect.keys[record.id], names).arrays
        for prefix in prefixes:
            boxes, scores, labels = (arrays[f"{prefix}.{part}"] for part in ("boxes", "scores", "labels"))
            found[prefix].append((boxes, scores, labels))
        log.progress(done, len(records), "images")
    return {prefix: FlatDetections.of(per_image).above(limits) for prefix, per_image in found.items()}


def read_proposals(store: Store, proposals: Artifact, records: Sequence[ImageRecord]) -> list[Floats]:
    """Read the proposed boxes [n, 4] of each image, best first; none for one that the stage which proposed left out.

    Of a list of OverFeat's windows (stage ``slide``) these are the windows, by their largest probability of any class.
    """
    empty, keys = np.zeros((0, 4), np.float32), proposals.keys
    read = _windows if proposals.stage == "slide" else _boxes
    return [read(store, proposals.stage, keys[record.id]) if record.id in keys else empty for record in records]


def _boxes(store: Store, stage: str, key: str) -> Floats:
    found: Floats = store.get(stage, key, ["boxes"]).arrays["boxes"]
    return found


def _windows(store: Store, stage: str, key: str) -> Floats:
    arrays = store.get(stage, key, ["windows", "scores"]).arrays
    found: Floats = arrays["windows"][np.argsort(-arrays["scores"].max(axis=1, initial=0), kind="stable")]
    return found
