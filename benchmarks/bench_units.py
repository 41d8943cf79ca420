"""The strongest activations of every unit of pool5, beside reading the features once.

Made-up features of CaffeNet's length in a store, three of four values 0. Of the first images all regions enter the
lists, later few reach a list's end. So two figures: the first images, and the middle of the paper's 5,000 images and 10
million regions, for which the lists are filled by one image of as strong activations as they would hold there. Both
sides read two images ahead, in two threads.
"""

import tempfile
from collections.abc import Iterator
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from benchmarks.harness import CORES, Figure, median_ratio, seconds
from cache import Payload, Recipe, Store
from stages.features.featureset import LayerView
from stages.units.top import Collector

IMAGES, ROWS = 30, 1000
CHANNELS, CELLS = 256, 6
UNITS = CHANNELS * CELLS**2
TOP = 1000
# What one region in 1,250 reaches, as 1,000 of the unsuppressed ones of 2,500 images do; and how far above it they lie.
STRONG, SPREAD = 27.0, 3.4

Keys = list[tuple[int, str]]


def made_up(store: Store) -> tuple[Keys, Keys]:
    """Put the features of images into a store, and of one that fills the lists; numbers and keys of either."""
    rng = np.random.default_rng(0)
    keys = []
    for number in range(IMAGES):
        coarse = rng.standard_normal((ROWS, CHANNELS, CELLS // 2, CELLS // 2), np.float32)
        noise = rng.standard_normal((ROWS, CHANNELS, CELLS, CELLS), np.float32)
        smooth = coarse.repeat(2, axis=2).repeat(2, axis=3) + np.float32(0.4) * noise
        features = np.maximum(10 * (smooth - np.float32(0.7)), 0).astype(np.float16).reshape(ROWS, -1)
        corners, sides = rng.uniform(0, 300, (ROWS, 2)), rng.uniform(20, 200, (ROWS, 2))
        keys.append((number, put(store, number, features, np.concatenate([corners, corners + sides], axis=1))))
    strong = (STRONG + rng.exponential(SPREAD, (TOP, UNITS))).astype(np.float16)
    grid = np.stack(np.divmod(np.arange(TOP), 32), axis=1) * 10.0
    return keys, [(IMAGES, put(store, IMAGES, strong, np.concatenate([grid, grid + 9], axis=1)))]


def put(store: Store, number: int, features: NDArray[np.float16], boxes: NDArray[np.float64]) -> str:
    """Put one image's features into the store; the object's key."""
    rows = len(features)
    arrays = {
        "boxes": boxes.astype(np.float32),
        "is_gt": np.zeros(rows, bool),
        "gt_class": np.full(rows, -1),
        "difficult": np.zeros(rows, bool),
        "overlaps": np.zeros((rows, 1), np.float32),
        "pool5": features,
    }
    attrs = {"image": f"{number}.jpg", "image_sha256": "0" * 64, "count": rows, "ground_truth_count": 0}
    return store.put(Recipe("features", 1, {}, {"image": number}), Payload(arrays, attrs, "zarr"))


def collected_in(collector: Collector, view: LayerView) -> None:
    """Read the view once, and let its images compete."""
    for number, image in enumerate(view):
        collector.add(number, image.features, image.boxes)


def measured(view: LayerView, before: LayerView | None) -> tuple[list[float], list[float]]:
    """Take the seconds of reading alone, and of reading and collecting; lists that ``before`` has filled, or empty."""
    dtype, units = view.dtype_and_length()
    reading, collecting = [], []
    for _ in range(5):
        with Collector(units, TOP, dtype, CORES) as collector:
            if before is not None:
                collected_in(collector, before)
            reading.append(seconds(lambda: [image.features.shape for image in view]))
            collecting.append(seconds(lambda: collected_in(collector, view)))
    return reading, collecting


def figures(device: str) -> Iterator[Figure]:
    """Both figures; the device makes no difference."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        keys, strong = made_up(store)
        view, filling = LayerView(store, keys, "pool5", 2), LayerView(store, strong, "pool5")
        measured(LayerView(store, keys[:1], "pool5"), filling)  # compiles
        for where, before, reach in (("in the middle of 5,000", filling, 1 / 1.3), ("the first ones", None, None)):
            reading, collecting = measured(view, before)
            yield Figure(
                f"{TOP:,} strongest regions of {UNITS:,} units, {IMAGES} images of {ROWS:,} regions, {where}",
                f"{1000 * median(collecting) / IMAGES:.0f} ms an image, reading included",
                f"reading alone: {1000 * median(reading) / IMAGES:.0f} ms",
                median_ratio(reading, collecting),
                reach,
                f"lists of {UNITS * TOP * 12 / 1e6:.0f} MB",
            )


if __name__ == "__main__":
    harness.main(figures)
