"""Region features from a JPEG to a stored object, against the bare network on ready batches in memory.

Ours is what the features stage does for as many photographs as cores, with 2,000 regions each: decode, crop and warp,
network, narrow to float16, compress, write durably; images in threads, as ``rcnn run features`` runs them. The limit
is the network's forward pass alone, at the best of dtype, memory layout, batch and use of the cores (a thread each, or
all on one batch), searched first; it runs before and after ours, over half as many regions in all. Ours uses that dtype
and batch.
"""

import contextlib
import copy
import functools
import hashlib
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.harness import CORES, Figure
from cache import Payload, Recipe, Store
from manifests import ImageRecord, ImageSource
from pipeline.executor import Executor, Tally
from pipeline.local import LocalRunner
from stages.contract import ImageTask
from stages.features.objects import FeaturesCompute
from stages.features.settings import FeaturesSettings
from stages.networks.forward import deterministic
from stages.networks.network import Network, build
from stages.networks.settings import NetworkSettings

REGIONS = 2000
NETWORKS = {"alexnet": "fc7", "squeezenet1_0": "pool5"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
_PROBE_S = 0.5  # each configuration of the bare network is tried for so long


@functools.cache
def random_network(name: str) -> Network:
    """A network with random weights, ready to compute; drawing them takes a second."""
    return build(name, 1000, generator=torch.Generator().manual_seed(0)).eval().requires_grad_(False)


@dataclass(frozen=True)
class Bare:
    """The network alone, in one configuration. ``workers`` threads of their own, ``threads`` torch threads in each."""

    name: str
    layer: str
    dtype: str
    layout: str
    batch: int
    workers: int
    device: str

    def rate(self, regions: int = 10**9, seconds: float = 10**9) -> float:
        """Regions per second until so many are through or so long has passed; 0 where there is too little memory."""
        network = copy.deepcopy(random_network(self.name))
        network = network.to(self.device, DTYPES[self.dtype], memory_format=LAYOUTS[self.layout])  # type: ignore[call-overload]
        graph = network.graph((self.layer,))
        side = network.input.side_px
        crops = torch.randn(self.batch, 3, side, side).to(self.device, DTYPES[self.dtype])
        crops = crops.contiguous(memory_format=LAYOUTS[self.layout])
        before = torch.get_num_threads()
        torch.set_num_threads(max(1, CORES // self.workers))
        try:
            return self._race(graph, crops, regions, seconds)
        finally:
            torch.set_num_threads(before)

    def _race(self, graph: Any, crops: Any, regions: int, seconds: float) -> float:
        done = [0] * self.workers
        start = threading.Barrier(self.workers + 1)

        def work(number: int) -> None:
            torch.set_num_threads(max(1, CORES // self.workers))
            with torch.inference_mode():
                try:
                    graph(crops)
                except RuntimeError:  # out of memory
                    start.abort()
                    return
                start.wait()
                end = time.perf_counter() + seconds
                while sum(done) < regions and time.perf_counter() < end:
                    graph(crops)
                    done[number] += self.batch
                if self.device == "cuda":
                    torch.cuda.synchronize()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(self.workers)]
        for thread in threads:
            thread.start()
        try:
            start.wait()
        except threading.BrokenBarrierError:
            return 0.0
        begin = time.perf_counter()
        for thread in threads:
            thread.join()
        return sum(done) / (time.perf_counter() - begin)


def best_bare(name: str, layer: str, device: str) -> Bare:
    """The fastest configuration of the bare network: first of dtype, layout and workers, then also of batch."""
    batches = (4, 16, 64) if device == "cpu" else (64, 256, 1024)
    workers = {1, CORES} if device == "cpu" else {1}
    every = [
        Bare(name, layer, dtype, layout, batches[1], n, device)
        for dtype, layout, n in itertools.product(DTYPES, LAYOUTS, sorted(workers))
    ]
    rates = {bare: bare.rate(seconds=_PROBE_S) for bare in every}
    best = sorted(rates, key=lambda bare: rates[bare], reverse=True)[:2]
    others = [replace(bare, batch=batch) for bare in best for batch in (batches[0], batches[2])]
    rates |= {bare: bare.rate(seconds=_PROBE_S) for bare in others}
    return max(rates, key=lambda bare: rates[bare])


def photographs(folder: Path) -> list[ImageRecord]:
    """A photograph per core, without annotations: the first of coco128, or noise where it is not there."""
    import cv2

    found = harness.photographs()
    names = sorted((found / "images").iterdir())[:CORES] if found else []
    images = [harness.read_bgr(path) for path in names]
    rng = np.random.default_rng(0)
    while len(images) < CORES:
        images.append(np.asarray(cv2.resize(rng.integers(0, 256, (48, 64, 3), np.uint8), (640, 480)), np.uint8))
    records = []
    for i, pixels in enumerate(images, 1):
        cv2.imwrite(str(folder / f"{i}.jpg"), pixels)
        nothing = np.zeros(0, bool)
        records.append(
            ImageRecord(
                id=i,
                file_name=f"{i}.jpg",
                width=pixels.shape[1],
                height=pixels.shape[0],
                sha256=hashlib.sha256((folder / f"{i}.jpg").read_bytes()).hexdigest(),
                split="train",
                boxes=np.zeros((0, 4), np.float32),
                labels=np.zeros(0, np.int64),
                difficult=nothing,
                crowd=nothing,
            )
        )
    return records


def proposals(record: ImageRecord) -> Any:
    """2,000 boxes of all sizes, half of them with sides below a quarter of the image's; float32 [2000, 4]."""
    rng = np.random.default_rng(record.id)
    extent = np.array([record.width, record.height])
    size = extent * 2.0 ** rng.uniform(-4.3, 0, (REGIONS, 2))
    corner = rng.uniform(0, 1, (REGIONS, 2)) * (extent - size)
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def ours(bare: Bare, folder: Path) -> float:
    """Regions per second of the whole stage, at the dtype and batch of ``bare``."""
    store = Store(folder / "store")
    records = photographs(folder)
    network = random_network(bare.name)
    made_of = {"layers": [bare.layer], "network": bare.name}
    compute = FeaturesCompute(
        store,
        ImageSource(folder).read,
        network,
        FeaturesSettings(layers=(bare.layer,)),
        NetworkSettings(name=bare.name, dtype=bare.dtype, batch=bare.batch),
        bare.device,
        20,
        made_of,
    )
    tasks = []
    for record in records:
        attrs = {"image": record.file_name, "count": REGIONS}
        boxes = Payload({"boxes": proposals(record)}, attrs, "hdf5")
        key = store.put(Recipe("proposals", 1, {}, {"i": record.id}), boxes)
        tasks.append(ImageTask(record, Recipe("features", 1, made_of, {"i": record.id}), {"proposals": key}))
    with deterministic():
        compute.prepare()
        executor = Executor(store, LocalRunner(CORES), harness.Quiet(), Tally())
        seconds = harness.seconds(lambda: executor.compute(tasks, compute, unit="regions"))
    return REGIONS * len(tasks) / seconds


def figures(device: str) -> Iterator[Figure]:
    """One figure per network."""
    names = NETWORKS if device == "cpu" else {"alexnet": "fc7"}
    for name, layer in names.items():
        bare = best_bare(name, layer, device)
        part = REGIONS * CORES // 4
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(None):
            before = bare.rate(part)
            rate = ours(bare, Path(folder))
            after = bare.rate(part)
        limit = 2 / (1 / before + 1 / after)
        how = f"{bare.dtype}, {bare.layout}, batch {bare.batch}, {bare.workers} at once"
        yield Figure(
            f"region features, {name} {layer}, JPEG to stored object",
            f"{rate:.0f} regions/s",
            f"bare network ({how}): {limit:.0f}",
            rate / limit,
            0.85 if device == "cpu" else 0.8,
        )


if __name__ == "__main__":
    harness.main(figures, ("cpu", "cuda"))
