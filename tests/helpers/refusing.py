"""A folder that refuses every write, as a read-only file system does, or one without permission."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def refuse_writes(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """From now on nothing can be made, renamed or marked there: the error is ``number``."""

    def refused(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **options: Any) -> Any:
            writes = real is not os.open or rest[0] & os.O_CREAT
            if writes and str(path).startswith(str(folder)):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *rest, **options)

        return call

    for name in ("open", "mkdir", "rename", "replace", "utime", "unlink"):
        monkeypatch.setattr(os, name, refused(getattr(os, name)))
