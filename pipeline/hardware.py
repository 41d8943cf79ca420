"""Which GPUs there are, and which of them each worker process gets."""

import ctypes
import subprocess
import sys
from pathlib import Path

from cache.errors import ExecutionError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def assigned_devices(visible: str | None, count: int) -> list[str]:
    """Each worker's CUDA_VISIBLE_DEVICES: one usable device each, out of the caller's own value.

    ``visible`` is that value (None: unset, all devices), ``count`` how many devices CUDA finds under it: fewer than it
    lists where an entry is wrong, since CUDA ignores that entry and all after it. Indices and UUIDs stay as written.
    """
    listed = [str(i) for i in range(count)] if visible is None else [name.strip() for name in visible.split(",")]
    return listed[:count]


def count_devices() -> int:
    """CUDA devices that this process may use, counted by another one: CUDA is not initialised in this one."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:  # no driver: spare the seconds of importing torch
        return 0
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return int(done.stdout.split()[-1])
    except (ValueError, IndexError):
        said = (done.stderr.splitlines() or ["it said nothing"])[-1]
        raise ExecutionError(f"CUDA devices cannot be counted by torch ({said}); mend it, or set device: cpu") from None


def has_bfloat16() -> bool:
    """Return whether this machine's CPU computes bfloat16 in hardware; elsewhere it is slower than float32."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(text.split())
