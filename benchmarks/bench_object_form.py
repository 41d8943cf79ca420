"""In which form to keep an image's features: ``python -m benchmarks.bench_object_form [--rows 2000] [--width 4096]``.

Writes one image's fc7-like features (float16, a sixth non-zero) in several forms, each through the store itself with
another chunk size, as one archive or as HDF5, and prints per form: bytes; milliseconds to write durably, to open
(record and attributes), to read whole, to read 64 regions of the middle; what part of the codec's own speed reading
whole reaches (the same chunks from memory, as many threads); and what part of the layer's bytes the 64 regions cost.
Then, for several codecs, what the layer's chunks take and how long they are packed and unpacked in memory. Last, a scan
of 40 images with a matrix product on each, read ahead or not, against reading and computing alone. Medians; everything
in the page cache.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np

from benchmarks.harness import CORES
from cache import Artifact, Payload, Recipe, Store, _zarr
from stages.features.featureset import FeatureSet

SLICE = 64
CODECS = {
    "zstd 1": numcodecs.Zstd(1),
    "zstd 3": numcodecs.Zstd(3),
    "lz4, shuffled bytes": numcodecs.Blosc("lz4", shuffle=numcodecs.Blosc.SHUFFLE),
    "lz4, shuffled bits": numcodecs.Blosc("lz4", shuffle=numcodecs.Blosc.BITSHUFFLE),
}


def all_of(pool: ThreadPoolExecutor, work: Callable[[Any], Any], parts: Sequence[Any]) -> None:
    """``work`` of every part, in the pool's threads."""
    for _ in pool.map(work, parts):
        pass


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
    """Make the payload that the features stage would write of this layer [n, d]."""
    n, none = len(layer), np.zeros(len(layer), bool)
    boxes, overlaps = np.zeros((n, 4), np.float32), np.zeros((n, 20), np.float32)
    small = {"boxes": boxes, "overlaps": overlaps, "is_gt": none, "difficult": none, "gt_class": none.astype(np.int64)}
    return Payload({**small, "fc7": layer}, {"image": "a.jpg", "count": n}, form)  # type: ignore[arg-type]


def packed_chunks(store: Store, key: str, layer: str) -> list[bytes]:
    """The compressed chunks of one layer of an object."""
    spec = store.describe("features", key)["files"][f"data.zarr/{layer}/c/0/0"]
    data = store.export("features", key)[f"data.zarr/{layer}/c/0/0"]
    ends = accumulate(spec.get("chunk_nbytes", [len(data)]), initial=0)
    return [data[a:b] for a, b in pairwise(ends)]


def codec_alone_ms(chunks: Sequence[bytes], decode: Callable[[bytes], object]) -> float:
    """Chunks decoded from memory, in as many threads as the store reads with."""
    with ThreadPoolExecutor(CORES) as pool:
        return median_ms(lambda: list(pool.map(decode, chunks)))


def row(store: Store, layer: np.ndarray[Any, Any], form: str) -> list[float]:
    """The figures of one form."""
    numbers = iter(range(10**6))
    made = payload(layer, form)
    write = median_ms(lambda: store.put(Recipe("features", 1, {}, {"i": next(numbers)}), made), 5)
    key = store.put(Recipe("features", 1, {}, {"i": 0}), made)
    found = store._record("features", key)
    start = len(layer) // 2
    spans = found.files_of(["fc7"], slice(start, start + SLICE)).items()
    cost = sum(found.files[n].nbytes if span is None else span[1] - span[0] for n, span in spans if "json" not in n)
    whole = sum(found.files[name].nbytes for name in found.files_of(["fc7"]) if "json" not in name)
    read = median_ms(lambda: store.get("features", key, ["fc7"]))
    codec = codec_alone_ms(packed_chunks(store, key, "fc7"), CODECS["zstd 1"].decode) if form == "zarr" else np.nan
    return [
        found.nbytes / 1e6,
        write,
        median_ms(lambda: store.get("features", key, [])),
        read,
        median_ms(lambda: store.get_rows("features", key, "fc7", start, start + SLICE)),
        codec / read,
        cost / whole,
    ]


def forms(layer: np.ndarray[Any, Any], folder: Path) -> None:
    """A line per form."""
    print(f"{'form':34} {'MB':>6} {'write':>6} {'open':>6} {'whole':>6} {'64':>6} {'of codec':>8} {'64 cost':>7}")
    chosen = _zarr._CHUNK_BYTES
    for size in (1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 30):
        _zarr._CHUNK_BYTES = size
        name = f"one shard, chunks of {size >> 10} KiB" if size < 1 << 30 else "one chunk"
        show(name, row(Store(folder / name), layer, "zarr"))
    _zarr._CHUNK_BYTES = chosen
    show("one zip (fsspec memory)", row(Store(f"memory://forms/{folder.name}"), layer, "zarr"))
    show("one HDF5 file, gzip 1 and shuffle", row(Store(folder / "h5"), layer, "hdf5"))
    print(f"{SLICE} regions are {SLICE / len(layer):.3f} of the layer")


def codecs(layer: np.ndarray[Any, Any]) -> None:
    """A line per codec."""
    print(f"{'codec':34} {'MB':>6} {'pack':>6} {'unpack':>6}   ms, {CORES} threads, from memory to memory")
    rows = _zarr._CHUNK_BYTES // layer[0].nbytes
    chunks = [layer[i : i + rows] for i in range(0, len(layer), rows)]
    with ThreadPoolExecutor(CORES) as pool:
        for name, codec in CODECS.items():
            packed = list(pool.map(codec.encode, chunks))
            pack = median_ms(functools.partial(all_of, pool, codec.encode, chunks))
            unpack = median_ms(functools.partial(all_of, pool, codec.decode, packed))
            print(f"{name:34} {sum(map(len, packed)) / 1e6:6.1f} {pack:6.1f} {unpack:6.1f}")
        print(f"{'none':34} {layer.nbytes / 1e6:6.1f} {'':6} {median_ms(layer.copy):6.1f}")


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
    reading, plain, ahead = (median_ms(functools.partial(passed, *a), 3) for a in ((0, False), (0, True), (2, True)))
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
        codecs(layer)
        scan(layer, Path(folder))


if __name__ == "__main__":
    main()
