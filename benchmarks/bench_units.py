"""The strongest activations of every unit of pool5, beside reading the features once.

Made-up features of CaffeNet's length in a store, three of four values 0. The first images' regions all enter the lists,
later few reach a list's end, so the more images the nearer to reading alone: 100 regions of 60 images stand here for
1,000 of 600 (VOC 2007 has 10,000). Both sides read two images ahead, in two threads.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import harness
from benchmarks.harness import CORES, Figure, median_ratio, take_turns
from cache import Payload, Recipe, Store
from stages.features.featureset import LayerView
from stages.units.objects import collected

IMAGES, ROWS = 60, 1000
CHANNELS, CELLS = 256, 6
TOP = 100


def made_up(root: Path) -> LayerView:
    """Put the images' features into a store."""
    store, keys, rng = Store(root), list[str](), np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = rng.standard_normal((ROWS, CHANNELS, CELLS // 2, CELLS // 2), np.float32)
        noise = rng.standard_normal((ROWS, CHANNELS, CELLS, CELLS), np.float32)
        smooth = coarse.repeat(2, axis=2).repeat(2, axis=3) + np.float32(0.4) * noise
        features = np.maximum(10 * (smooth - np.float32(0.7)), 0).astype(np.float16).reshape(ROWS, -1)
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
        keys.append(key)
    return LayerView(store, list(enumerate(keys)), "pool5", 2)


def figures(device: str) -> Iterator[Figure]:
    """The one figure; the device makes no difference."""
    with tempfile.TemporaryDirectory() as folder:
        view = made_up(Path(folder))

        def read() -> None:
            for image in view:
                image.features.shape  # noqa: B018 - it is read where it is first asked for

        def ours() -> None:
            collected(view, TOP, CORES, lambda done, total: None)

        collected(LayerView(view._store, view._keys[:2], "pool5"), TOP, CORES, lambda done, total: None)  # compiles
        reading, collecting = take_turns(read, ours, rounds=3, warm_up=False)
    yield Figure(
        f"{TOP:,} strongest regions of {CHANNELS * CELLS**2:,} units, {IMAGES} images of {ROWS:,} regions",
        f"{1000 * median(collecting) / IMAGES:.0f} ms an image, reading included",
        f"reading alone: {1000 * median(reading) / IMAGES:.0f} ms",
        median_ratio(reading, collecting),
        1 / 1.3,
        f"lists of 1,000 have {CHANNELS * CELLS**2 * 1000 * 12 / 1e6:.0f} MB",
    )


if __name__ == "__main__":
    harness.main(figures)
