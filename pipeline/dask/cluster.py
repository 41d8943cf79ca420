"""A Dask cluster to compute on: a running one, or one of this machine, started for as long as the work takes."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.utils import silence_logging_cmgr

from cache.cores import usable_cores
from cache.errors import ExecutionError
from pipeline.hardware import VISIBLE, assigned_devices, count_devices
from stages.contract import Log

T = TypeVar("T")

_BOKEH = "bokeh"  # draws Dask's dashboard
_CONNECT_S = 20
_START_S = 300  # a worker process of a busy machine takes its time
# A task that was on this many dying workers plus one is given back as suspect (and then tried alone).
_ALLOWED_DEATHS = 1
_CONFIG = {
    "distributed.admin.large-graph-warning-threshold": "1 GiB",  # boxes of many images are no mistake
    "distributed.scheduler.worker-saturation": 1.0,  # a task waits where any worker can take it
    "distributed.comm.timeouts.connect": f"{_CONNECT_S}s",
}


@contextmanager
def connected(execution: Any, *, on_device: bool, n_tasks: int, log: Log) -> Iterator[Client]:
    """A client of the cluster that parameter group ``execution`` names; a started one ends with the ``with``.

    Raises ``ExecutionError`` where the scheduler cannot be reached or the cluster does not start.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_CONFIG))
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # what matters of it is told here, in one line
        if execution.scheduler is None:
            client = stack.enter_context(_started(_workers(execution, on_device, n_tasks)))
        else:
            client = stack.enter_context(_reached(execution.scheduler))
        threads = client.nthreads()
        log.info(f"dask: {len(threads)} workers, {sum(threads.values())} threads; {_dashboard(client)}")
        yield client


def asked(client: Client, call: Callable[..., T], *args: Any, **options: Any) -> T:
    """What a call of the client gives; ``ExecutionError`` where the scheduler does not answer any more."""
    try:
        return call(*args, **options)
    except (OSError, CancelledError) as error:
        raise gone(client) from error


def address_of(client: Client) -> str:
    """The address of a client's scheduler, which may have left since."""
    scheduler: Any = client.scheduler  # None to Dask's types, and only before a client connects
    return str(scheduler.address)


def gone(client: Client) -> ExecutionError:
    """The error that says what to do when the scheduler has left."""
    return ExecutionError(
        f"execution.scheduler: the Dask scheduler at {address_of(client)} went away; what was computed is in "
        "the store: start it and its workers again, or name another, and run the same command, which goes on from there"
    )


def find_on_scheduler(client: Client, module: str) -> object:
    """What the scheduler's Python knows of a module; None where it has none of that name."""
    try:
        return asked(client, client.run_on_scheduler, find_spec, module)
    except ModuleNotFoundError:  # of the package that it would be in
        return None


def _dashboard(client: Client) -> str:
    """Where the dashboard is, or what it lacks: without bokeh its page says nothing but that."""
    if find_on_scheduler(client, _BOKEH) is None:
        return "no dashboard: it needs bokeh where the scheduler runs (pip install 'rcnn[dashboard]')"
    return f"dashboard {client.dashboard_link}"


def worker_environments(workers: int, n_tasks: int, devices: list[str], cores: int) -> list[dict[str, str]]:
    """The environment of each worker process: as many as ``workers`` says (0: one per device or core), no idle ones."""
    if devices:
        chosen = devices[: workers or len(devices)]
        return [{VISIBLE: device} for device in chosen[:n_tasks]]
    return [{} for _ in range(min(workers or cores, n_tasks))]


def _workers(execution: Any, on_device: bool, n_tasks: int) -> list[dict[str, str]]:
    devices: list[str] = []
    if on_device and execution.device != "cpu":
        devices = assigned_devices(os.environ.get(VISIBLE), count_devices())
    return worker_environments(execution.workers, n_tasks, devices, usable_cores())


@contextmanager
def _started(environments: list[dict[str, str]]) -> Iterator[Client]:
    common = {"silence_logs": logging.CRITICAL, "dashboard": False, "host": "127.0.0.1"}
    # one thread each: a GPU takes one batch at a time, and a core one image; memory is the user's affair, as in threads
    options = {**common, "nthreads": 1, "memory_limit": None}
    workers = {i: {"cls": Nanny, "options": {**options, "env": env}} for i, env in enumerate(environments)}
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "port": 0,
            "allowed_failures": _ALLOWED_DEATHS,
            "dashboard": find_spec(_BOKEH) is not None,
            "dashboard_address": "127.0.0.1:0",
        },
    }
    with ExitStack() as stack:
        try:
            with _deaf_to_interrupts():
                cluster = stack.enter_context(SpecCluster(workers=workers, scheduler=scheduler))
                client = stack.enter_context(Client(cluster, set_as_default=False))
                client.wait_for_workers(len(environments), timeout=_START_S)
        except (OSError, RuntimeError) as error:  # TimeoutError is an OSError
            raise ExecutionError(
                f"execution.backend: a Dask cluster does not start on this machine ({' '.join(str(error).split())}); "
                "use local, or fewer workers"
            ) from error
        yield client


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Worker processes begun here ignore Ctrl-C, which a terminal sends to them too: this one ends them in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def _reached(address: str) -> Iterator[Client]:
    try:
        client = Client(address, set_as_default=False, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise ExecutionError(
            f"execution.scheduler: no Dask scheduler answers at {address} within {_CONNECT_S} s; start one there "
            "(`dask scheduler`), correct the address, or set it to null for a cluster of this machine"
        ) from error
    with client:
        yield client
