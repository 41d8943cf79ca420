"""The Dask backend: the same objects as in threads, and what happens when something dies."""

import io
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest
from distributed import LocalCluster
from waiting import HANG_S, wait_until

from cache import Payload, Store, StoreFullError
from cache.errors import ExecutionError, InterruptedRun, StageError
from manifests import Dataset
from manifests.registry import register
from pipeline.context import RunContext
from pipeline.dask import cluster as dask_cluster
from pipeline.dask import flight as dask_flight
from pipeline.dask import needs as dask_needs
from pipeline.dask import runner as dask_runner
from pipeline.dask.needs import Needs, versions
from pipeline.dask.runner import DaskRunner
from pipeline.detectors import Layout
from pipeline.executor import Executor, Tally
from pipeline.local import LocalRunner
from pipeline.params import parse_params
from pipeline.progress import Reporter
from stages.contract import Compute, ImageTask
from stages.graph import root_nodes

# The workers cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
MakeTask = Callable[..., ImageTask]
Action = Callable[[ImageTask], None]


@dataclass(frozen=True)
class Toy(Compute):
    """``before``, then an object of what the task has."""

    before: Action = lambda task: None

    def __call__(self, task: ImageTask) -> Payload:
        self.before(task)
        value = task.recipe.params["value"]
        return Payload({"x": np.full(3, value, np.float32)}, {"count": 3, "image": task.image.file_name}, "hdf5")


class OnDevice(Toy):
    on_device = True


