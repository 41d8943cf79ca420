"""Large pictures on the command line: what they cost is said before, how far they are while, memory is bounded."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cache.text import format_bytes
from manifests.images import DEFAULT_MAX_PIXELS, upright_size
from pipeline.progress import format_seconds
from stages.contract import Log
from stages.detections.search import Report

TOGETHER_BYTES = 2 * 2**30  # for all pictures that are worked on at a time; one that needs more is worked on alone
_LARGE_PX = 8_000_000  # looked at for regions: about a minute, 0.8 GB
_SAVING_PX = 500  # the width that the authors take for ILSVRC
_QUIET_S = 5.0  # a picture that takes less is not spoken of
_AGAIN_S = 30.0  # a part that goes on is told again


class Searching(Protocol):
    """Tells what an image of some size takes: a ``Detector``, a ``Segmenter``."""

    def pixels_searched(self, width: int, height: int) -> int: ...

    def bytes_needed(self, width: int, height: int) -> int: ...


def note_of_large(files: Sequence[Path], detector: Searching) -> str | None:
    """Say in one line what the large ones among these pictures will take, and what would save it; None without any."""
    sizes = {path: size for path in files if (size := upright_size(path)) is not None}
    sizes = {path: (w, h) for path, (w, h) in sizes.items() if w * h <= DEFAULT_MAX_PIXELS}  # others are refused
    worked = {path: size for path, size in sizes.items() if detector.pixels_searched(*size) > _LARGE_PX}
    if not worked:
        return None
    path = max(worked, key=lambda one: detector.pixels_searched(*worked[one]))
    width, height = worked[path]
    searched = detector.pixels_searched(width, height)
    share = searched / (_SAVING_PX * -(-height * _SAVING_PX // width))
    memory = format_bytes(detector.bytes_needed(width, height))
    these = "1 picture is" if len(worked) == 1 else f"{len(worked)} pictures are"
    return (
        f"{these} searched for regions at more than {_LARGE_PX // 10**6} million pixels, which takes minutes; the "
        f"largest, {path} ({width} x {height}), up to {memory} of memory (at a time "
        f"no more than {format_bytes(TOGETHER_BYTES)} are worked on, or one that needs more). With "
        f"proposals.resize_width_px: {_SAVING_PX} 1/{share:.0f} of its pixels would be searched, by a detector "
        "trained so (docs/own-data.md, large pictures)"
    )


class Room:
    """Memory for what is worked on at a time: who comes waits for its turn until there is enough."""

    def __init__(self, nbytes: int = TOGETHER_BYTES) -> None:
        self._free, self._all = nbytes, nbytes
        self._turn = threading.Lock()  # a large one is not passed by small ones for ever
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, nbytes: int) -> Iterator[None]:
        """Have ``nbytes`` inside; all of it, alone, where they are more than there are."""
        mine = min(nbytes, self._all)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: mine <= self._free)
            self._free -= mine
        try:
            yield
        finally:
            with self._changed:
                self._free += mine
                self._changed.notify_all()


class Watch:
    """Tells what is done to a picture that takes long: its part, when it has changed or has gone on for long."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._running: dict[Path, tuple[float, str]] = {}  # since when, and the part
        self._told: dict[Path, tuple[float, str]] = {}  # when last, and which part

    @contextmanager
    def over(self, path: Path) -> Iterator[Report]:
        """Watch one picture; gives what is to be called with each part of the work on it."""
        since = self._clock()

        def report(part: str, done: int = 0, total: int = 0) -> None:
            with self._lock:
                self._running[path] = (since, f"{part}, {done} of {total}" if total else part)

        report("reading")
        try:
            yield report
        finally:
            with self._lock:
                del self._running[path]
                self._told.pop(path, None)

    def look(self) -> None:
        """Tell about the picture that is worked on longest, if it is time."""
        now = self._clock()
        with self._lock:
            if not self._running:
                return
            path, (since, part) = min(self._running.items(), key=lambda item: item[1][0])
            told, former = self._told.get(path, (since, ""))
            same = part.partition(",")[0] == former.partition(",")[0]
            if now - told < (_AGAIN_S if same else _QUIET_S):
                return
            self._told[path] = (now, part)
        self._log.info(f"{path}: {part}, {format_seconds(now - since)} so far")

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look once a second inside, from a thread of its own."""
        stop = threading.Event()

        def every_second() -> None:
            while not stop.wait(1.0):
                self.look()

        thread = threading.Thread(target=every_second, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
