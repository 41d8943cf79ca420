"""A detector's results out of the store, whatever ids its images had."""

from pathlib import Path

import numpy as np
import pytest
from comparison_data import CLASSES, data
from stage_context import Messages

from cache import Artifact, Payload, Recipe, Store
from manifests import ImageRecord
from stages.comparison.inputs import check_comparable
from stages.comparison.reading import read_found, read_regions
from stages.contract import DetectorRun
from stages.scoring.objects import FlatDetections


def stored(store: Store, found: FlatDetections, records: list[ImageRecord], shift: int) -> Artifact:
    """An artifact of ``detect`` whose images have other ids and another order."""
    entries = []
    for i in reversed(range(len(records))):
        at = found.image == i
        arrays = {
            f"{prefix}.{name}": values[at]
            for prefix in ("bbox", "no_bbox")
            for name, values in (("boxes", found.boxes), ("scores", found.scores), ("labels", found.labels))
        }
        key = store.put(Recipe("detect", 1, {}, {"image": i}), Payload(arrays, {"count": 1}, "hdf5"))
        entries.append((records[i].id + shift, key))
    summary = {
        "classes": list(CLASSES),
        "images": [record.sha256 for record in reversed(records)],
        "thresholds": dict.fromkeys(CLASSES),
    }
    return Artifact("detect", 1, {}, {}, tuple(entries), summary)


@pytest.mark.parametrize("shift", [0, 1000])
def test_detections_are_those_of_the_images_bytes(tmp_path: Path, shift: int) -> None:
    given = data(1)
    found = given.detectors[0].found["bbox"]
    run = DetectorRun("d0", stored(Store(tmp_path), found, list(given.tested), shift))
    got = read_found(Store(tmp_path), run, given.tested, Messages())
    for prefix in ("bbox", "no_bbox"):
        for name in ("image", "labels", "boxes", "scores"):
            np.testing.assert_array_equal(getattr(got[prefix], name), getattr(found, name))
    check_comparable([given.detectors[0], run])


def test_a_detector_without_regions_has_none(tmp_path: Path) -> None:
    given, store = data(1), Store(tmp_path)
    assert read_regions(store, None, given.tested) is None
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    key = store.put(Recipe("proposals", 1, {}, {"image": 0}), Payload({"boxes": boxes}, {"count": 1}, "hdf5"))
    proposals = Artifact("proposals", 1, {}, {}, ((given.tested[0].id, key),), {})
    regions = read_regions(store, proposals, given.tested)
    assert regions is not None
    np.testing.assert_array_equal(regions[0], boxes)
    assert [len(one) for one in regions[1:]] == [0] * 11
