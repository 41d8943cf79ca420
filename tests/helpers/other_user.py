"""Another user in this process, who may be unable to enter the folders that the program and Python lie in.

Root's home is closed to others, and a checkout there, or a virtual environment, with it. What another user may do to a
store is tested with the program that is loaded here, so modules that are not yet loaded are loaded as root all the
same, whichever those are after what ran before; so is what numba has compiled of them, which lies beside them.
"""

import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from numba.core.caching import FunctionCache

NOBODY = 65534


def become(user: int) -> None:
    """Have the effective user and group ``user`` from here on; the real one stays root."""
    os.setegid(user)
    os.seteuid(user)
    _import_as_root()


def become_for_good(user: int, groups: Sequence[int]) -> None:
    """Be the user ``user`` in its own group and ``groups``; of root only the right to import is left."""
    os.setgroups(groups)
    os.setgid(user)
    os.setresuid(user, user, 0)
    _import_as_root()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Let file permissions hold in a block, even where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    finder = _import_as_root()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        os.seteuid(0)
        importlib.invalidate_caches()


def _import_as_root() -> "_Finder":
    finder = _Finder()
    # before the finders of editable installations, which fail at a folder that they may not enter
    sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, finder)
    for name in ("load_overload", "save_overload"):
        setattr(FunctionCache, name, _as_root(getattr(FunctionCache, name)))
    return finder


def _as_root(method: Callable[..., Any]) -> Callable[..., Any]:
    """Give a method root's rights; for good, since root itself gains none by it."""

    @functools.wraps(method)
    def call(*arguments: Any) -> Any:
        with _ROOT:
            return method(*arguments)

    return method if hasattr(method, "__wrapped__") else call


class _Root:
    """Root's rights in a block, in all threads, until the last block has ended."""

    def __init__(self) -> None:
        self._lock, self._depth, self._user = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._depth:
                self._user = os.geteuid()
                os.seteuid(0)
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                os.seteuid(self._user)


_ROOT = _Root()


class _Finder:
    """Finds as root what nobody has found before it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        with _ROOT:
            importlib.invalidate_caches()  # what could not be listed before counts as empty
            spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec

    def invalidate_caches(self) -> None:
        pass


class _Loader:
    """Loads as root; otherwise the loader that it wraps."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> Any:
        with _ROOT:
            return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with _ROOT:
            self._inner.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
