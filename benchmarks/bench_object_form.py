"""In which form to keep an image's features: ``python benchmarks/bench_object_form.py [--rows 2000] [--width 4096]``.

Writes one image's fc7-like features (float16, a sixth non-zero) in several forms, each through the store itself with
another chunk size or codec, or as one file, and prints per form: bytes; milliseconds to write durably, to open (record
and attributes), to read whole, to read 64 regions of the middle; what part of the codec's own speed reading whole
reaches (the same chunks from memory, as many threads); and what part of the layer's bytes the 64 regions cost, beside
their share. Last, a scan of 40 images with a matrix product on each, read ahead or not, against reading and computing
alone. Medians; everything in the page cache.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

from cache import Artifact, Payload, Recipe, Store, _zarr
from stages.common.featureset import FeatureSet

THREADS = len(os.sched_getaffinity(0))
SLICE = 64
ZARR_CODECS: dict[str, tuple[Any, Any]] = {
    "zstd 1": (zarr.codecs.ZstdCodec(level=1), numcodecs.Zstd().decode),
    "zstd 3": (zarr.codecs.ZstdCodec(level=3), numcodecs.Zstd().decode),
    "lz4+shuffle": (zarr.codecs.BloscCodec(cname="lz4", shuffle="shuffle", typesize=2), numcodecs.Blosc().decode),
    "lz4+bitshuffle": (zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2), numcodecs.Blosc().decode),
    "none": (None, bytes),
}


def median_ms(work: Callable[[], object], n: int = 15) -> float:
    """Median milliseconds of ``n`` calls, after one that is not counted."""
    work()
    times = []
    for _ in range(n):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def features(rows: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.maximum(rng.standard_normal((rows, width), np.float32) - 1, 0).astype(np.float16)


def payload(layer: np.ndarray[Any, Any], form: str) -> Payload:
    """As the features stage writes it."""
    n, none = len(layer), np.zeros(len(layer), bool)
    boxes, overlaps = np.zeros((n, 4), np.float32), np.zeros((n, 20), np.float32)
    small = {"boxes": boxes, "overlaps": overlaps, "is_gt": none, "difficult": none, "gt_class": none.astype(np.int64)}
    return Payload({**small, "fc7": layer}, {"image": "a.jpg", "count": n}, form)  # type: ignore[arg-type]


def codec_alone_ms(store: Store, key: str, decode: Callable[[bytes], object]) -> float:
    """The layer's chunks decoded from memory, in as many threads as the store reads with."""
    files = store.export("features", key)
    chunks = [data for name, data in files.items() if "/fc7/c/" in name]
    with ThreadPoolExecutor(THREADS) as pool:
        return median_ms(lambda: list(pool.map(decode, chunks)))


def row(store: Store, layer: np.ndarray[Any, Any], form: str, decode: Callable[[bytes], object] | None) -> list[float]:
    """The figures of one form."""
    numbers = iter(range(10**6))
    made = payload(layer, form)
    write = median_ms(lambda: store.put(Recipe("features", 1, {}, {"i": next(numbers)}), made), 5)
    key = store.put(Recipe("features", 1, {}, {"i": 0}), made)
    found = store._record("features", key)
    middle = slice(len(layer) // 2, len(layer) // 2 + SLICE)
    cost = sum(found.files[name].nbytes for name in found.files_of(["fc7"], middle) if "json" not in name)
    whole = sum(found.files[name].nbytes for name in found.files_of(["fc7"]) if "json" not in name)
    read = median_ms(lambda: store.get("features", key, ["fc7"]))
    alone = codec_alone_ms(store, key, decode) if decode else float("nan")
    return [
        found.nbytes / 1e6,
        write,
        median_ms(lambda: store.describe("features", key)),
        read,
        median_ms(lambda: store.get_rows("features", key, "fc7", middle.start, middle.stop)),
        alone / read,
        cost / whole,
    ]


def forms(layer: np.ndarray[Any, Any], folder: Path) -> None:
    """A line per form."""
    print(f"{'form':34} {'MB':>6} {'write':>6} {'open':>6} {'whole':>6} {'64':>6} {'of codec':>8} {'64 cost':>7}")
    chosen, ours = _zarr._CHUNK_BYTES, (_zarr.check_array, _zarr._numbers)
    variants = [("zstd 1", size) for size in (1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 23)]
    variants += [(codec, chosen) for codec in ZARR_CODECS if codec != "zstd 1"]
    for codec, size in variants:
        compressor, decode = ZARR_CODECS[codec]
        _zarr._CHUNK_BYTES = size
        if not codec.startswith("zstd"):  # which our own reader refuses, as it would a hostile file's
            _zarr.check_array, _zarr._numbers = (lambda *_: None), _zarr._by_zarr
        _zarr._compressor = lambda compressor=compressor: compressor
        name = f"zarr, {codec}, chunks of {size >> 10} KiB"
        show(name, row(Store(folder / name), layer, "zarr", decode))
    _zarr._CHUNK_BYTES, _zarr.check_array, _zarr._numbers = chosen, *ours
    _zarr._compressor = lambda: ZARR_CODECS["zstd 1"][0]
    memory = Store(f"memory://forms/{folder.name}")
    show("zarr, zstd 1, one zip (fsspec memory)", row(memory, layer, "zarr", ZARR_CODECS["zstd 1"][1]))
    show("one HDF5 file, gzip 1 and shuffle", row(Store(folder / "h5"), layer, "hdf5", None))
    print(f"{SLICE} regions are {SLICE / len(layer):.3f} of the layer")


def show(name: str, figures: list[float]) -> None:
    """One line of the table."""
    mb, write, opened, whole, part, codec, cost = figures
    print(f"{name:34} {mb:6.1f} {write:6.0f} {opened:6.2f} {whole:6.1f} {part:6.1f} {codec:8.2f} {cost:7.3f}")


def scan(layer: np.ndarray[Any, Any], folder: Path, images: int = 40) -> None:
    """A split's images in order, each times the weights of 20 classes."""
    store = Store(folder / "scan")
    keys = [store.put(Recipe("features", 1, {}, {"i": i}), payload(layer, "zarr")) for i in range(images)]
    summary = {"layers": {"fc7": layer.shape[1]}}
    features_ = FeatureSet(store, Artifact("features", 1, {}, {}, tuple(enumerate(keys)), summary))
    weights = np.random.default_rng(0).standard_normal((layer.shape[1], 20), np.float32)

    def passed(read_ahead: int, computes: bool) -> None:
        for image in features_.layer("fc7", read_ahead=read_ahead):
            values = image.features
            if computes:
                _ = values.astype(np.float32) @ weights

    computing = median_ms(lambda: [layer.astype(np.float32) @ weights for _ in range(images)], 3)
    reading, plain, ahead = (median_ms(lambda a=a: passed(*a), 3) for a in ((0, False), (0, True), (2, True)))
    part = max(reading, computing) / ahead
    print(f"scan of {images} images, ms each: reading {reading / images:.1f}, computing {computing / images:.1f}; both")
    print(f"in turn {plain / images:.1f}, read ahead {ahead / images:.1f} ({part:.2f} of the slower one's speed)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--width", type=int, default=4096)
    given = parser.parse_args()
    layer = features(given.rows, given.width)
    with tempfile.TemporaryDirectory() as folder:
        forms(layer, Path(folder))
        scan(layer, Path(folder))


if __name__ == "__main__":
    main()
