"""A process that has imported torch and the pipeline once, and runs ``rcnn`` in a forked copy of itself per request.

    python stage_server.py

Each line of stdin is a JSON request: ``argv``; ``root`` (folder), with ``fail_at`` (ENOSPC at the so-many-th write
there, from 1), ``kill_at`` (SIGKILL before the so-many-th call there, from 1), ``fsize`` (limit on the size of files),
``record`` (where to write down the calls there, as JSON lines), ``umask``, ``euid``. Each line of stdout is the answer:
``status``, ``said`` (stdout and stderr), ``writes``.
"""

import errno
import json
import os
import resource
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import other_user
import shim
import warm_rcnn
from forked import in_fork


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for in a child."""
    with tempfile.TemporaryFile("w+") as counted:
        status, text = in_fork(partial(_in_child, request, counted.fileno()))
        counted.seek(0)
        return {"status": status, "said": text, "writes": len(counted.read())}


def _in_child(request: dict[str, Any], counted: int) -> int:
    if "umask" in request:
        os.umask(request["umask"])
    if "euid" in request:
        other_user.become(request["euid"])
    if "root" in request:
        shim.install(Path(request["root"]), _watcher(request, counted))
    if "fsize" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["fsize"], resource.RLIM_INFINITY))
    return warm_rcnn.ended(request["argv"])


def _watcher(request: dict[str, Any], counted: int) -> shim.Watcher:
    fail_at, kill_at, write = request.get("fail_at", 0), request.get("kill_at", 0), os.write
    record = os.open(request["record"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if "record" in request else None
    seen, calls = [0], [0]

    def watch(call: str, paths: tuple[str, ...], data: bytes) -> None:
        calls[0] += 1
        if calls[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if record is not None:
            write(record, (json.dumps([call, list(paths), data.hex()]) + "\n").encode())
        if call == "write":
            seen[0] += 1
            write(counted, b".")
            if seen[0] == fail_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *paths)

    return watch


def main() -> None:
    warm_rcnn.load()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
