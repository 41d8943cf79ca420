"""The whole diagnosis of a detector's results beside tidecv, which makes one part of it.

On VOC2007's test set with 24,778 detections (shared/golden/hoiem). Ours: matching, figures 5 and 6 for every class and
characteristic, and TIDE's errors; theirs: TIDE's errors. Its results must be ours. tidecv is no requirement of this
project: without it, or without the data, this says so and measures nothing else.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import harness
from benchmarks.harness import Figure, keep_memory, median_ratio, seconds, take_turns
from stages.diagnosis.document import Diagnosed, diagnosed
from stages.diagnosis.settings import DiagnoseSettings
from stages.scoring.objects import FlatDetections, GroundTruth

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from hoiem import FOLDER, Hoiem, read_hoiem

_WHAT = "diagnosing 24,778 detections of VOC2007's 4,952 test images"


def whole(of: Hoiem) -> Diagnosed:
    """Diagnose all of it."""
    dataset = of.dataset
    return diagnosed("golden", dataset.images, dataset.classes, {"bbox": of.detections}, of.table, DiagnoseSettings())


def for_tide(of: Hoiem) -> tuple[Any, Any]:
    """Put the objects and detections into tidecv's own form; difficult objects are regions to ignore."""
    import tidecv

    truth, found = tidecv.Data("truth"), tidecv.Data("found")
    for label, name in enumerate(of.dataset.classes):
        truth.add_class(label, name)
    flat = GroundTruth.of(of.dataset.images, len(of.dataset.classes))
    for image, record in enumerate(of.dataset.images):
        truth.add_image(image, record.name)
    for image, label, box, ignored in zip(flat.image, flat.labels, _xywh(flat), flat.ignored, strict=True):
        (truth.add_ignore_region if ignored else truth.add_ground_truth)(int(image), int(label), box)
    detections = of.detections
    rows = zip(detections.image, detections.labels, detections.scores, _xywh(detections), strict=True)
    for image, label, score, box in rows:
        found.add_detection(int(image), int(label), float(score), box)
    return truth, found


def _xywh(of: GroundTruth | FlatDetections) -> list[list[float]]:
    boxes = of.boxes.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    rows: list[list[float]] = boxes.tolist()
    return rows


def by_tidecv(truth: Any, found: Any) -> dict[str, float]:
    """Return tidecv's figures, in percent."""
    import tidecv

    run = tidecv.TIDE()
    run.evaluate(truth, found, mode=tidecv.TIDE.BOX)
    errors = run.get_all_errors()
    return {**errors["main"]["found"], **errors["special"]["found"]}


def figures(device: str) -> Iterator[Figure]:
    """The one figure; the device makes no difference."""
    if not FOLDER.exists():
        yield Figure(_WHAT, "not measured: needs ../shared/golden/hoiem")
        return
    keep_memory(400 * 2**20)
    of = read_hoiem()
    if importlib.util.find_spec("tidecv") is None:
        whole(of)
        yield Figure(
            _WHAT,
            f"{median(seconds(lambda: whole(of)) for _ in range(3)):.2f} s",
            note="tidecv is not installed: no peer",
        )
        return
    truth, found = for_tide(of)
    theirs, mine = by_tidecv(truth, found), whole(of).first.tide
    assert mine is not None
    apart = max(abs(100 * gain - theirs[kind]) for kind, gain in mine.gains.items())
    if apart > 1e-6:
        raise AssertionError(f"tidecv's errors are others, by up to {apart:.2g}")
    peer, taken = take_turns(lambda: by_tidecv(truth, found), lambda: whole(of), rounds=3, warm_up=False)
    yield Figure(
        f"{_WHAT}: all of it, TIDE among it",
        f"{median(taken):.2f} s",
        f"tidecv, TIDE alone: {median(peer):.1f} s",
        median_ratio(peer, taken),
        10,
        f"TIDE's six figures differ by at most {apart:.1g} points",
    )


if __name__ == "__main__":
    harness.main(figures)
