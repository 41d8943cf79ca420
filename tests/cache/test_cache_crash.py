"""Killed, out of space, or raced at any moment: an object is whole or absent."""

import errno
import os
import signal
import subprocess
import sys
import time
from builtins import KeyboardInterrupt, MemoryError, SystemExit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_samples import Samples
from waiting import HANG_S

from cache import Store, StoreError, StoreFullError, atomic_write
from cache.listing import iter_objects
from cache.maintenance import gc, verify
from cache.recipe import Form

ROOT = Path(__file__).parents[2]
PRELUDE = """
import os, resource, signal, sys, time
from pathlib import Path
import numpy as np
import h5py, zarr
from cache import Payload, Recipe, Store, StoreFullError
def recipe(i): return Recipe("features", 1, {}, {"image": i})
def payload(i):
    rng = np.random.default_rng(i)
    arrays = {"fc7": rng.standard_normal((300, 64)).astype("f2")}
    return Payload(arrays, {"image": f"{i}.jpg", "count": 300}, "hdf5" if i % 2 else "zarr")
"""


def python(code: str, *args: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, err
    return out


KILLED_AT_EVERY_CALL = """
CALLS = ["open", "write", "fsync", "close", "mkdir", "rename", "replace", "unlink", "rmdir"]
def put_until(root, i, n):
    left = [n]
    def counted(call):
        def wrapper(*args, **kwargs):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*args, **kwargs)
        return wrapper
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    store = Store(root)
    store.put(recipe(i), payload(i))
root, i = Path(sys.argv[1]), int(sys.argv[2])
n = 0
while True:
    pid = os.fork()
    if pid == 0:
        put_until(root / str(n), i, n)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        break
    n += 1
print(n, os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("i", [0, 1], ids=["zarr", "hdf5"])
def test_killed_before_any_file_system_call(tmp_path: Path, i: int) -> None:
    n, status = map(int, finish(python(KILLED_AT_EVERY_CALL, tmp_path, i)).split())
    assert status == 0
    assert n > 20, "the calls were not counted"
    whole = 0
    for moment in range(n):
        store = Store(tmp_path / str(moment))
        assert verify(store).problems == ()
        whole += sum(1 for _ in iter_objects(store))
        gc(store, [], dry_run=False, grace_s=-1)
        leftovers = [path for path in Path(store.root).rglob("*") if path.is_file() and path.name != "store.json"]
        assert leftovers == []
    # killed after the rename: there, though the caller was never told
    assert 0 < whole < n
    assert sum(1 for _ in iter_objects(Store(tmp_path / str(n)))) == 1


def test_killed_at_random_moments(tmp_path: Path) -> None:
    code = """
store = Store(sys.argv[1])
for i in range(int(sys.argv[2]), 10**6):
    print(i, store.put(recipe(i), payload(i)), flush=True)
"""
    told: dict[str, str] = {}
    for round_, delay_s in enumerate((0.05, 0.11, 0.2)):
        process = python(code, tmp_path, 1000 * round_)
        assert process.stdout is not None
        number, key = process.stdout.readline().split()
        told[number] = key
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        told.update((words[0], words[1]) for words in map(str.split, out.splitlines()) if len(words[-1]) == 64)
    store = Store(tmp_path)
    assert verify(store).problems == ()
    assert store.missing("features", told.values()) == set(), "put returned before the object was there"


def test_processes_race_for_the_same_keys(tmp_path: Path) -> None:
    code = """
store, me, go = Store(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
for i in [*range(12), *range(100 * me, 100 * me + 4)]:
    key = store.put(recipe(i), payload(i))
    assert (store.get("features", key).arrays["fc7"] == payload(i).arrays["fc7"]).all()
"""
    root, go = tmp_path / "store", tmp_path / "go"
    processes = [python(code, root, me, go) for me in (1, 2, 3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    go.touch()
    for process in processes:
        finish(process)
    report = verify(Store(root))
    assert report.problems == ()
    assert report.checked.objects == 12 + 3 * 4
    assert list((root / "tmp").iterdir()) == []
    assert not (root / "quarantine").exists()


@pytest.mark.parametrize("i", [2, 3], ids=["zarr", "hdf5"])
def test_file_size_limit(tmp_path: Path, i: int) -> None:
    code = """
store, i = Store(sys.argv[1]), int(sys.argv[2])
store.put(recipe(0), payload(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    store.put(recipe(i), payload(i))
except StoreFullError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert list((store.root / "tmp").iterdir()) == []
assert not store.has("features", recipe(i).key)
store.put(recipe(i), payload(i))
"""
    message = finish(python(code, tmp_path, i)).strip()
    assert message.startswith(f"{tmp_path}: File too large while writing features object")
    assert f"of image {i}.jpg" in message
    assert "nothing already computed is lost" in message
    assert "\n" not in message
    report = verify(Store(tmp_path))
    assert (report.checked.objects, report.problems) == (2, ())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["write", "fsync", "mkdir", "rename"])
def test_no_space_left(store: Store, samples: Samples, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    samples.put(store, 0)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StoreFullError, match=r"nothing already computed is lost.*run the same command again"):
            samples.put(store, 1)
    assert list((Path(store.root) / "tmp").iterdir()) == []
    assert [info.image for info in iter_objects(store)] == ["000000.jpg"]
    samples.put(store, 1)


@pytest.mark.parametrize("form", ["hdf5", "zarr"])
def test_everything_is_on_disk_before_it_is_visible(
    store: Store, samples: Samples, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    samples.put(store, 0, form)
    synced: list[Path] = []
    renamed: list[tuple[set[Path], Path]] = []
    fsync, rename = os.fsync, os.rename

    def noting_fsync(fd: int) -> None:
        fsync(fd)
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())

    def noting_rename(source: Path, target: Path) -> None:
        renamed.append(({source, *Path(source).rglob("*")} - set(synced), Path(target)))
        rename(source, target)
        synced.clear()

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    key = samples.put(store, 1, form)
    folder = store.path("features", key)
    assert renamed == [(set(), folder)], "these were not synced before the rename"
    assert synced == [folder.parent]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_an_interrupt_leaves_no_temporary(
    store: Store,
    samples: Samples,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    error: type[BaseException],
) -> None:
    samples.put(store, 0)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, interrupted)
        with pytest.raises(error):
            samples.put(store, 1)
    assert list((Path(store.root) / "tmp").iterdir()) == []


def test_an_input_output_error_is_one_line(store: Store, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(StoreError, match="Input/output error while writing") as caught:
            samples.put(store, 1)
    assert not isinstance(caught.value, StoreFullError)


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    atomic_write(path, b"old")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("write", "fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(StoreFullError, match=r"writing metrics\.json"):
                atomic_write(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(StoreError, match="No such file or directory"):
        atomic_write(tmp_path / "no" / "folder", b"")


def test_atomic_write_takes_pieces_and_keeps_the_old_file_when_one_does_not_come(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    given: list[bytes | memoryview] = [b"o", b"", memoryview(b"ld")]
    atomic_write(path, iter(given))
    assert path.read_bytes() == b"old"

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise MemoryError

    with pytest.raises(MemoryError):
        atomic_write(path, pieces())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_object_that_appears_while_it_is_looked_for_is_no_damage(
    store: Store, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = samples.recipe().key
    reads: list[Path] = []
    read_bytes = Path.read_bytes

    def too_early(path: Path) -> bytes:
        reads.append(path)
        if len(reads) == 1:
            samples.put(store)  # just after the first look
            raise FileNotFoundError(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", too_early)
    assert store.get("features", key).attrs["image"] == "000000.jpg"
    assert store.has("features", key)
