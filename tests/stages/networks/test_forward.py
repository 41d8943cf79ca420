"""The context that makes bits depend on the arguments alone: its threads, what it puts back, and who may be inside."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
import torch
from waiting import HANG_S

from stages.networks.forward import CPU, deterministic

CUDA = torch.device("cuda")  # what is tested here needs none


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before, cv_before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(cv_before)


def counts() -> tuple[int, int]:
    return torch.get_num_threads(), cv2.getNumThreads()


def test_one_thread_inside_and_the_former_number_afterwards() -> None:
    with deterministic():
        assert counts() == (1, 1)
        with deterministic(CPU):
            assert counts() == (1, 1)
        assert counts() == (1, 1)
    assert counts() == (2, 2)
    with pytest.raises(KeyError), deterministic():
        raise KeyError
    assert counts() == (2, 2)


def test_opencvs_number_comes_back_with_the_last_caller_torchs_with_each() -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> tuple[int, int, int]:
        torch.set_num_threads(2)
        with deterministic():
            inside.set()
            leave.wait(HANG_S)
            during = torch.get_num_threads()
        return during, *counts()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(stay)
        inside.wait(HANG_S)
        with deterministic():
            assert counts() == (1, 1)
        assert counts() == (2, 1)  # the other is still inside
        leave.set()
        assert other.result(HANG_S) == (1, 2, 2)
    assert counts() == (2, 2)


@pytest.mark.parametrize(("device", "most"), [(CPU, 4), (CUDA, 1)])
def test_on_cuda_one_computes_at_a_time_while_others_may_prepare(device: torch.device, most: int) -> None:
    together, at_once, computing, preparing = threading.Barrier(4), threading.Barrier(most), [0], [0]
    seen: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work(_: int) -> None:
        with deterministic():
            with lock:
                preparing[0] += 1
            together.wait(HANG_S)  # all four prepare at once, on CUDA too
            with deterministic(device), deterministic(device):
                with lock:
                    computing[0] += 1
                    seen.append((computing[0], preparing[0]))
                at_once.wait(HANG_S)  # so many do compute beside each other, however slow the machine is
                time.sleep(0.05)  # for more to come, if they could
                with lock:
                    computing[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert max(n for n, _ in seen) == most
    assert {n for _, n in seen} == {4}


def test_convolutions_on_cuda_are_deterministic_at_full_precision_inside() -> None:
    before = (torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32)
    torch.backends.cudnn.benchmark = True
    try:
        with deterministic(CUDA):
            flags = torch.backends.cudnn
            assert (flags.deterministic, flags.allow_tf32, flags.benchmark) == (True, False, False)
        assert torch.backends.cudnn.benchmark
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32) == before
    finally:
        torch.backends.cudnn.benchmark = False
