"""Two and eight processes on one store; readers, gc and verify while they write."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_objects import Samples
from tiny_project import ROOT

from cache import Artifact, Store
from cache.listing import iter_objects
from cache.maintenance import gc, verify

PRELUDE = """
import os, sys, time
from pathlib import Path
import numpy as np
from cache import Artifact, MissingObjectError, Payload, Recipe, Store
from cache.maintenance import gc, verify
store, go, me, n = Store(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def recipe(i): return Recipe("features", 1, {}, {"image": i})
def payload(i):
    values = np.random.default_rng(i).standard_normal((200, 32)).astype("f2")
    return Payload({"fc7": values}, {"image": f"{i}.jpg", "count": 200}, "hdf5" if i % 2 else "zarr")
def read(i):
    found = store.get("features", recipe(i).key).arrays["fc7"]
    assert (found == payload(i).arrays["fc7"]).all(), f"{i} is not what was written"
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
"""
# The shared images and this process's own, from another place in the list for each.
WRITER = """
numbers = [*range(n), *range(1000 * me, 1000 * me + 3)]
for i in numbers[me % n:] + numbers[:me % n]:
    if store.missing("features", [recipe(i).key]):
        store.put(recipe(i), payload(i))
    read(i)
"""
READER = """
seen = set()
while len(seen) < n:
    for i in set(range(n)) - seen:
        try:
            read(i)
        except MissingObjectError:
            continue
        seen.add(i)
"""
# Here every object is older than the grace period as soon as it is written: only the claim is in gc's way.
CLAIMING = """
keys = [recipe(i).key for i in range(n)]
claim = store.register(Artifact("features", 1, {}, {}, tuple(enumerate(keys)), {"unfinished": True}))
for i, key in enumerate(keys):
    store.missing("features", [key])
    store.put(recipe(i), payload(i))
    os.utime(store.path("features", key), (1, 1))
assert all(store.has("features", key) for key in keys), "gc took what this run had claimed"
store.register(Artifact("features", 1, {}, {}, tuple(enumerate(keys)), {}))
store.unregister(claim)
"""


class Crowd:
    """Processes on one store that begin at the same moment."""

    def __init__(self, folder: Path) -> None:
        self.store, self._go = Store(folder / "store"), folder / "go"
        self._processes: list[subprocess.Popen[str]] = []

    def add(self, code: str, n: int) -> None:
        number = str(len(self._processes) + 1)
        command = [sys.executable, "-c", PRELUDE + code, str(self.store.root), str(self._go), number, str(n)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._processes.append(subprocess.Popen(command, text=True, env=environment, **pipes))  # type: ignore[call-overload]

    def start(self) -> None:
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        self._go.touch()

    def disperse(self) -> None:
        """End those that a failed test leaves behind."""
        for process in self._processes:
            process.kill()
            process.wait()

    def running(self) -> Iterator[None]:
        """Again and again until all are through; AssertionError with what one of them had to complain of."""
        while any(process.poll() is None for process in self._processes):
            yield
        for process in self._processes:
            _, said = process.communicate()
            assert process.returncode == 0, said


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(tmp_path)
    yield crowd
    crowd.disperse()


@pytest.mark.parametrize("writers", [2, 8])
def test_processes_share_a_store_while_others_read_verify_and_collect(crowd: Crowd, writers: int) -> None:
    n = 30
    for _ in range(writers):
        crowd.add(WRITER, n)
    crowd.add(READER, n)
    crowd.start()
    rounds = 0
    for _ in crowd.running():
        report = verify(crowd.store, quarantine=True)
        assert (report.problems, report.quarantined) == ((), 0)
        assert gc(crowd.store, [], dry_run=False).removals == ()
        rounds += 1
    assert rounds > 1
    assert len(list(iter_objects(crowd.store))) == n + 3 * writers
    assert verify(crowd.store).problems == ()
    assert list((Path(crowd.store.root) / "tmp").iterdir()) == []
    assert not (Path(crowd.store.root) / "quarantine").exists()


def test_gc_spares_what_a_run_longer_than_the_grace_period_has_made(crowd: Crowd) -> None:
    n = 60
    crowd.add(CLAIMING, n)
    crowd.start()
    rounds = 0
    for _ in crowd.running():
        assert gc(crowd.store, [], dry_run=False, workspace_only=rounds % 2 == 1).removals == ()
        rounds += 1
    assert rounds > 1
    assert len(list(iter_objects(crowd.store))) == n
    (reference,) = crowd.store.references().values()
    assert "unfinished" not in reference.summary


def test_a_run_that_is_through_while_its_claim_is_read_keeps_its_objects(
    crowd: Crowd, samples: type[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = crowd.store, samples.put(crowd.store)
    os.utime(store.path("features", key), (1, 1))
    claim = store.register(Artifact("features", 1, {}, {}, ((1, key),), {"unfinished": True}))
    read_bytes = Path.read_bytes

    def through_just_before(path: Path) -> bytes:
        if path == Path(store.root) / claim:
            store.register(Artifact("features", 1, {}, {}, ((1, key),), {}))
            store.unregister(claim)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", through_just_before)
    report = gc(store, [], dry_run=False)
    assert claim not in store.references(), "the run was not through while gc was at work"
    assert (report.removals, report.referenced) == ((), 1)


def test_what_is_used_while_gc_removes_it_is_given_back(
    crowd: Crowd, samples: type[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run finds the object present between gc's last look at it and the removal."""
    store, key = crowd.store, samples.put(crowd.store)
    folder = store.path("features", key)
    os.utime(folder, (1, 1))
    rename, found = Path.rename, []

    def used_just_before(source: Path, target: Path) -> Path:
        if source == folder:
            found.append(store.missing("features", [key]))
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", used_just_before)
        assert gc(store, [], dry_run=False).removals == ()
    assert found == [set()]
    assert store.check("features", key) == []
    assert list((Path(store.root) / "tmp").iterdir()) == []


def test_an_object_that_appears_while_it_is_asked_for_is_not_taken_for_damaged(
    crowd: Crowd, samples: type[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's rename falls between the reader's failed open and its look at the folder."""
    store, key = crowd.store, samples.recipe().key
    read_bytes = Path.read_bytes

    def not_there_yet(path: Path) -> bytes:
        if path.name != "object.json":
            return read_bytes(path)
        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        samples.put(store)
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", not_there_yet)
    assert store.get("features", key).attrs["image"] == "0.jpg"
    assert not (Path(store.root) / "quarantine").exists()


def test_what_gc_took_before_it_was_marked_is_missing(
    crowd: Crowd, samples: type[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """gc removes the object the moment a run looks for it: it is computed anew, never believed to be there."""
    store, key = crowd.store, samples.put(crowd.store)
    os.utime(store.path("features", key), (1, 1))
    utime = os.utime

    def removed_just_before(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(os, "utime", utime)
        gc(store, [], dry_run=False)
        utime(*args, **options)

    monkeypatch.setattr(os, "utime", removed_just_before)
    assert store.missing("features", [key]) == {key}


@pytest.mark.parametrize("offset_s", [-10 * 86400.0, 0.0])
def test_gc_goes_by_the_claim_where_the_clock_jumps_forward_in_a_run(
    crowd: Crowd, samples: type[Samples], monkeypatch: pytest.MonkeyPatch, offset_s: float
) -> None:
    """Ten days back, or not at all, and then ten days ahead: what a run has claimed stays, what nobody has goes."""
    store, now = crowd.store, time.time()
    key, other = (samples.recipe(i).key for i in (0, 1))
    store.register(Artifact("features", 1, {}, {}, ((1, key),), {"unfinished": True}))
    for i in (0, 1):
        samples.put(store, i)
        os.utime(store.path("features", samples.recipe(i).key), (now + offset_s, now + offset_s))
    monkeypatch.setattr(time, "time", lambda: now + 10 * 86400.0)
    assert [removal.entry.key for removal in gc(store, [], dry_run=False).removals] == [other]
    assert store.has("features", key)


def test_a_time_to_come_is_young_and_is_put_right_when_the_object_is_used(crowd: Crowd, samples: type[Samples]) -> None:
    store, key = crowd.store, samples.put(crowd.store)
    folder, then = store.path("features", key), time.time() + 10 * 86400.0
    os.utime(folder, (then, then))
    assert gc(store, [], dry_run=False).young == 1
    assert store.missing("features", [key]) == set()
    assert folder.stat().st_mtime < then - 86400.0
