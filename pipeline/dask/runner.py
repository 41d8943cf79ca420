"""Computes images on a Dask cluster; objects go from the workers into the store, only counts come back."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client

from cache.errors import ExecutionError
from pipeline.executor import Outcome, Work
from stages.contract import ImageTask, Log

from . import worker as dask_worker
from .cluster import address_of, asked, connected, find_on_scheduler
from .flight import Flight
from .needs import Needs
from .worker import WorkPlugin, fitness


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
    _check_code(client)
    try:
        asked(client, client.register_plugin, plugin, name=plugin.name)
        unfit = _unfit(asked(client, client.run, fitness, plugin.name, on_error="return"))
        if unfit:
            raise ExecutionError("\n".join(sorted(unfit)))
        yield
    finally:
        if client.status == "running":
            with suppress(Exception):  # the scheduler or a worker may go away just now
                client.unregister_worker_plugin(plugin.name)


def _check_code(client: Client) -> None:
    """Check that what the plugin is made of can be imported everywhere; asked by what every Python has."""
    workers = asked(client, client.run, find_spec, dask_worker.__name__, on_error="return")
    scheduler = {f"the scheduler {address_of(client)}": find_on_scheduler(client, dask_worker.__name__)}
    answers = {f"worker {worker}": answer for worker, answer in workers.items()} | scheduler
    lacking = [who for who, answer in answers.items() if answer is None or isinstance(answer, ModuleNotFoundError)]
    if lacking:
        what = f"has no {dask_worker.__name__}; install this project there, of the same version"
        raise ExecutionError("\n".join(sorted(f"{who}: {what}" for who in lacking)))


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
