"""The strongest activations of every unit of pool5, beside reading the features once.

Made-up features of CaffeNet's length in a store: of each channel some regions are bright at several neighbouring cells,
three of four values are 0. There are few images, so that all lists are still far from full, which is the costly part:
later few regions reach a list's end. Both sides read two images ahead, in two threads.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import harness
from benchmarks.harness import CORES, Figure, median_ratio, take_turns
from cache import Artifact, Payload, Recipe, Store
from stages.features.featureset import FeatureSet, LayerView
from stages.units.objects import collected

IMAGES, ROWS = 24, 2000
CHANNELS, CELLS = 256, 6
TOP = 1000


def made_up(root: Path) -> LayerView:
    """Put the images' features into a store."""
    store, entries, rng = Store(root), [], np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = rng.normal(size=(ROWS, CHANNELS, CELLS // 2, CELLS // 2)).astype(np.float32)
        smooth = coarse.repeat(2, axis=2).repeat(2, axis=3) + rng.normal(0, 0.4, (ROWS, CHANNELS, CELLS, CELLS))
        features = np.maximum(10 * (smooth - 0.7), 0).astype(np.float16).reshape(ROWS, -1)
        corners, sides = rng.uniform(0, 300, (ROWS, 2)), rng.uniform(20, 200, (ROWS, 2))
        arrays = {
            "boxes": np.concatenate([corners, corners + sides], axis=1).astype(np.float32),
            "is_gt": np.zeros(ROWS, bool),
            "gt_class": np.full(ROWS, -1),
            "difficult": np.zeros(ROWS, bool),
            "overlaps": np.zeros((ROWS, 1), np.float32),
            "pool5": features,
        }
        attrs = {"image": f"{number}.jpg", "image_sha256": "0" * 64, "count": ROWS, "ground_truth_count": 0}
        key = store.put(Recipe("features", 1, {}, {"image": number}), Payload(arrays, attrs, "zarr"))
        entries.append((number, key))
    artifact = Artifact("features", 1, {}, {}, tuple(entries), {"layers": {"pool5": CHANNELS * CELLS**2}})
    return FeatureSet(store, artifact).layer("pool5", read_ahead=2)


def figures(device: str) -> Iterator[Figure]:
    """The one figure; the device makes no difference."""
    with tempfile.TemporaryDirectory() as folder:
        view = made_up(Path(folder))

        def read() -> None:
            for image in view:
                image.features.shape  # noqa: B018 - it is read where it is first asked for

        def ours() -> None:
            collected(view, TOP, CORES, lambda done, total: None)

        reading, collecting = take_turns(read, ours, rounds=3)
    yield Figure(
        f"{TOP:,} strongest regions of {CHANNELS * CELLS**2:,} units, {IMAGES} images of {ROWS:,} regions",
        f"{1000 * median(collecting) / IMAGES:.0f} ms an image, reading included",
        f"reading alone: {1000 * median(reading) / IMAGES:.0f} ms",
        median_ratio(reading, collecting),
        1 / 1.3,
        f"lists of {CHANNELS * CELLS**2 * TOP * 12 / 1e6:.0f} MB",
    )


if __name__ == "__main__":
    harness.main(figures)
