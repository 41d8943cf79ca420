"""Images or feature maps kept in memory up to a limit: reading one costs more than taking a window out of it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)


class ArrayCache(Generic[K]):
    """Arrays by what names them, the least recently used dropped first; for use from several threads.

    Two threads that miss the same array both read it, which is harmless. The limit holds between calls: arrays in use
    by callers, and one larger than the limit, are not counted.
    """

    def __init__(self, read: Callable[[K], NDArray[Any]], limit_bytes: int) -> None:
        self._read = read
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[K, NDArray[Any]] = OrderedDict()
        self._lock = Lock()
        self.held_bytes = 0

    def __getitem__(self, name: K) -> NDArray[Any]:
        """What ``read(name)`` gives: an image's pixels uint8 [H, W, 3], or a feature map."""
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
        array = self._read(name)
        with self._lock:
            if name not in self._held and array.nbytes <= self._limit_bytes:
                self._held[name] = array
                self.held_bytes += array.nbytes
            while self.held_bytes > self._limit_bytes:
                self.held_bytes -= self._held.popitem(last=False)[1].nbytes
        return array