class Hooked(Reporter):
    """Progress and messages, for a test to look at and to act on."""

    def __init__(self, hook: Callable[[int], None] = lambda done: None) -> None:
        super().__init__("toy", io.StringIO())
        self.hook = hook
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        self.hook(done)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A running cluster of two workers; the tests drive it by its address."""
    options: dict[str, Any] = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as running:
        yield running


def execution(scheduler: str | None = None, workers: int = 2) -> Any:
    return SimpleNamespace(scheduler=scheduler, workers=workers, device="auto")


def run(
    store: Store, tasks: list[ImageTask], compute: Compute, cluster: Any = None, log: Hooked | None = None
) -> tuple[list[str], Tally]:
    """On ``cluster`` (an address, or one with an address), or on one that is started; None: two processes."""
    log, tally = log or Hooked(), Tally()
    address = getattr(cluster, "scheduler_address", cluster)
    runner = DaskRunner(execution(address), log)
    return Executor(store, runner, log, tally).compute(tasks, compute, unit="regions"), tally


def files(store: Store) -> dict[str, bytes]:
    root = Path(store.root) / "objects"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def spawned() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def test_a_started_cluster_gives_the_local_objects_and_leaves_nothing(
    tmp_path: Path, task: MakeTask, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = [task(i, i % 10) for i in range(12)]
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    tally = Tally()
    keys = Executor(here, LocalRunner(2), Hooked(), tally).compute(tasks, Toy(), unit="regions")
    before, log = spawned(), Hooked()
    assert run(there, tasks, Toy(), log=log) == (keys, tally)
    assert files(there) == files(here)
    assert len(files(here)) == 2 * 10
    assert spawned() <= before
    assert capfd.readouterr() == ("", "")
    assert log.lines[0].startswith("dask: 2 workers, 2 threads")
    again, tally = run(there, tasks, Toy(), cluster="tcp://not.there:1")  # nothing to compute, nothing to start
    assert (again, tally.computed, tally.reused) == (keys, 0, 10)


def test_workers_see_one_gpu_each_and_one_thread(
    tmp_path: Path, task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "count_devices", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b,7")
    note = tmp_path / "devices"

    def look(task: ImageTask) -> None:
        with note.open("a") as file:
            file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']} {os.environ['OMP_NUM_THREADS']}\n")
        while len(set(note.read_text().splitlines())) < 2:  # until both workers have one
            time.sleep(0.01)

    run(Store(tmp_path / "store"), [task(i, i) for i in range(4)], OnDevice(look))
    assert set(note.read_text().splitlines()) == {"3 1", "GPU-b 1"}


def test_problems_of_single_images_are_collected(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    def bad(task: ImageTask) -> None:
        if task.image.id in (2, 4):
            raise StageError(f"{task.image.file_name}: bad")

    store = Store(tmp_path)
    with pytest.raises(StageError) as error:
        run(store, [task(i, i) for i in range(6)], Toy(bad), cluster)
    assert str(error.value).splitlines() == ["2.png: bad", "4.png: bad"]
    _, tally = run(store, [task(i, i) for i in range(6)], Toy(), cluster)
    assert (tally.computed, tally.reused) == (2, 4)


def test_a_full_disk_stops_at_once(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    def full(task: ImageTask) -> None:
        raise StoreFullError("no space left")

    reached: list[int] = []
    with pytest.raises(StoreFullError, match="no space"):
        run(Store(tmp_path), [task(i, i) for i in range(200)], Toy(full), cluster, Hooked(reached.append))
    assert reached == [0]
    scheduler: Any = cluster.scheduler
    wait_until(lambda: not scheduler.tasks, "what was on its way is taken back")


def test_a_bug_names_the_image_and_the_remote_line(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    def bug(task: ImageTask) -> None:
        raise ZeroDivisionError

    def odd(task: ImageTask) -> None:
        raise Odd(1, 2)  # cannot be unpickled

    with pytest.raises(ZeroDivisionError) as error:
        run(Store(tmp_path), [task(7, 7)], Toy(bug), cluster)
    notes = "\n".join(error.value.__notes__)
    assert "while computing image 7.png" in notes
    assert "in bug\n" in notes
    with pytest.raises(RuntimeError, match="Odd: odd") as other:
        run(Store(tmp_path), [task(7, 7)], Toy(odd), cluster)
    assert "while computing image 7.png" in str(other.value)


@dataclass(frozen=True)
class Heavy(Toy):
    """A hundred megabytes, and a note of each unpacking."""

    note: Path = Path()
    network: bytes = b""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with self.note.open("a") as file:
            file.write(f"{os.getpid()}\n")

    def prepare(self) -> None:
        assert len(self.network) == 100 << 20


def test_the_work_travels_once_per_worker(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    note = tmp_path / "unpacked"
    boxes = np.arange(40, dtype=np.float32).reshape(10, 4)

    def check(task: ImageTask) -> None:
        assert (task.args["boxes"] == task.image.id + np.arange(40, dtype=np.float32).reshape(10, 4)).all()

    tasks = [task(i, i, {"boxes": boxes + i}) for i in range(12)]
    run(Store(tmp_path / "s"), tasks, Heavy(check, note=note, network=bytes(100 << 20)), cluster)
    unpacked = note.read_text().split()
    assert len(unpacked) == len(set(unpacked)) == 2


def test_few_tasks_are_on_their_way(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    known: list[int] = []
    scheduler: Any = cluster.scheduler
    log = Hooked(lambda done: known.append(len(scheduler.tasks)))
    run(Store(tmp_path), [task(i, i) for i in range(60)], Toy(), cluster, log)
    assert 2 < max(known) <= 2 * dask_flight._AHEAD + 2  # those that just came through may still be known


def kill_once(flag: Path) -> Action:
    """The process that takes image 3 is killed, the first time."""

    def act(task: ImageTask) -> None:
        if task.image.id == 3 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    flag, store = tmp_path / "flag", Store(tmp_path / "store")
    keys, tally = run(store, [task(i, i) for i in range(12)], Toy(kill_once(flag)), cluster)
    assert flag.exists()
    assert tally.computed == 12
    assert not store.missing("toy", keys)


def test_a_worker_that_does_not_come_back(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    """Killed with whatever would start it again; the others take its images."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    worker = subprocess.Popen([*command, "--no-dashboard"], env=os.environ | {"DOOMED": "1"}, cwd=tmp_path, **quiet)
    scheduler: Any = cluster.scheduler
    flag = tmp_path / "flag"

    def act(task: ImageTask) -> None:
        if "DOOMED" in os.environ:
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while not flag.exists():  # until the doomed one has got a task
            time.sleep(0.01)

    try:
        wait_until(lambda: len(scheduler.workers) == 3 or worker.poll() is not None, "a third worker")
        _, tally = run(Store(tmp_path / "store"), [task(i, i) for i in range(12)], Toy(act), cluster)
    finally:
        worker.kill()
    assert worker.wait() == -signal.SIGKILL
    assert (tally.computed, flag.exists()) == (12, True)


