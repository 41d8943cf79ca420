"""What runs on a Dask worker.

The work (networks, models, the store) is sent once to each worker, as a plugin that the scheduler also hands to
workers that come later or are started again. It is unpacked by the first task, in that task's thread: importing torch
takes seconds, during which the worker must answer the scheduler.
"""

import asyncio
import pickle
import threading
import traceback
from dataclasses import dataclass
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from cache.errors import ExecutionError, StageError
from pipeline.executor import Outcome, Work
from stages.contract import ImageTask

from .needs import Needs


@dataclass
class WorkPlugin(WorkerPlugin):
    """One run's work on one worker. ``packed`` is the pickled :class:`Work`."""

    name: str
    needs: Needs
    packed: bytes
    _address: str = ""
    _work: Work | None = None
    _lock: Any = None

    def setup(self, worker: Worker) -> None:
        """Called when the plugin arrives."""
        self._address = worker.address
        self._lock = threading.Lock()

    def work(self) -> Work:
        """The work, ready to be called. ``ExecutionError`` names this worker and why it cannot do it."""
        with self._lock:
            if self._work is None:
                problems = self.needs.problems()
                if problems:
                    raise ExecutionError("\n".join(f"worker {self._address}: {line}" for line in problems))
                work: Work = pickle.loads(self.packed)
                try:
                    work.compute.prepare()
                except StageError as error:
                    raise ExecutionError(f"worker {self._address}: {error}") from None
                self._work = work
        return self._work


def _plugin(worker: Worker, name: str) -> WorkPlugin:
    plugin = worker.plugins[name]
    assert isinstance(plugin, WorkPlugin)
    return plugin


async def fitness(name: str, dask_worker: Worker) -> str | None:
    """Unpack the work on this worker; what makes it unfit, else None."""
    try:
        await asyncio.to_thread(_plugin(dask_worker, name).work)
    except ExecutionError as error:
        return str(error)
    return None


def compute_here(name: str, task: ImageTask) -> tuple[str, Outcome]:
    """Do one task: this worker's address, and what became of the task."""
    worker = get_worker()
    try:
        work = _plugin(worker, name).work()
    except ExecutionError as error:
        return worker.address, Outcome(error=error)
    return worker.address, _portable(work(task))


def _portable(outcome: Outcome) -> Outcome:
    """Return the outcome with an error that can travel, and says where it came from."""
    error = outcome.error
    if error is None:
        return outcome
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return Outcome(error=RuntimeError(f"{type(error).__name__}: {error}\n{''.join(error.__notes__)}"))
    return outcome
