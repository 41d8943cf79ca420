"""Decoded images kept in memory up to a limit, because decoding costs more than warping a window."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class ImageCache:
    """Images by index, the least recently used dropped first; for use from several threads.

    Two threads that miss the same image both decode it, which is harmless. The limit holds between calls:
    images in use by callers, and one larger than the limit, are not counted.
    """

    def __init__(self, read: Callable[[int], Any], limit_bytes: int) -> None:
        self._read = read
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[int, Image] = OrderedDict()
        self._lock = Lock()
        self.held_bytes = 0

    def __getitem__(self, index: int) -> Image:
        """The image's pixels, uint8 [H, W, 3]."""
        with self._lock:
            if index in self._held:
                self._held.move_to_end(index)
                return self._held[index]
        image: Image = self._read(index)
        with self._lock:
            if index not in self._held and image.nbytes <= self._limit_bytes:
                self._held[index] = image
                self.held_bytes += image.nbytes
            while self.held_bytes > self._limit_bytes:
                self.held_bytes -= self._held.popitem(last=False)[1].nbytes
        return image
