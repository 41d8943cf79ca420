"""How many cores this process may use."""

import os


def usable_cores() -> int:
    """Return how many cores the process may run on: those of its affinity, where the system has that, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reading_threads() -> int:
    """Return how many threads read and decode pictures: a core each, at most 8, for the disk has no use for more."""
    return min(8, usable_cores())
