"""Threads that share out work which releases Python's global lock."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Threads:
    """``workers`` threads that share out calls; one of them is the caller's own. Use it in a ``with`` statement.

    A plain ThreadPoolExecutor lets its caller sleep. For work of a few milliseconds that costs half of the gain
    (measured): waking threads takes time, and the scheduler tends to put two of them on the caller's processor while
    another one idles.
    """

    def __init__(self, workers: int) -> None:
        self._others = max(0, workers - 1)
        self._pool = ThreadPoolExecutor(max(1, self._others), thread_name_prefix="kernel")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()

    def map(self, work: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
        """Call ``work`` with each tuple of arguments; whichever thread is free begins the next call.

        A single call is made by the caller's thread, and may use these threads itself; several must not, since they
        could wait for each other. After an exception no further call is begun, and it is raised when all calls that
        were begun have ended.

        Returns:
            The results, in the order of the arguments.
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
