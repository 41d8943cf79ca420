"""Computes images on a Dask cluster; objects go from the workers into the store, only counts come back."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client

from stages.common.contract import ImageTask, Log

from .dask_cluster import asked, connected
from .dask_flight import Flight
from .dask_needs import Needs
from .dask_worker import WorkPlugin, fitness
from .errors import ExecutionError
from .executor import Outcome, Work


@dataclass(frozen=True)
class DaskRunner:
    """``execution`` is the parameter group; ``images`` the folder of the images that the work reads, if it does."""

    execution: Any
    log: Log
    images: Path | None = None

    @contextmanager
    def outcomes(self, work: Work, tasks: Sequence[ImageTask]) -> Iterator[Iterator[tuple[ImageTask, Outcome]]]:
        """See :class:`pipeline.executor.Runner`. Raises ``ExecutionError`` where the cluster cannot do the work."""
        name = f"{tasks[0].recipe.stage}-{uuid.uuid4().hex}"
        plugin = WorkPlugin(name, Needs.of(work.store, tasks, self.images), cloudpickle.dumps(work))
        on_device = work.compute.on_device
        with (
            connected(self.execution, on_device=on_device, n_tasks=len(tasks), log=self.log) as client,
            _installed(client, plugin),
        ):
            flight = Flight(client, name, work.store, self.log)
            try:
                yield flight.outcomes(tasks)
            finally:
                flight.cancel()


@contextmanager
def _installed(client: Client, plugin: WorkPlugin) -> Iterator[None]:
    """The plugin on every worker, each of which is fit for the work."""
    try:
        asked(client, client.register_plugin, plugin, name=plugin.name)
    except ModuleNotFoundError as error:
        raise ExecutionError(
            f"a worker of {client.scheduler.address} has no package {error.name}; install this project on every worker"
        ) from error
    try:
        unfit = _unfit(asked(client, client.run, fitness, plugin.name, on_error="return"))
        if unfit:
            raise ExecutionError("\n".join(sorted(unfit)))
        yield
    finally:
        if client.status == "running":
            with suppress(OSError):  # the scheduler may go away just now
                client.unregister_worker_plugin(plugin.name)


def _unfit(answers: Mapping[str, object]) -> list[str]:
    """The workers' answers that are complaints.

    An ``OSError`` is of a worker that died meanwhile; the one that takes its place is checked by its first task.
    """
    named = {
        worker: f"worker {worker}: {answer!r}" if isinstance(answer, Exception) else answer
        for worker, answer in answers.items()
        if not isinstance(answer, OSError)
    }
    return [str(line) for line in named.values() if line is not None]
