"""The executor: computes each missing key once, isolates a bad image, stops in order."""

import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from cache import Payload, Recipe, Store, StoreError
from cache.environment import Environment
from cache.errors import InterruptedRun, StageError
from pipeline.executor import Executor, Tally
from pipeline.local import LocalRunner
from pipeline.progress import Reporter
from stages.contract import Compute, ImageTask
from stages.stopwatch import part

MakeTask = Callable[..., ImageTask]


def payload(task: ImageTask) -> Payload:
    values = np.full(3, task.recipe.params["value"], np.float32)
    return Payload(arrays={"x": values}, attrs={"count": 3, "image": task.image.file_name}, form="hdf5")


@dataclass(frozen=True)
class Toy(Compute):
    """``function``, and a record of being prepared."""

    function: Callable[[ImageTask], Payload]
    prepared: list[int] = field(default_factory=list)

    def prepare(self) -> None:
        self.prepared.append(1)

    def __call__(self, task: ImageTask) -> Payload:
        assert len(self.prepared) == 1
        return self.function(task)


def run(
    store: Store,
    tasks: list[ImageTask],
    function: Callable[[ImageTask], Payload] = payload,
    workers: int = 3,
    log: Reporter | None = None,
) -> tuple[list[str], Tally]:
    tally = Tally()
    executor = Executor(store, LocalRunner(workers), log or Reporter("toy", io.StringIO()), tally)
    return executor.compute(tasks, Toy(function), unit="regions"), tally


def test_seconds_of_the_parts_are_medians_over_the_computed_images(
    tmp_path: Path, task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    took = {0: 60.0, 1: 1.0, 2: 3.0, 3: 2.0, 4: 5.0}  # the first compiles something

    def compute(t: ImageTask) -> Payload:
        with part("rest"):
            now[0] += 0.5
            with part("conv"):
                now[0] += took[t.image.id]
        return payload(t)

    tasks = [task(i, i) for i in took]
    _, tally = run(Store(tmp_path), tasks, compute, workers=1)
    assert tally.per_image == {"conv": 3.0, "rest": 0.5}
    assert run(Store(tmp_path), tasks, compute, workers=1)[1].per_image == {}


def test_computes_what_is_missing_once(tmp_path: Path, task: MakeTask) -> None:
    store = Store(tmp_path)
    calls = []
    lock = threading.Lock()

    def compute(t: ImageTask) -> Payload:
        with lock:
            calls.append(t.image.id)
        return payload(t)

    keys, tally = run(store, [task(1, 10), task(2, 20), task(3, 10)], compute)
    assert len(calls) == 2  # images 1 and 3 have one recipe
    assert keys[0] == keys[2] != keys[1]
    assert (tally.computed, tally.reused, tally.regions) == (2, 0, 6)
    again, tally = run(store, [task(1, 10), task(2, 20), task(4, 40)], compute)
    assert len(calls) == 3
    assert (tally.computed, tally.reused) == (1, 2)
    assert store.get("toy", again[2]).arrays["x"].tolist() == [40, 40, 40]


def test_one_bad_image_does_not_cost_the_others(tmp_path: Path, task: MakeTask) -> None:
    store = Store(tmp_path)

    def compute(t: ImageTask) -> Payload:
        if t.image.id in (2, 4):
            raise StageError(f"{t.image.file_name}: bad")
        return payload(t)

    with pytest.raises(StageError) as error:
        run(store, [task(i, i) for i in range(6)], compute)
    assert str(error.value).splitlines() == ["2.png: bad", "4.png: bad"]
    _, tally = run(store, [task(i, i) for i in range(6)])
    assert (tally.computed, tally.reused) == (2, 4)


def test_a_bug_names_the_image(tmp_path: Path, task: MakeTask) -> None:
    def compute(t: ImageTask) -> Payload:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        run(Store(tmp_path), [task(7, 7)], compute)
    assert error.value.__notes__ == ["while computing image 7.png"]


def test_a_store_that_cannot_write_stops_the_run(
    tmp_path: Path, task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    calls = []

    def put(recipe: Recipe, payload: Payload, environment: Environment) -> str:
        calls.append(recipe.key)
        raise StoreError("no space left")

    monkeypatch.setattr(store, "put", put)
    with pytest.raises(StoreError, match="no space"):
        run(store, [task(i, i) for i in range(50)], workers=1)
    assert len(calls) < 50


def test_interrupt_keeps_what_is_in_progress(tmp_path: Path, task: MakeTask) -> None:
    store = Store(tmp_path)
    tasks = [task(i, i) for i in range(40)]

    class Interrupting(Reporter):
        def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
            if done == 5:
                raise KeyboardInterrupt

    with pytest.raises(InterruptedRun):
        run(store, tasks, workers=2, log=Interrupting("t", io.StringIO()))
    left = store.missing("toy", [t.recipe.key for t in tasks])
    _, tally = run(store, tasks)
    assert tally.computed == len(left) < 40


def test_workers_do_not_change_the_keys(tmp_path: Path, task: MakeTask) -> None:
    tasks = [task(i, i) for i in range(8)]
    one, _ = run(Store(tmp_path / "a"), tasks, workers=1)
    many, _ = run(Store(tmp_path / "b"), tasks, workers=5)
    assert one == many
