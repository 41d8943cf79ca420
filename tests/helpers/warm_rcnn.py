"""``rcnn`` without the seconds that importing torch takes: a process imports all once and forks for each command.

    python warm_rcnn.py SOCKET       # serves commands until stdin closes

:func:`write_script` writes a program that hands its arguments, folder, environment and standard streams to that process
and ends as the fork ends: to a shell, to DVC and to a test it is ``rcnn``. What a command leaves in memory is gone with
its fork. A test of starting, of signals or of other processes (Dask's) runs a real one.
"""

import importlib
import marshal
import os
import pkgutil
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from types import ModuleType

ROOT = Path(__file__).parents[2]
_SCRIPT = """#!{python} -IS
import marshal, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
socket.send_fds(server, [b"."], [0, 1, 2])
request = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))
server.sendall(len(request).to_bytes(8, "big") + request)
status = int(server.recv(64) or 1)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@contextmanager
def served(script: Path, **started_with: str) -> Iterator[Path]:
    """Run the process as long as the block lasts, with ``script`` as its ``rcnn``.

    ``started_with``: variables of the environment that libraries read once, such as OMP_NUM_THREADS.
    """
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        environment = {**os.environ, **started_with, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, __file__, address]
        with Popen(command, cwd=ROOT, env=environment, stdin=PIPE, stdout=PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(_SCRIPT.format(python=sys.executable, socket=address), encoding="utf-8")
            script.chmod(0o755)
            yield script
            process.communicate()


def load() -> None:
    """Import what any command imports, but for Dask."""
    # cp437 is zipfile's, of pretrain's .npz: another user may not read this Python's folder
    for name in ("h5py", "sklearn.svm", "torch", "torchvision", "zarr", "encodings.cp437"):
        importlib.import_module(name)
    for package in ("stages", "manifests", "cache", "pipeline"):
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if not module.name.startswith("pipeline.dask"):  # takes seconds, and few commands use it
                importlib.import_module(module.name)


def _serve(address: str) -> None:
    load()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(8)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [], 1)
        if sys.stdin in ready:
            return
        if listening in ready:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                os._exit(_answer(client))
            client.close()
        while _reaped():
            pass


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _answer(client: socket.socket) -> int:
    """Run one command in a fork of this fork, which may end in any way, and say how it did."""
    _, streams, _, _ = socket.recv_fds(client, 1, 3)
    length = int.from_bytes(_received(client, 8), "big")
    argv, folder, environment = marshal.loads(_received(client, length))
    child = os.fork()
    if child == 0:
        client.close()
        os._exit(_command(argv, folder, environment, streams))
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, client.fileno()], [], [])[0]:  # whoever asked is gone
        os.kill(child, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    client.sendall(str(status).encode())
    return 0


def _received(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += client.recv(length - len(data))
    return data


def _command(argv: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.modules["__main__"] = ModuleType("__main__")  # what a process that this one starts would import again
    return ended(argv)


def ended(argv: list[str]) -> int:
    """Run ``rcnn`` with these arguments in this process; its exit status, with everything said."""
    from pipeline.cli import main

    sys.argv = ["rcnn", *argv]
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
