"""Batches of windows pooled from stored feature maps, and the fully connected layers that take them (SPP-net)."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.features.spp.extraction import Spp
from stages.features.spp.pooling import pool_windows
from stages.features.spp.split import fully_connected, pooled_length
from stages.features.spp.windows import cell_windows, choose_scales
from stages.networks.network import Network
from stages.networks.receptive_field import Geometry, map_geometry
from stages.training.loop import Batch

from .windows import Windows

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


MapName = tuple[int, int, bool]  # image (its index), scale in px, whether mirrored
_LOGITS = "fc8"


class FullyConnected(nn.Module):
    """What follows the pooled vector: [n, d] -> logits [n, outputs]. Shares the network's layers."""

    def __init__(self, network: Network, levels: Sequence[int], pooled: int) -> None:
        super().__init__()
        self.layers = fully_connected(network, [_LOGITS], levels, pooled)
        self._logits = network.node(_LOGITS)

    def forward(self, pooled: Tensor) -> Tensor:
        """float32 [n, d] -> logits [n, outputs]."""
        logits: Tensor = self.layers(pooled)[self._logits]
        return logits


@dataclass(frozen=True)
class PooledReader:
    """Batches of pooled windows; each is pooled at the scale at which the stage features pools it.

    ``shapes`` int64 [images, 2] are widths and heights; ``maps`` gives conv5 [y, x, c]; ``length`` is the pooled
    vector's.
    """

    maps: ArrayCache[MapName]
    shapes: NDArray[np.int64]
    spp: Spp
    geometry: Geometry
    length: int

    def trained_part(self, network: Network) -> nn.Module:
        """The fully connected layers; all others are set to take no gradient."""
        network.requires_grad_(False)
        return FullyConnected(network, self.spp.levels, self.length).requires_grad_(True)

    def read(self, windows: Windows, flips: NDArray[np.bool_] | None = None) -> Batch:
        """The windows' vectors float32 [n, d] in their order, those where ``flips`` [n] of the mirrored image."""
        mirror = np.zeros(len(windows), bool) if flips is None else flips
        vectors = np.empty((len(windows), self.length), np.float32)
        for image in np.unique(windows.images).tolist():
            for mirrored in (False, True):
                rows = np.flatnonzero((windows.images == image) & (mirror == mirrored))
                if len(rows):
                    self._read_image(image, windows.boxes[rows], mirrored, rows, vectors)
        return Batch(vectors, windows.labels)

    def _read_image(
        self, image: int, boxes: Boxes, mirrored: bool, rows: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> None:
        width, height = (int(v) for v in self.shapes[image])
        side, scales = min(width, height), sorted(self.spp.scales_px)
        seen = mirrored_boxes(boxes, width) if mirrored else boxes
        chosen = choose_scales(seen, side, scales, self.spp.target_side_px)
        for k in np.unique(chosen).tolist():
            fmap, mine = self.maps[image, scales[k], mirrored], chosen == k
            shape = (fmap.shape[0], fmap.shape[1])
            cells = cell_windows(seen[mine], side, scales[k], self.geometry, shape)
            vectors[rows[mine]] = self._pooled(fmap, cells)

    def _pooled(self, fmap: NDArray[np.floating], cells: NDArray[np.int32]) -> NDArray[np.float32]:
        """Of a map [y, x, c] of any precision only the part that holds the windows is made float32."""
        y, x = cells[:, :2].min(axis=0).tolist()
        bottom, right = cells[:, 2:].max(axis=0).tolist()
        part = np.ascontiguousarray(fmap[y:bottom, x:right], np.float32)
        out = np.empty((len(cells), self.length), np.float32)
        pool_windows(part, cells - np.array([y, x, y, x], np.int32), self.spp.levels, out)
        return out


def mirrored_boxes(boxes: Boxes, width: int) -> Boxes:
    """Where boxes [n, 4] lie in the mirror image of an image ``width`` px wide."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def pooled_reader(
    network: Network,
    read: Callable[[MapName], NDArray[np.floating]],
    shapes: Sequence[tuple[int, int]],
    spp: Spp,
    *,
    cache_bytes: int,
) -> PooledReader:
    """A reader of the maps that ``read`` gives; ``shapes`` are the images' widths and heights."""
    length = checked_length(network, spp)
    sizes = np.array(shapes, np.int64).reshape(-1, 2)
    return PooledReader(ArrayCache(read, cache_bytes), sizes, spp, map_geometry(network), length)


def checked_length(network: Network, spp: Spp) -> int:
    """Length of the pooled vector; ``StageError`` where no fully connected layer of the network takes it."""
    if spp.pooling != "max":
        raise StageError(
            f"finetune: the fully connected layers take maxima, and features.spp.pooling is {spp.pooling}; "
            "set it to max, or finetune.iterations to 0"
        )
    pooled = pooled_length(network, spp.levels, min(spp.scales_px))
    try:
        fully_connected(network, [_LOGITS], spp.levels, pooled)
    except StageError as error:
        raise StageError(
            f"finetune: with features.method: spp the fully connected layers are fine-tuned, but {error}; or set "
            "finetune.iterations to 0"
        ) from None
    return pooled
