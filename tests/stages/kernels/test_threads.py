"""Work shared out among threads, the caller's among them."""

import threading
import time

import pytest
from waiting import HANG_S

from stages.kernels.threads import Threads


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_results_in_the_order_of_the_arguments(workers: int, count: int) -> None:
    with Threads(workers) as threads:
        assert threads.map(lambda a, b: (a, b), range(count), "abcdefg"[:count]) == list(
            zip(range(count), "abcdefg", strict=False)
        )


def test_the_caller_works_too_beside_the_others() -> None:
    """Three calls that wait for each other come to an end only in three threads at once, one of them the caller's."""
    meeting = threading.Barrier(3, timeout=HANG_S)

    def call(_: int) -> threading.Thread:
        meeting.wait()
        return threading.current_thread()

    with Threads(3) as threads:
        met = threads.map(call, range(3))
    assert len(set(met)) == 3
    assert threading.current_thread() in met


def test_one_worker_is_the_caller() -> None:
    with Threads(1) as threads:
        assert set(threads.map(lambda _: threading.current_thread(), range(4))) == {threading.current_thread()}


@pytest.mark.parametrize("failing", [0, 3])
def test_an_exception_reaches_the_caller_once_no_thread_is_at_work(failing: int) -> None:
    at_work: list[int] = []

    def call(i: int) -> None:
        at_work.append(i)
        try:
            time.sleep(0.01)
            if i == failing:
                raise ValueError("call")
        finally:
            at_work.remove(i)

    with Threads(2) as threads:
        with pytest.raises(ValueError, match="call"):
            threads.map(call, range(6))
        assert not at_work
        assert threads.map(lambda i: i, range(3)) == [0, 1, 2]


@pytest.mark.parametrize("callers", [True, False])
def test_after_an_exception_in_any_thread_no_further_call_is_begun(callers: bool) -> None:
    met = threading.Barrier(2, timeout=HANG_S)
    begun: list[int] = []

    def call(i: int) -> None:
        begun.append(i)
        if i < 2:
            met.wait()  # one call in each thread
            if (threading.current_thread() is caller) == callers:
                raise ValueError("call")
        time.sleep(0.01)

    caller = threading.current_thread()
    with Threads(2) as threads, pytest.raises(ValueError, match="call"):
        threads.map(call, range(60))
    assert len(begun) < 30
