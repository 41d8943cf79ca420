"""Seconds that the parts of one image's work take, for whoever runs it; no result depends on them.

The work says which part it is in (:func:`part`, :func:`switch`); who called it collects (:func:`collected`). Where
nobody does, nothing is measured. Times are a thread's own; several threads share the cores and, on CUDA, the device.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class _Watch:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._part: str | None = None
        self._since = 0.0

    def switch(self, part: str | None) -> str | None:
        """Enter a part, or none; returns the one that was left."""
        now, former = time.perf_counter(), self._part
        if former is not None:
            self.seconds[former] = self.seconds.get(former, 0.0) + now - self._since
        self._part, self._since = part, now
        return former


_WATCH: ContextVar[_Watch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def collected() -> Iterator[dict[str, float]]:
    """Seconds by part of what this thread does inside; complete when it ends."""
    watch = _Watch()
    token = _WATCH.set(watch)
    try:
        yield watch.seconds
    finally:
        _WATCH.reset(token)


@contextmanager
def part(name: str, device: "torch.device | None" = None) -> Iterator[None]:
    """Time spent inside is ``name``'s, but for that of parts inside it; ``device`` is waited for at both ends."""
    former = switch(name, device)
    try:
        yield
    finally:
        switch(former, device)


def switch(name: str | None, device: "torch.device | None" = None) -> str | None:
    """Count the time from now on as ``name``'s, inside the present :func:`part`; returns whose it was."""
    watch = _WATCH.get()
    if watch is None:
        return None
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return watch.switch(name)
