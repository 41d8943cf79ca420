"""Threads that share out work which releases the GIL, the calling thread among them."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Crew:
    """``workers`` threads, one of which is the caller's.

    A caller that only waited would cost a wake-up each way; and a scheduler that has just seen it go to sleep tends to
    put two woken threads on its processor, while another idles: of work of some milliseconds half the gain.
    """

    def __init__(self, workers: int) -> None:
        self._others = max(0, workers - 1)
        self._pool = ThreadPoolExecutor(max(1, self._others), thread_name_prefix="svm")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()

    def map(self, work: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
        """``work`` of each tuple of arguments, in their order; each begun by whichever thread is free.

        After an exception no further call is begun; it is raised when all threads have come to an end.
        """
        calls = list(zip(*arguments, strict=True))
        results: list[Any] = [None] * len(calls)
        waiting = deque(range(len(calls)))

        def share() -> None:
            try:
                while waiting:
                    try:
                        i = waiting.popleft()
                    except IndexError:  # another thread was faster
                        return
                    results[i] = work(*calls[i])
            except BaseException:
                waiting.clear()
                raise

        helpers = [self._pool.submit(share) for _ in range(min(self._others, len(calls) - 1))]
        try:
            share()
        finally:
            for helper in helpers:
                helper.exception()  # waits
        for helper in helpers:
            helper.result()
        return results
