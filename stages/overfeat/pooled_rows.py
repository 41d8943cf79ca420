"""What fc6 takes of single windows, read out of stored maps: a training takes a few of an image's thousands."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.dense.windows import DenseWindows
from stages.finetune.batches import ArrayCache, MapName
from stages.networks.forward import deterministic
from stages.networks.network import Network
from stages.training.images import ImageSide

from .places import ImageGrid, Indices


def fc6_length(network: Network) -> int:
    """Return how many values fc6 takes of one window."""
    return next(one for one in network.fc_graph(["fc8"]).modules() if isinstance(one, nn.Linear)).in_features


class PooledRows:
    """Reads windows as fc6 takes them; safe to call from several threads.

    Each map is pooled once, at stride 1, and kept so, in the precision in which it is stored.

    Args:
        read: gives a map [y, x, c] by image (its index), scale in px and whether it is the mirror image's.
        length: values of a window (:func:`fc6_length`).
        limit_bytes: of pooled maps to keep.
        context: whether to append the window of the same centre one scale below (section 5's later result; zeros at the
            smallest scale, which has none below).
    """

    def __init__(
        self,
        windows: DenseWindows,
        read: Callable[[MapName], NDArray[np.floating]],
        length: int,
        limit_bytes: int,
        *,
        context: bool = False,
    ) -> None:
        self._windows, self._read, self._length, self._context = windows, read, length, context
        self._maps: ArrayCache[MapName] = ArrayCache(self._pooled, limit_bytes)

    def __call__(self, side: ImageSide, grid: ImageGrid, chosen: Indices) -> NDArray[np.float32]:
        """Read the windows ``chosen`` int64 [n] of an image: float32 [n, d], with context [n, 2 d]."""
        out = np.zeros((len(chosen), 2 if self._context else 1, self._length), np.float32)
        scales, rows, columns = grid.places(chosen)
        for scale in np.unique(scales).tolist():
            mine = scales == scale
            out[mine, 0] = self._at(side, grid.scales[scale].scale_px, rows[mine], columns[mine])
            if self._context and scale > 0:
                by_row, by_column = grid.surrounding(scale)
                below = grid.scales[scale - 1].scale_px
                out[mine, 1] = self._at(side, below, by_row[rows[mine]], by_column[columns[mine]])
        return out.reshape(len(chosen), out.shape[1] * self._length)

    def _at(self, side: ImageSide, scale_px: int, rows: Indices, columns: Indices) -> NDArray[np.float32]:
        return self._windows.gathered(self._maps[side.image, scale_px, side.mirrored], rows, columns)

    def _pooled(self, name: MapName) -> NDArray[np.floating]:
        stored = self._read(name)
        with torch.inference_mode(), deterministic():
            fmap = torch.from_numpy(np.ascontiguousarray(stored, np.float32)).permute(2, 0, 1)
            pooled = self._windows.pooled(fmap[None])[0].permute(1, 2, 0).numpy()
        return np.ascontiguousarray(pooled, stored.dtype)  # maxima of its own values: nothing is rounded
