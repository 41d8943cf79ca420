"""What the benchmarks have in common: both sides take turns in one process, medians count, a figure is a ratio.

A benchmark is a module ``benchmarks/bench_NAME.py`` with ``figures(device) -> Iterator[Figure]`` that ends with
``if __name__ == "__main__": harness.main(figures)``; alone it prints its figures, and ``python -m benchmarks`` runs
them all.
"""

import argparse
import contextlib
import ctypes
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.cores import usable_cores

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h

CORES = usable_cores()


@dataclass(frozen=True)
class Figure:
    """One row of the table. ``ratio`` is how good this is beside ``peer`` (larger is better) and ``reach`` its aim.

    ``ours`` and ``peer`` say what was measured on either side, in words and units; figures without a peer have
    neither ratio nor reach.
    """

    what: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    reach: float | None = None
    note: str = ""

    @property
    def reached(self) -> str:
        """ "yes", "no", or "" where there is nothing to reach."""
        if self.ratio is None or self.reach is None:
            return ""
        return "yes" if self.ratio >= self.reach else "no"


class Quiet:
    """The log of a stage, unheard."""

    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def progress(self, done: int, total: int, unit: str, note: str = "") -> None: ...


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def take_turns(*sides: Callable[[], object], rounds: int = 5, warm_up: bool = True) -> list[list[float]]:
    """Seconds of each side in each round, the sides one after another, so that other load meets them alike."""
    if warm_up:
        for side in sides:
            side()
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, taken in zip(sides, times, strict=True):
            taken.append(seconds(side))
    return times


def median_ratio(theirs: Iterable[float], ours: Iterable[float]) -> float:
    """The median over rounds of how many times faster this is."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def fitted_exponent(sizes: Iterable[float], costs: Iterable[float]) -> float:
    """b of the least-squares fit cost = a * size**b."""
    return float(np.polyfit(np.log(list(sizes)), np.log(list(costs)), 1)[0])


def photographs() -> Path | None:
    """The folder of real photographs (``instances.json`` in COCO form and ``images/``): RCNN_PHOTOGRAPHS, or coco128
    where it lies beside the checkout; None where there is neither."""
    named = os.environ.get("RCNN_PHOTOGRAPHS")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data" / "coco128"
    return folder if (folder / "instances.json").exists() else None


def read_bgr(path: Path) -> NDArray[np.uint8]:
    """A photograph's pixels, uint8 [H, W, 3] BGR."""
    import cv2

    pixels = cv2.imread(str(path))
    if pixels is None:
        sys.exit(f"{path}: cannot be read as an image")
    return np.asarray(pixels, np.uint8)


def keep_memory(n_bytes: int) -> None:
    """Take memory and keep it for this process, so that neither side pays for getting it from the system.

    A virtual machine's host may hand it out slowly, [M] 4 ms per 2 MiB, and takes back within seconds what no process
    holds. glibc's allocator is told to give nothing back; another one ignores this. Before any thread is started.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1)):
            mallopt(option, value)
    np.ones(n_bytes, np.uint8)


def main(figures: Callable[[str], Iterator[Figure]], devices: Sequence[str] = ("cpu",)) -> None:
    """The command line of one benchmark: ``--device``, one of those that it measures; ``--json`` for the runner."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=devices, default="cpu")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    arguments = parser.parse_args()
    for figure in figures(arguments.device):
        print(json.dumps(asdict(figure)) if arguments.json else as_text(figure), flush=True)


def as_text(figure: Figure) -> str:
    """One figure as a line for people."""
    ratio = "" if figure.ratio is None else f"  ratio {figure.ratio:.2f}"
    reach = "" if figure.reach is None else f" (reach {figure.reach:g}: {figure.reached})"
    peer = f"  |  {figure.peer}" if figure.peer else ""
    note = f"\n    {figure.note}" if figure.note else ""
    return f"{figure.what}: {figure.ours}{peer}{ratio}{reach}{note}"
