"""Regions of an image to features: warp, fixed batches, forward pass, and nothing else (paper section 2.1)."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.networks.forward import ForwardPass, deterministic, device_of
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings
from stages.stopwatch import part

from .warp import CropMode, DrawMask, Padding, check_context, masks_from, warp_regions


@dataclass(frozen=True)
class Crop:
    """How a region becomes a crop: see :mod:`stages.features.warp`."""

    mode: CropMode = "warp"
    context_px: int = 16
    padding: Padding = "mean"


class Extractor:
    """Computes features of some layers; safe to call from several threads at once.

    Batches are always ``batch`` crops, the last one padded, because the arithmetic libraries choose their
    algorithm by the batch: so a region's features do not depend on how many others an image has. Computes as
    :func:`~stages.networks.forward.deterministic` says; on CUDA several threads warp, and one batch is in flight at a
    time. ``network`` is copied; ``dtype`` is the arithmetic's, features are float32 in any case.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[str],
        crop: Crop,
        *,
        batch: int,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        check_context(network.input.side_px, crop.context_px)
        self.layers = tuple(layers)
        self.input = network.input
        self._crop = crop
        self._batch = batch
        self._forward = ForwardPass(network, layers, dtype=dtype, device=device)
        self.dims = {layer: self._forward.feature_dim(layer) for layer in self.layers}
        self._buffers = threading.local()

    @property
    def batch(self) -> int:
        """Crops that go through the network together: a region's features do not depend on which they are."""
        return self._batch

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating], masks: DrawMask | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """uint8 [H, W, 3] RGB and boxes [n, 4] in its pixels -> float32 [n, d] per layer.

        ``masks`` draws each region's mask, outside of which its crop is at the mean; None: crops as they are. Raises
        ``StageError`` for a box without area. Its times (``stopwatch``) are ``conv``, ``fc`` and ``rest``.
        """
        with part("rest"), deterministic():
            return self._features(image, boxes, masks)

    def _features(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating], masks: DrawMask | None
    ) -> dict[str, NDArray[np.float32]]:
        out = {layer: np.empty((len(boxes), d), np.float32) for layer, d in self.dims.items()}
        buffer = self._buffer()
        for start in range(0, len(boxes), self._batch):
            few = boxes[start : start + self._batch]
            warp_regions(
                image,
                few,
                self.input,
                mode=self._crop.mode,
                context_px=self._crop.context_px,
                padding=self._crop.padding,
                out=buffer[: len(few)],
                masks=None if masks is None else masks_from(masks, start),
            )
            buffer[len(few) :] = 0
            for layer, rows in self._forward(buffer).items():
                out[layer][start : start + len(few)] = rows[: len(few)]
        return out

    def _buffer(self) -> NDArray[np.float32]:
        """This thread's batch of crops, [batch, 3, side, side] in channels-last memory, as the network takes it."""
        if not hasattr(self._buffers, "crops"):
            side = self.input.side_px
            self._buffers.crops = np.zeros((self._batch, side, side, 3), np.float32).transpose(0, 3, 1, 2)
        crops: NDArray[np.float32] = self._buffers.crops
        return crops


def extractor(
    network: Network, layers: Sequence[str], crop: Crop, settings: NetworkSettings, device: str = "auto"
) -> Extractor:
    """The extractor that parameter group ``network`` describes, on ``execution.device``."""
    return Extractor(network, layers, crop, batch=settings.batch, dtype=settings.dtype, device=device_of(device))
