"""Run cases of containment_cases under watch, each in a folder of its own: ``python tests/fuzz/watched.py CASE...``.

Prints as JSON, for each, what it opened, listed or changed in ``outside/`` (an inotify watch, which sees C libraries
too, and an audit hook), what it wrote anywhere but in ``inside/``, and the error that the user would see.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

_FOLLOWED = ("os.chmod", "os.chown", "os.truncate", "os.utime", "os.setxattr", "os.removexattr")
_NOT_FOLLOWED = ("os.remove", "os.rmdir", "os.mkdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_IN_NONBLOCK = os.O_NONBLOCK
_IN_OPENED_OR_CHANGED = 0x2 | 0x4 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800


class Watch:
    """Notes every touch of ``outside`` and every write outside ``inside``, from ``start`` on."""

    def __init__(self) -> None:
        self.on = False
        sys.addaudithook(self._hook)

    def start(self, inside: Path, outside: Path) -> None:
        self.inside, self.outside = str(inside), str(outside)
        self.touched: list[str] = []
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(_IN_NONBLOCK)
        for folder in [folder for folder, _, _ in os.walk(self.outside)]:  # all of them first: walking opens them
            if self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_OPENED_OR_CHANGED) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", folder)
        self.on = True

    def stop(self) -> list[str]:
        self.on = False
        try:
            events = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            events = b""
        os.close(self._fd)
        return sorted({*self.touched, *(["inotify saw outside/ opened or changed"] if events else [])})

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            self._note(event, path, writes=bool(flags & _WRITING))
        elif event in ("os.listdir", "os.scandir"):
            self._note(event, arguments[0], writes=False)
        elif event in _FOLLOWED:
            self._note(event, arguments[0], writes=True)
        elif event in _NOT_FOLLOWED:
            self._note(event, arguments[0], writes=True, folder=arguments[-1], follow=False)
        elif event in ("os.rename", "os.link", "os.symlink"):
            folders = arguments[2:] if event != "os.symlink" else (-1, arguments[2])
            for path, folder in list(zip(arguments[:2], folders, strict=True))[event == "os.symlink" :]:
                self._note(event, path, writes=True, folder=folder, follow=False)

    def _note(self, event: str, path: Any, *, writes: bool, folder: int = -1, follow: bool = True) -> None:
        if isinstance(path, int) or path is None:
            return
        self.on = False  # what follows asks the file system itself
        text = os.fsdecode(path)
        base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()  # noqa: PTH109, PTH115
        text = os.path.join(base, text)  # noqa: PTH118
        head, name = os.path.split(text)
        real = os.path.realpath(text) if follow else f"{os.path.realpath(head)}/{name}"
        if _below(real, self.outside) or (writes and not _below(real, self.inside) and not real.startswith("/dev/")):
            self.touched.append(f"{event} {real}")
        self.on = True


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _watched(watch: Watch, name: str) -> dict[str, Any]:
    from containment_cases import CASES, lay_out_outside

    from cache.errors import USER_ERRORS

    folder = Path.cwd().resolve() / name
    inside, outside = folder / "inside", folder / "outside"
    inside.mkdir(parents=True)
    lay_out_outside(outside)
    action = CASES[name](inside, outside)
    before = {str(p): p.read_bytes() for p in sorted(outside.rglob("*")) if p.is_file()}
    watch.start(inside, outside)
    said = ""
    try:
        said = str(action())
    except USER_ERRORS as error:
        said = str(error)
    touched = watch.stop()
    if before != {str(p): p.read_bytes() for p in sorted(outside.rglob("*")) if p.is_file()}:
        touched.append("the files of outside/ are not what they were")
    return {"touched": touched, "said": said}


def main() -> None:
    watch = Watch()
    print(json.dumps({name: _watched(watch, name) for name in sys.argv[1:]}))


if __name__ == "__main__":
    main()
