"""What one case may take, held by the operating system: a bound on memory that a child process sets for itself."""

import resource
from pathlib import Path

MEMORY_BYTES = 1 << 30  # of address space, above what the process has once it has imported everything
CASE_LIMIT_S = 30  # a hang, not a slow case: a sound one takes milliseconds


def bound_memory() -> None:
    """From here on an allocation beyond the bound fails, in Python and in C libraries alike."""
    used = _status_bytes("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def peak_bytes() -> int:
    """Largest resident set of this process so far."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024
