"""Regions of an image to SPP features: one convolutional pass per scale, then pooling and products (section 4.1)."""

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.features.warp import check_boxes
from stages.networks.forward import DTYPES, deterministic
from stages.networks.network import Network
from stages.networks.settings import Pooling
from stages.stopwatch import part

from .conv_pass import ConvPass
from .pooling import pool_windows
from .pooling_torch import pool_windows_torch
from .split import POOLED, split
from .windows import cell_windows, choose_scales

# Windows that go through the fully connected layers together, the last batch padded: so a window's bits do not depend
# on how many others an image has.
FC_BATCH = 256


@dataclass(frozen=True)
class Spp:
    """How a region is pooled: the image's scales (its shorter side, px), the pyramid's levels, the side that a region
    should have at its scale (:func:`~stages.features.spp.windows.choose_scales`), and what a bin holds."""

    scales_px: tuple[int, ...]
    levels: tuple[int, ...]
    target_side_px: int
    pooling: Pooling = "max"


class SppExtractor:
    """Computes features of some layers as ``Extractor`` does; safe to call from several threads at once.

    The convolutional layers run once over the image at every scale that a region wants, and regions that have the same
    cells of the same scale are pooled, and go through the fully connected layers, once. Computes as
    :func:`~stages.networks.forward.deterministic` says. ``network`` is copied; ``dtype`` is the network's arithmetic,
    pooling is float32's.
    """

    def __init__(
        self, network: Network, layers: Sequence[str], spp: Spp, *, dtype: str = "float32", device: str = "cpu"
    ) -> None:
        self.layers = tuple(layers)
        self._scales, self._levels = tuple(sorted(spp.scales_px)), spp.levels
        self._target, self._pooling = spp.target_side_px, spp.pooling
        self._device = torch.device(device)
        self._dtype = DTYPES[dtype]
        own = copy.deepcopy(network).eval().requires_grad_(False)
        self._parts = split(own, self.layers, self._levels, self._scales[0], spp.pooling)
        own.to(self._device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._map = ConvPass(self._parts.conv, self._parts.conv5, network.input, self._device, self._dtype)
        self.dims = {layer: self._parts.dims[layer] for layer in self.layers}
        self._buffers = threading.local()

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
        """uint8 [H, W, 3] RGB and boxes [n, 4] in its pixels -> float32 [n, d] per layer.

        Raises ``StageError`` for a box without area, and where the feature map is not a number. Its times
        (``stopwatch``) are ``conv``, ``fc`` and ``rest``.
        """
        with part("rest"):
            return self._of_regions(image, boxes)

    def _of_regions(self, image: NDArray[np.uint8], boxes: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
        b = np.asarray(boxes, np.float32).reshape(-1, 4)
        check_boxes(b)
        out = {layer: np.empty((len(b), d), np.float32) for layer, d in self.dims.items()}
        with torch.inference_mode(), deterministic(self._device):
            maps, cells = self._cells(image, b)
            distinct, which = np.unique(cells, axis=0, return_inverse=True)
            which = which.reshape(-1)  # numpy 2.0 gives it another shape than later ones
            order = np.argsort(which, kind="stable")  # regions, by the window that they have
            starts = np.searchsorted(which[order], np.arange(0, len(distinct) + FC_BATCH, FC_BATCH))
            for k, batch in enumerate(self._pooled(maps, distinct)):
                regions = order[starts[k] : starts[k + 1]]
                for layer, rows in self._features(batch).items():
                    out[layer][regions] = rows[which[regions] - k * FC_BATCH]
        return out

    def _cells(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32]
    ) -> tuple[dict[int, Tensor], NDArray[np.int32]]:
        """conv5 [y, x, c] by the scale's index, and each region's window: int32 [n, 5], the scale's index first."""
        side = min(image.shape[:2])
        chosen = choose_scales(boxes, side, self._scales, self._target)
        maps: dict[int, Tensor] = {}
        cells = np.empty((len(boxes), 5), np.int32)
        for k in np.unique(chosen).tolist():
            maps[k] = self._map(image, self._scales[k])
            mine = chosen == k
            shape = (int(maps[k].shape[0]), int(maps[k].shape[1]))
            cells[mine, 0] = k
            cells[mine, 1:] = cell_windows(boxes[mine], side, self._scales[k], self._parts.geometry, shape)
        return maps, cells

    def _pooled(self, maps: dict[int, Tensor], distinct: NDArray[np.int32]) -> Iterator[Tensor]:
        """The pooled vectors of ``distinct`` windows (sorted by scale), float32 [FC_BATCH, d] at a time, 0 beyond them.

        The memory is this thread's, and the next batch's too.
        """
        buffer = self._buffer()
        for start in range(0, len(distinct), FC_BATCH):
            batch = distinct[start : start + FC_BATCH]
            for k in np.unique(batch[:, 0]).tolist():
                rows = np.flatnonzero(batch[:, 0] == k)
                self._pool(maps[k], batch[rows, 1:], buffer[rows[0] : rows[-1] + 1])
            buffer[len(batch) :] = 0
            yield buffer

    def _pool(self, fmap: Tensor, windows: NDArray[np.int32], out: Tensor) -> None:
        if self._device.type == "cpu":
            pool_windows(fmap.numpy(), windows, self._levels, out.numpy(), self._pooling)
        else:
            on_device = torch.from_numpy(windows.astype(np.int64)).to(self._device)
            out.copy_(pool_windows_torch(fmap, on_device, self._levels, self._pooling))

    def _buffer(self) -> Tensor:
        if not hasattr(self._buffers, "pooled"):
            self._buffers.pooled = torch.zeros(FC_BATCH, self._parts.pooled, device=self._device)
        buffer: Tensor = self._buffers.pooled
        return buffer

    def _features(self, batch: Tensor) -> dict[str, NDArray[Any]]:
        """Compute the layers of pooled vectors [FC_BATCH, d]: float32 [FC_BATCH, length] each."""
        outputs = {}
        if self._parts.fc is not None:
            with part("fc", self._device):
                outputs = self._parts.fc(batch.to(self._dtype))
        by_layer = {POOLED: batch} | {layer: outputs[node] for layer, node in self._parts.nodes.items()}
        return {layer: by_layer[layer].float().cpu().numpy() for layer in self.layers}
