"""Computes images in threads of this process.

Threads suffice because the heavy parts (numba kernels, OpenCV, torch) release the interpreter lock.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

from stages.contract import ImageTask

from .executor import Outcome, Work


@dataclass(frozen=True)
class LocalRunner:
    """``workers`` threads; on an early end the images in progress are finished and stored."""

    workers: int

    @contextmanager
    def outcomes(self, work: Work, tasks: Sequence[ImageTask]) -> Iterator[Iterator[tuple[ImageTask, Outcome]]]:
        """See :class:`pipeline.executor.Runner`."""
        work.compute.prepare()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="image") as pool:
            futures = {pool.submit(work, task): task for task in tasks}
            try:
                yield ((futures[future], future.result()) for future in as_completed(futures))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
