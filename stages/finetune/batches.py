"""Mini-batches of windows, as what is fine-tuned takes them: warped crops (R-CNN) or pooled vectors (SPP-net).

Both make them exactly as the stage ``features`` will make its rows, from images or feature maps that are kept in
memory as far as they fit.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.errors import StageError
from stages.boxes.geometry import Boxes, mirrored_boxes
from stages.features.spp.extraction import Spp
from stages.features.spp.pooling import pool_windows
from stages.features.spp.split import fully_connected, pooled_length
from stages.features.spp.windows import cell_windows, choose_scales
from stages.features.warp import CropMode, Padding, check_context, warp_regions
from stages.networks.network import Network
from stages.networks.receptive_field import Geometry, map_geometry
from stages.networks.spec import InputSpec
from stages.training.cross_entropy import LabelledBatch

from .windows import Windows

K = TypeVar("K", bound=Hashable)
MapName = tuple[int, int, bool]  # image (its index), scale in px, whether mirrored
_LOGITS = "fc8"


class WindowBatches(Protocol):
    """Mini-batches of windows, and the part of a network that takes them and is trained."""

    def batch(self, windows: Windows, flips: NDArray[np.bool_] | None = None) -> LabelledBatch:
        """Make one batch of the windows, in their order; safe to call from several threads.

        Args:
            flips: bool [n], which windows to mirror left-right; None mirrors none.
        """

    def trained_part(self, network: Network) -> nn.Module:
        """Return what maps batches to logits, sharing the network's weights."""


class ArrayCache(Generic[K]):
    """Arrays by name, the least recently used dropped first; for use from several threads.

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
        """Return what ``read(name)`` gives: an image's pixels uint8 [H, W, 3], or a feature map."""
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


@dataclass(frozen=True)
class WarpedWindows:
    """Batches of warped windows, which the whole network takes; ``images`` gives pixels by the image's index."""

    images: ArrayCache[int]
    spec: InputSpec
    mode: CropMode
    context_px: int
    padding: Padding = "mean"

    def trained_part(self, network: Network) -> nn.Module:
        """Return the network: all of it is trained."""
        return network

    def batch(self, windows: Windows, flips: NDArray[np.bool_] | None = None) -> LabelledBatch:
        """Make the windows' crops, float32 [n, 3, side, side], mirrored where ``flips`` [n] after warping.

        As in Caffe's window_data_layer the finished crop is mirrored, its padding with it. Each image is fetched once
        per batch.
        """
        mirror = np.zeros(len(windows), bool) if flips is None else flips
        crops = np.empty((len(windows), 3, self.spec.side_px, self.spec.side_px), np.float32)
        for image in np.unique(windows.images):
            rows = np.flatnonzero(windows.images == image)
            crops[rows] = warp_regions(
                self.images[int(image)],
                windows.boxes[rows],
                self.spec,
                mode=self.mode,
                context_px=self.context_px,
                padding=self.padding,
                mirror=mirror[rows],
            )
        return LabelledBatch(crops, windows.labels)


def warped_windows(
    read: Callable[[int], NDArray[np.uint8]],
    spec: InputSpec,
    *,
    mode: CropMode,
    context_px: int,
    padding: Padding = "mean",
    cache_bytes: int,
) -> WarpedWindows:
    """Make batches of the images that ``read`` decodes by index, warped as the stage ``features`` will warp.

    Raises StageError where the context leaves no room for the box.
    """
    check_context(spec.side_px, context_px)
    return WarpedWindows(ArrayCache(read, cache_bytes), spec, mode, context_px, padding)


@dataclass(frozen=True)
class PooledWindows:
    """Batches of windows pooled from feature maps, which the fully connected layers take.

    Each window is pooled at the scale at which the stage ``features`` pools it. ``maps`` gives conv5 [y, x, c];
    ``shapes`` int64 [images, 2] are widths and heights; ``length`` is the pooled vector's.
    """

    maps: ArrayCache[MapName]
    shapes: NDArray[np.int64]
    spp: Spp
    geometry: Geometry
    length: int

    def trained_part(self, network: Network) -> nn.Module:
        """Return the fully connected layers, and freeze all others."""
        network.requires_grad_(False)
        return FullyConnected(network, self.spp.levels, self.length).requires_grad_(True)

    def batch(self, windows: Windows, flips: NDArray[np.bool_] | None = None) -> LabelledBatch:
        """Pool the windows' vectors, float32 [n, d], those where ``flips`` [n] from the mirrored image's map."""
        mirror = np.zeros(len(windows), bool) if flips is None else flips
        vectors = np.empty((len(windows), self.length), np.float32)
        for image in np.unique(windows.images).tolist():
            for mirrored in (False, True):
                rows = np.flatnonzero((windows.images == image) & (mirror == mirrored))
                if len(rows):
                    self._pool_image(image, windows.boxes[rows], mirrored, rows, vectors)
        return LabelledBatch(vectors, windows.labels)

    def _pool_image(
        self, image: int, boxes: Boxes, mirrored: bool, rows: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> None:
        """Write one image's vectors into their ``rows`` of the batch."""
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
        """Pool windows [n, 4] of a map's cells to float32 [n, d].

        Only the part of the map [y, x, c], of any precision, that holds the windows is made float32.
        """
        y, x = cells[:, :2].min(axis=0).tolist()
        bottom, right = cells[:, 2:].max(axis=0).tolist()
        part = np.ascontiguousarray(fmap[y:bottom, x:right], np.float32)
        out = np.empty((len(cells), self.length), np.float32)
        pool_windows(part, cells - np.array([y, x, y, x], np.int32), self.spp.levels, out)
        return out


def pooled_windows(
    network: Network,
    read: Callable[[MapName], NDArray[np.floating]],
    shapes: Sequence[tuple[int, int]],
    spp: Spp,
    *,
    cache_bytes: int,
) -> PooledWindows:
    """Make batches of the maps that ``read`` gives; ``shapes`` are the images' widths and heights.

    Raises StageError as :func:`checked_length`.
    """
    length = checked_length(network, spp)
    sizes = np.array(shapes, np.int64).reshape(-1, 2)
    return PooledWindows(ArrayCache(read, cache_bytes), sizes, spp, map_geometry(network), length)


def checked_length(network: Network, spp: Spp) -> int:
    """Return the pooled vector's length; StageError where no fully connected layer of the network takes it."""
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


class FullyConnected(nn.Module):
    """The layers behind the pooled vector: [n, d] -> logits [n, outputs]. Shares the network's weights."""

    def __init__(self, network: Network, levels: Sequence[int], pooled: int) -> None:
        super().__init__()
        self.layers = fully_connected(network, [_LOGITS], levels, pooled)
        self._logits = network.node(_LOGITS)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled vectors, float32 [n, d], to logits [n, outputs]."""
        logits: Tensor = self.layers(pooled)[self._logits]
        return logits
