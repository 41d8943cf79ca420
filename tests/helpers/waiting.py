"""Waits for what another thread or process does, on a machine of any speed."""

import time
from collections.abc import Callable

# Only a hang takes so long: how long a step takes tells of the machine, and of what else it does.
HANG_S = 3600.0


def wait_until(condition: Callable[[], object], what: str, poll_s: float = 0.01) -> None:
    """Wait until ``condition()`` is true; AssertionError, naming ``what`` was waited for, where it hangs."""
    end = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {HANG_S:.0f} s"
        time.sleep(poll_s)
