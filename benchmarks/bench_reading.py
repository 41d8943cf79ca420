"""Reading cached features for a pass of mining, and the cost of one object.

The limit is the codec alone: the same compressed chunks, decompressed from memory in as many threads as the store uses.
Images have 2,000 regions x 4,096 float16, a sixth of them not 0, as fc7's are. Everything is in the page cache.
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numcodecs
import numpy as np

from benchmarks import harness
from benchmarks.bench_object_form import features, packed_chunks, payload
from benchmarks.harness import CORES, Figure
from cache import Artifact, Recipe, Store
from stages.features.featureset import FeatureSet

IMAGES = 12
SLICE = 200
OPEN_MS = 2.0


def figures(_: str) -> Iterator[Figure]:
    """A pass over the images, opening one, and a slice of one."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        layers = [features(2000, 4096, seed) for seed in range(IMAGES)]
        keys = [
            store.put(Recipe("features", 1, {}, {"i": i}), payload(layer, "zarr")) for i, layer in enumerate(layers)
        ]
        yield _pass(store, keys)
        yield _opening(store, keys[0])
        yield _slice(store, keys[0])
        raw, stored = layers[0].nbytes, store.describe("features", keys[0])["nbytes"]
        write, compress = _writing(store, layers[0])
        yield Figure(
            "bytes on disk per region, 4,096 float16 with 16% not 0",
            f"{stored / 2000:.0f} bytes, {stored / raw:.2f} of {raw // 2000}",
            note=f"writing an object durably: {write * 1e3:.0f} ms, of it compressing {compress * 1e3:.0f} ms; "
            "docs/measured.md compares codecs",
        )


def _pass(store: Store, keys: list[str]) -> Figure:
    view = FeatureSet(store, Artifact("features", 1, {}, {}, tuple(enumerate(keys)), {"layers": {"fc7": 4096}})).layer(
        "fc7", read_ahead=2
    )
    chunks = [chunk for key in keys for chunk in packed_chunks(store, key, "fc7")]
    codec = numcodecs.Zstd(1)
    with ThreadPoolExecutor(CORES) as pool:
        alone, ours = harness.take_turns(
            lambda: [None for _ in pool.map(codec.decode, chunks)], lambda: [image.features for image in view], rounds=7
        )
    nbytes = len(keys) * 2000 * 4096 * 2
    return Figure(
        "reading cached features, one mining pass",
        f"{nbytes / np.median(ours) / 1e9:.2f} GB/s",
        f"codec alone, {CORES} threads, from memory: {nbytes / np.median(alone) / 1e9:.2f} GB/s",
        harness.median_ratio(alone, ours),
        0.7,
        "boxes and overlaps read too, every checksum checked",
    )


def _opening(store: Store, key: str) -> Figure:
    (times,) = harness.take_turns(lambda: store.get("features", key, []), rounds=30)
    ms = float(np.median(times)) * 1e3
    return Figure("opening one image's object", f"{ms:.2f} ms", f"{OPEN_MS:g} ms", OPEN_MS / ms, 1)


def _slice(store: Store, key: str) -> Figure:
    found = store._record("features", key)
    spans = found.files_of(["fc7"], slice(900, 900 + SLICE))
    read = sum(span[1] - span[0] for span in spans.values() if span)
    share = found.files["data.zarr/fc7/c/0/0"].nbytes * SLICE / 2000
    whole, part = harness.take_turns(
        lambda: store.get("features", key, ["fc7"]),
        lambda: store.get_rows("features", key, "fc7", 900, 900 + SLICE),
        rounds=15,
    )
    return Figure(
        f"a slice of {SLICE} of 2,000 regions",
        f"{read / 1e3:.0f} kB read",
        f"its share: {share / 1e3:.0f} kB",
        share / read,
        0.8,
        f"takes {np.median(part) / np.median(whole):.2f} of the time of all {2000} regions",
    )


def _writing(store: Store, layer: "np.ndarray[tuple[int, ...], np.dtype[np.float16]]") -> tuple[float, float]:
    numbers = iter(range(1000, 2000))
    codec = numcodecs.Zstd(1)
    chunks = [layer[i : i + 32] for i in range(0, len(layer), 32)]
    with ThreadPoolExecutor(CORES) as pool:
        write, compress = harness.take_turns(
            lambda: store.put(Recipe("features", 1, {}, {"i": next(numbers)}), payload(layer, "zarr")),
            lambda: [None for _ in pool.map(codec.encode, chunks)],
            rounds=5,
        )
    return float(np.median(write)), float(np.median(compress))


if __name__ == "__main__":
    harness.main(figures)