def test_an_image_that_was_near_two_deaths_gets_through_alone(tmp_path: Path, task: MakeTask) -> None:
    deaths = tmp_path / "deaths"

    def act(task: ImageTask) -> None:
        if task.image.id == 3 and (not deaths.exists() or deaths.stat().st_size < 1 + dask_cluster._ALLOWED_DEATHS):
            with deaths.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)

    assert run(Store(tmp_path / "store"), [task(i, i) for i in range(8)], Toy(act))[1].computed == 8


def test_an_image_that_kills_its_workers_is_named(
    tmp_path: Path, task: MakeTask, capfd: pytest.CaptureFixture[str]
) -> None:
    def act(task: ImageTask) -> None:
        if task.image.id == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    store, tasks = Store(tmp_path), [task(i, i) for i in range(8)]
    with pytest.raises(StageError) as error:
        run(store, tasks, Toy(act))
    assert str(error.value).startswith("3.png: every worker that took this image died of it")
    assert len(str(error.value).splitlines()) == 1
    assert store.missing("toy", [t.recipe.key for t in tasks]) == {tasks[3].recipe.key}
    assert capfd.readouterr() == ("", "")


def test_a_slow_worker_does_not_hold_the_others(tmp_path: Path, task: MakeTask, cluster: LocalCluster) -> None:
    store, tasks = Store(tmp_path), [task(i, i) for i in range(30)]
    others = [t.recipe.key for t in tasks[1:]]

    def act(task: ImageTask) -> None:
        deadline = time.monotonic() + HANG_S
        while task.image.id == 0 and store.missing("toy", others):
            if time.monotonic() > deadline:
                raise StageError("the others did not go on")
            time.sleep(0.01)

    assert run(store, tasks, Toy(act), cluster)[1].computed == 30


_SCHEDULER = """
import logging, sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, dashboard_address=None, silence_logs=logging.CRITICAL)
    print(cluster.scheduler_address, flush=True)
    time.sleep(3600)
"""


