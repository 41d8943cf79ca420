"""How the store behaves with very many objects: ``python benchmarks/bench_scale.py [--objects 1000000]``.

Makes a store of small HDF5-form objects in a temporary folder (hard links to a few real ones under names of their
own, so that a million take a minute and 4 GB of folders; their content is therefore not their key's, which neither
listing nor gc reads), then times in a process each: ``ls``, ``du``, ``gc`` as a dry run, and deciding that nothing is
to be computed for 100,000 images. The limit beside each time is the same walk by plain ``os.scandir`` and ``os.stat``,
in this run, of a store just written (everything is in the page cache for both).
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cache import Artifact, Payload, Recipe, Store
from manifests import ImageRecord
from stages.graph import PROPOSALS
from stages.proposals.methods import key_params
from stages.proposals.settings import ProposalsSettings

LINKS = 50_000  # ext4 allows 65,000 names of one file


def recipe(i: int) -> Recipe:
    """Make the recipe as the proposals stage does."""
    return Recipe(PROPOSALS.name, PROPOSALS.version, key_params(ProposalsSettings(), 3), {"image_sha256": f"{i:064x}"})


def build(root: Path, n: int, n_images: int) -> None:
    """A store of ``n`` objects, those of the first ``n_images`` images under their true keys."""
    store, template = Store(root), root / "template"
    boxes = np.zeros((20, 4), np.float32)
    artifact: list[tuple[int, str]] = []
    for i in range(n):
        if i % LINKS == 0:
            shutil.rmtree(template, ignore_errors=True)
            key = store.put(Recipe("template", 1, {}, {"i": i}), Payload({"boxes": boxes}, {"image": "a.jpg"}, "hdf5"))
            shutil.copytree(store.path("template", key), template)
        key = recipe(i).key if i < n_images else hashlib.sha256(str(i).encode()).hexdigest()
        folder = root / "objects" / PROPOSALS.name / key[:2] / key
        folder.mkdir(parents=True)
        for name in ("object.json", "data.h5"):
            os.link(template / name, folder / name)
        artifact.append((i, key))
    shutil.rmtree(template)
    shutil.rmtree(root / "objects" / "template")
    for start in range(0, n // 2, n_images):  # half of them are named, by one artifact per 100,000
        entries = tuple(artifact[start : start + n_images])
        store.register(Artifact(PROPOSALS.name, 1, {"start": start}, {}, entries, {"dataset": "scale"}))


def walk(root: Path) -> int:
    """The limit: every object's folder listed and its two files and itself looked at."""
    nbytes = 0
    for shard in sorted(os.scandir(root / "objects" / PROPOSALS.name), key=lambda e: e.name):
        for folder in sorted(os.scandir(shard.path), key=lambda e: e.name):
            os.stat(folder.path)
            for file in os.scandir(folder.path):
                nbytes += file.stat().st_size
    return nbytes


def names_only(root: Path) -> int:
    """The limit of what needs no sizes: the names of all objects."""
    return sum(1 for shard in os.scandir(root / "objects" / PROPOSALS.name) for _ in os.scandir(shard.path))


def stats(root: Path, n_images: int) -> int:
    """The limit of asking for known keys: one ``os.stat`` of each record and of its folder."""
    keys = [recipe(i).key for i in range(n_images)]
    begin = time.perf_counter()
    for key in keys:
        os.stat(f"{root}/objects/{PROPOSALS.name}/{key[:2]}/{key}/object.json")
        os.stat(f"{root}/objects/{PROPOSALS.name}/{key[:2]}/{key}")
    print(f"LIMIT {time.perf_counter() - begin:.3f}")
    return len(keys)


def nothing_to_do(root: Path, n_images: int) -> int:
    """What a stage does before it computes: a task and its key for each image, and which of them are missing."""
    from pipeline.executor import Executor, Tally
    from pipeline.local import LocalRunner
    from pipeline.progress import Reporter
    from stages.contract import ImageTask

    none = np.zeros((0, 4), np.float32)
    records = [
        ImageRecord(i, f"{i}.jpg", 500, 375, f"{i:064x}", "train", none, none[:, 0].astype(np.int64))
        for i in range(n_images)
    ]
    params = key_params(ProposalsSettings(), 3)
    begin = time.perf_counter()
    tasks = [
        ImageTask(r, Recipe(PROPOSALS.name, PROPOSALS.version, params, {"image_sha256": r.sha256})) for r in records
    ]
    executor = Executor(Store(root), LocalRunner(2), Reporter(PROPOSALS.name), Tally())
    keys = executor.compute(tasks, None, unit="regions")  # type: ignore[arg-type] # nothing is computed
    print(f"SECONDS {time.perf_counter() - begin:.3f}")
    return len(keys)


def in_a_process(what: str, root: Path, n_images: int) -> tuple[float, float]:
    """(seconds, peak MiB) of one of the above, or of an ``rcnn cache`` command, in a process of its own."""
    code = (
        "import resource, sys, time; from pathlib import Path; sys.argv = ['x']\n"
        "sys.path.insert(0, 'benchmarks'); import bench_scale as b; from cache import Store, listing, maintenance\n"
        f"root, n = Path({str(root)!r}), {n_images}; store = Store(root); begin = time.perf_counter()\n{what}\n"
        "print('SECONDS', time.perf_counter() - begin)\n"
        "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        name, *rest = line.split()
        if name in ("LIMIT", "SECONDS", "PEAK"):
            found.setdefault(name, float(rest[0]))
    return found.get("LIMIT", found["SECONDS"]), found["PEAK"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="Where the store is made (a temporary folder by default).")
    given = parser.parse_args()
    n_images = min(given.images, given.objects // 2)
    rows = (
        ("list every name (ls STAGE)", "print(sum(1 for _ in listing.entries(store)))", "b.names_only(root)"),
        ("add up by stage and result (du, ls)", "listing.summarise(store)", "b.walk(root)"),
        ("gc, dry run, half of it unreferenced", "maintenance.gc(store, [], grace_s=0)", "b.walk(root)"),
        (f"nothing to compute for {n_images:,} images", "b.nothing_to_do(root, n)", "b.stats(root, n)"),
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root = Path(folder) / "store"
        begin = time.perf_counter()
        build(root, given.objects, n_images)
        print(f"{given.objects:,} objects made in {time.perf_counter() - begin:.0f} s")
        print(f"{'what':45} {'seconds':>8} {'limit, s':>9} {'ratio':>6} {'MiB':>6}")
        for name, what, limit in rows:
            least = min(in_a_process(limit, root, n_images)[0] for _ in range(2))
            seconds, peak = in_a_process(what, root, n_images)
            print(f"{name:45} {seconds:8.2f} {least:9.2f} {seconds / least:6.1f} {peak:6.0f}")


if __name__ == "__main__":
    main()
