"""Computes per-image objects in threads: what the store lacks, each key once, surviving a kill at any moment.

Threads suffice because the heavy parts (numba kernels, OpenCV, torch) release the interpreter lock. Each finished
object is put into the store at once, so whatever was computed before a kill is found again.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

from cache import Payload, Store, StoreError
from manifests import DatasetError
from stages.common.contract import Compute, ImageTask, Log
from stages.common.errors import StageError

from .errors import InterruptedRun


@dataclass
class Tally:
    """What one stage's per-image work came to."""

    computed: int = 0
    reused: int = 0
    regions: int = 0


@contextmanager
def _stop_flag(stop: threading.Event) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stop.set()
        raise


def compute_images(
    store: Store,
    tasks: Sequence[ImageTask],
    compute: Compute,
    *,
    workers: int,
    log: Log,
    unit: str,
    tally: Tally,
) -> list[str]:
    """Compute and store every task whose object is missing; returns one key per task, in order.

    A problem with one image does not stop the others: all such problems are raised together at the end, after
    everything else has been stored. A full disk stops at once. On an interrupt, images in progress are finished and
    stored.

    Raises
    ------
    StageError
        One line per image that could not be computed.
    StoreError
        The store cannot take objects.
    InterruptedRun
        Ctrl-C or SIGTERM.
    """
    keys = [task.recipe.key for task in tasks]
    missing = _missing(store, tasks, keys)
    todo = {key: task for task, key in zip(tasks, keys, strict=True) if key in missing}
    tally.reused += len(set(keys)) - len(todo)
    if todo:
        _run(store, list(todo.values()), compute, workers, log, unit, tally)
    log.info(f"{len(todo)} images computed, {len(set(keys)) - len(todo)} found in the store")
    return keys


def _missing(store: Store, tasks: Sequence[ImageTask], keys: Sequence[str]) -> set[str]:
    by_stage: dict[str, list[str]] = {}
    for task, key in zip(tasks, keys, strict=True):
        by_stage.setdefault(task.recipe.stage, []).append(key)
    return {key for stage, stage_keys in by_stage.items() for key in store.missing(stage, stage_keys)}


def _run(
    store: Store,
    tasks: Sequence[ImageTask],
    compute: Compute,
    workers: int,
    log: Log,
    unit: str,
    tally: Tally,
) -> None:
    stop = threading.Event()

    def one(task: ImageTask) -> int | None:
        if stop.is_set():
            return None
        payload: Payload = compute(task)
        store.put(task.recipe, payload)
        return int(payload.attrs["count"])

    problems: list[str] = []
    regions = 0
    log.progress(0, len(tasks), "images")
    with ThreadPoolExecutor(workers, thread_name_prefix="image") as pool, _stop_flag(stop):
        futures = {pool.submit(one, task): task for task in tasks}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                task = futures[future]
                try:
                    regions += future.result() or 0
                    tally.computed += 1
                except (StageError, DatasetError) as error:
                    problems.append(str(error))
                except StoreError:
                    raise
                except Exception as error:
                    error.add_note(f"while computing image {task.image.file_name}")
                    raise
                log.progress(done, len(tasks), "images", f"{regions} {unit}")
        except KeyboardInterrupt:
            stop.set()
            log.info("stopping: finishing the images in progress; what is computed is kept")
            raise InterruptedRun from None
    tally.regions += regions
    if problems:
        raise StageError("\n".join(sorted(problems)))