def test_a_scheduler_that_goes_away(tmp_path: Path, task: MakeTask, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scheduler.py").write_text(_SCHEDULER)
    scheduler = subprocess.Popen(
        [sys.executable, tmp_path / "scheduler.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert scheduler.stdout is not None
    with scheduler:
        address = scheduler.stdout.readline().strip()
        store, tasks, gone = Store(tmp_path / "store"), [task(i, i) for i in range(40)], tmp_path / "gone"

        def act(task: ImageTask) -> None:
            while task.image.id >= 20:  # so that some are not through, however late the scheduler is killed
                time.sleep(0.01)
                if gone.exists():
                    os._exit(1)

        log = Hooked(lambda done: scheduler.kill() if done == 5 else None)
        try:
            with pytest.raises(ExecutionError) as error:
                run(store, tasks, Toy(act), address, log)
        finally:
            gone.touch()
    assert f"the Dask scheduler at {address} went away" in str(error.value)
    assert "run the same command" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    tally = Tally()
    Executor(store, LocalRunner(1), Hooked(), tally).compute(tasks, Toy(), unit="regions")
    assert tally.reused >= 5
    assert tally.computed == 40 - tally.reused
    assert capfd.readouterr() == ("", "")


def test_a_scheduler_that_is_not_there(tmp_path: Path, task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_CONNECT_S", 1)
    with pytest.raises(ExecutionError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 .*`dask scheduler`"):
        run(Store(tmp_path), [task(1, 1)], Toy(), "tcp://127.0.0.1:9")


def test_an_interrupt_leaves_no_process(tmp_path: Path, task: MakeTask) -> None:
    def interrupt(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    before, store, tasks = spawned(), Store(tmp_path), [task(i, i) for i in range(40)]
    with pytest.raises(InterruptedRun):
        run(store, tasks, Toy(lambda task: time.sleep(0.02)), log=Hooked(interrupt))
    assert spawned() <= before
    left = store.missing("toy", [t.recipe.key for t in tasks])
    tally = Tally()
    Executor(store, LocalRunner(1), Hooked(), tally).compute(tasks, Toy(), unit="regions")
    assert tally.computed == len(left) < 40


def test_a_worker_of_other_code_is_refused(
    tmp_path: Path, task: MakeTask, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = versions() | {"stage features": "99", "rcnn": "0.0.1"}
    monkeypatch.setattr(dask_needs, "versions", lambda: other)
    with pytest.raises(ExecutionError) as error:
        run(Store(tmp_path), [task(1, 1)], Toy(), cluster)
    lines = str(error.value).splitlines()
    assert len(lines) == 4  # two workers
    features = f"stage features is {versions()['stage features']}, and 99 where"
    assert any(line.startswith("worker tcp://") and features in line for line in lines)
    assert not (tmp_path / "objects").exists()


def test_whoever_lacks_the_code_is_named(
    tmp_path: Path, task: MakeTask, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_runner, "dask_worker", SimpleNamespace(__name__="pipeline.of_tomorrow"))
    with pytest.raises(ExecutionError) as error:
        run(Store(tmp_path), [task(1, 1)], Toy(), cluster)
    lines = str(error.value).splitlines()
    assert [line.split(" tcp://")[0] for line in lines] == ["the scheduler", "worker", "worker"]
    assert all("has no pipeline.of_tomorrow; install this project there" in line for line in lines)


def test_the_context_names_store_and_images_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "artifacts/datasets/scenes"
    register(Dataset("scenes", ("a",), ()), folder, {}, tmp_path / "artifacts", source_format="made")
    monkeypatch.chdir(tmp_path)  # as `rcnn run` does; workers elsewhere have other working folders
    context = RunContext(root_nodes()["proposals"], Layout(Path()), parse_params({}), root_nodes())
    assert context.store.root == tmp_path / "artifacts"
    assert pickle.loads(pickle.dumps(context.image)).__self__.root == folder


def test_a_stage_that_cannot_work_there_is_one_line_per_worker(
    tmp_path: Path, task: MakeTask, cluster: LocalCluster
) -> None:
    class NoDevice(Toy):
        def prepare(self) -> None:
            raise StageError("execution.device: cuda, but torch finds no CUDA device; use auto or cpu")

    with pytest.raises(ExecutionError, match=r"^worker tcp://.*: execution\.device: cuda") as error:
        run(Store(tmp_path), [task(i, i) for i in range(30)], NoDevice(), cluster)
    assert len(str(error.value).splitlines()) == 2


def test_needs_are_of_what_the_first_task_shows(tmp_path: Path, task: MakeTask) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    first = task(1, 1)
    key = store.put(first.recipe, Toy()(first))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").touch()
    reading = ImageTask(first.image, first.recipe, reads={"toy": key, "absent": key})
    needs = Needs.of(store, [reading], tmp_path / "images")
    assert not needs.problems()
    (tmp_path / "images/1.png").unlink()
    elsewhere = Needs(needs.versions, other, needs.objects, needs.files)
    lines = elsewhere.problems()
    assert len(lines) == 2
    assert f"finds no toy object {key[:12]} in the store {other.root}; mount" in lines[0]
    assert f"finds no image {tmp_path / 'images/1.png'}; mount" in lines[1]
    assert not Needs.of(store, [reading], tmp_path / "images").files  # what nobody sees is asked of nobody
    archive = tmp_path / "images.zip"
    archive.write_bytes(b"of images")
    assert Needs.of(store, [reading], archive).files == (archive,)


class Elsewhere(Store):
    """A store that is another folder on the workers."""

    def __reduce__(self) -> Any:
        return Store, (Path(self.root) / "elsewhere",)


def test_a_worker_with_another_folder_at_the_stores_path(
    tmp_path: Path, task: MakeTask, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_flight, "_VISIBLE_S", 0.0)
    with pytest.raises(ExecutionError, match=rf"worker tcp://.* stored 1\.png, and it is not in {tmp_path}"):
        run(Elsewhere(tmp_path), [task(1, 1)], Toy(), cluster)
