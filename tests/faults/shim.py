"""Python's file-system calls, seen one by one: to fail at the n-th, or to be written down.

Every write of this program goes through Python (`os`, or files opened by `open`), also those of libraries, which are
given memory to write to. Only calls below one folder count.
"""

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Called before each call with its name and path(s); may raise. The data is that of a write.
Watcher = Callable[[str, tuple[str, ...], bytes], None]
_PATH_CALLS = ("mkdir", "unlink", "remove", "rmdir", "rename", "replace")


def install(folder: Path, watcher: Watcher) -> None:
    """From now on, tell ``watcher`` of each ``create``, ``write``, ``fsync`` and of the calls above in this process."""
    root = os.path.realpath(folder)

    def tell(call: str, *paths: str, data: bytes = b"") -> None:
        if all(path == root or path.startswith(f"{root}/") for path in paths):
            watcher(call, paths, data)

    _patch_os(tell)
    _patch_open(tell)


def _patch_os(tell: Callable[..., None]) -> None:
    real_open, real_write, real_fsync = os.open, os.write, os.fsync

    def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            tell("create", _absolute(path, dir_fd))
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def write(fd: int, data: Any) -> int:
        tell("write", _path_of(fd), data=bytes(data))
        return real_write(fd, data)

    def fsync(fd: Any) -> None:
        tell("fsync", _path_of(fd))
        real_fsync(fd)

    os.open, os.write, os.fsync = open_, write, fsync
    for name in _PATH_CALLS:
        setattr(os, name, _told(getattr(os, name), name, tell))


def _told(real: Callable[..., Any], name: str, tell: Callable[..., None]) -> Callable[..., Any]:
    call = {"remove": "unlink", "replace": "rename"}.get(name, name)

    def wrapper(path: Any, *rest: Any, **options: Any) -> Any:
        paths = [_absolute(path, options.get("dir_fd"))]
        if call == "rename":
            paths.append(_absolute(rest[0], None))
        tell(call, *paths)
        return real(path, *rest, **options)

    return wrapper


def _patch_open(tell: Callable[..., None]) -> None:
    real_open = io.open

    class Told(io.FileIO):
        def write(self, data: Any) -> int:
            tell("write", _path_of(self.fileno()), data=bytes(data))
            return super().write(data)

    def open_(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
        if "w" not in mode or "+" in mode:
            return real_open(file, mode, buffering, *args, **options)
        if not isinstance(file, int):
            tell("create", _absolute(file, None))
        buffered = io.BufferedWriter(Told(file, mode.replace("b", "").replace("t", "")))
        if "b" in mode:
            return buffered
        named = dict(zip(("encoding", "errors", "newline"), args, strict=False))
        return io.TextIOWrapper(buffered, **{**named, **options})

    builtins.open = io.open = open_


def _absolute(path: Any, dir_fd: int | None) -> str:
    joined = Path(_path_of(dir_fd) if dir_fd is not None else Path.cwd(), path)
    # the last part is not followed: a rename or an unlink is of the entry itself
    return str(joined.parent.resolve() / joined.name)


def _path_of(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return ""
