"""The tasks of one run on their way through a Dask cluster: a bounded number at a time, each brought to an end."""

import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from distributed import Client, Future, KilledWorker

from cache import Store
from cache.errors import ExecutionError
from pipeline.executor import Outcome
from stages.contract import ImageTask, Log

from .cluster import address_of, asked, gone
from .worker import compute_here

_AHEAD = 3  # tasks per thread that the scheduler knows of: enough that no worker waits, however many images there are
_POLL_S = 1.0
_COUNT_S = 5.0  # workers are counted this often, since they come and go
_VISIBLE_S = 120.0  # a network file system may hide a new file for a minute

_Future = Future[tuple[str, Outcome]]  # what `compute_here` returns: the worker's address, what became of the task


class Flight:
    """Runs tasks by the work that is installed on the workers under ``name``."""

    def __init__(self, client: Client, name: str, store: Store, log: Log) -> None:
        self._client, self._name, self._log = client, name, log
        self._written = _Written(store)
        self._done: queue.SimpleQueue[_Future] = queue.SimpleQueue()
        self._flying: dict[object, tuple[ImageTask, _Future]] = {}
        self._capacity: int | None = None
        self._counted = 0.0

    def outcomes(self, tasks: Sequence[ImageTask]) -> Iterator[tuple[ImageTask, Outcome]]:
        """Each task once. A task whose workers died is tried again alone, after all others.

        So a task that kills its workers is told from those that were only near it.
        """
        suspects = []
        for task, future in self._finished(tasks, self._name, alone=False):
            if _killed(future):
                suspects.append(task)
            else:
                yield task, self._outcome(task, future)
        for task, future in self._finished(suspects, f"{self._name}-alone", alone=True):
            yield task, _deadly(task) if _killed(future) else self._outcome(task, future)
        self._written.wait()

    def cancel(self) -> None:
        """Take back what has not come through; an image in progress may still be finished and stored."""
        if self._flying and self._client.status == "running":
            with suppress(Exception):  # the scheduler may be gone, and what ended the flight matters more
                self._client.cancel([future for _, future in self._flying.values()])

    def _finished(self, tasks: Sequence[ImageTask], group: str, *, alone: bool) -> Iterator[tuple[ImageTask, _Future]]:
        """Keep the scheduler supplied; each task with its future when that is through."""
        waiting = enumerate(tasks)
        for _ in range(len(tasks)):
            room = (1 if alone else self._room()) - len(self._flying)
            self._submit(list(islice(waiting, max(0, room))), group)
            yield self._next()

    def _submit(self, batch: Sequence[tuple[int, ImageTask]], group: str) -> None:
        if not batch:
            return
        tasks, keys = [task for _, task in batch], [(group, i) for i, _ in batch]
        names = [self._name] * len(batch)
        futures = asked(self._client, self._client.map, compute_here, names, tasks, key=keys, pure=False)
        for task, future in zip(tasks, futures, strict=True):
            self._flying[future.key] = task, future
            future.add_done_callback(self._done.put)

    def _next(self) -> tuple[ImageTask, _Future]:
        while True:
            try:
                future = self._done.get(timeout=_POLL_S)
            except queue.Empty:
                self._room()  # says so where no worker is left
                continue
            return self._flying.pop(future.key)

    def _room(self) -> int:
        """How many tasks the scheduler should know of now."""
        if self._client.status != "running":
            raise gone(self._client)
        now = time.monotonic()
        if self._capacity is None or now - self._counted >= _COUNT_S:
            threads = sum(asked(self._client, self._client.nthreads).values())
            if not threads and self._capacity != 0:
                self._log.warning(f"no worker at {address_of(self._client)}; waiting for one (docs/dask.md)")
            self._capacity, self._counted = _AHEAD * threads, now
        return max(1, self._capacity)

    def _outcome(self, task: ImageTask, future: _Future) -> Outcome:
        """What the worker says, or what Dask says of it."""
        if future.status == "error":
            error = asked(self._client, future.exception)
            error.add_note(f"while a Dask worker took image {task.image.file_name}")
            return Outcome(error=error)
        said: tuple[str, Outcome] = asked(self._client, future.result)  # cancelled where the connection broke
        worker, outcome = said
        if outcome.error is None and outcome.problem is None:
            self._written.by(worker, task)
        return outcome


class _Written:
    """Whether what each worker says that it wrote is in the store that this process sees."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: set[str] = set()
        self._unseen: dict[str, tuple[float, ImageTask]] = {}  # by worker its first object, and until when to look

    def by(self, worker: str, task: ImageTask) -> None:
        """``worker`` has put the task's object. ``ExecutionError`` where an earlier one does not appear."""
        if worker not in self._seen:
            self._unseen.setdefault(worker, (time.monotonic() + _VISIBLE_S, task))
        self._look()

    def wait(self) -> None:
        """Look until every worker is known to write into this store; ``ExecutionError`` where one does not."""
        while self._unseen:
            self._look()
            time.sleep(_POLL_S if self._unseen else 0)

    def _look(self) -> None:
        for worker, (deadline, task) in list(self._unseen.items()):
            if self._store.has(task.recipe.stage, task.recipe.key):
                del self._unseen[worker]
                self._seen.add(worker)
            elif time.monotonic() > deadline:
                raise ExecutionError(
                    f"worker {worker} stored {task.image.file_name}, and it is not in {self._store.root} as seen from "
                    "here: the worker has another folder under that path; mount the same one on both"
                )


def _killed(future: _Future) -> bool:
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _deadly(task: ImageTask) -> Outcome:
    return Outcome(
        problem=f"{task.image.file_name}: every worker that took this image died of it (out of memory, or a crash in a "
        "library: the worker's log and `dmesg` say more); give the workers more memory, or leave the image out"
    )
