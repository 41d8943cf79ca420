"""The dense pass over an image at one scale: convolutions once, fully connected layers at every window."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.errors import StageError
from stages.networks.forward import DTYPES, deterministic
from stages.networks.network import Network
from stages.networks.pixels import scaled_image
from stages.stopwatch import part

from .scales import scaled_px
from .windows import windows_of

FC_BATCH = 256  # windows that go through the fully connected layers together; of one image and scale, both flips


class DensePass:
    """Computes the logits of an image's windows and of its mirror image's; safe to call from several threads at once.

    Computes as :func:`~stages.networks.forward.deterministic` says; an image's values depend on no other image.
    ``network`` is copied; ``dtype`` is its arithmetic. Raises ``StageError`` as
    :func:`~stages.dense.windows.windows_of`.
    """

    def __init__(self, network: Network, *, dtype: str = "float32", device: str = "cpu") -> None:
        self.windows = windows_of(network)
        self._device, self._dtype = torch.device(device), DTYPES[dtype]
        own = copy.deepcopy(network).eval().requires_grad_(False)
        own.to(self._device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._input, self._conv5, self._logits = own.input, own.conv5, own.node("fc8")
        self._conv, self._fc = own.graph([own.conv5]), own.fc_graph(["fc8"])

    def __call__(self, image: NDArray[np.uint8], scale_px: int) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB -> logits float32 [2, rows, columns, N]: of the image's windows, and the mirror image's.

        The image is brought to the size of :func:`~stages.dense.scales.scaled_px`. Raises ``StageError`` as that does,
        and where a value is not a number. Its times (``stopwatch``) are ``conv``, ``fc`` and ``rest``.
        """
        size = scaled_px(image.shape[1], image.shape[0], scale_px, self.windows)
        with part("rest"), torch.inference_mode(), deterministic(self._device):
            pixels = torch.from_numpy(scaled_image(image, self._input, size))
            both = torch.cat([pixels, pixels.flip(3)])
            both = both.to(self._device, self._dtype, memory_format=torch.channels_last)
            with part("conv", self._device):
                fmap: Tensor = self._conv(both)[self._conv5]
            logits = self._of_windows(self.windows(fmap)).float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise StageError("fc8 is not finite; network.weights or network.input are wrong")
        return logits

    def _of_windows(self, views: Tensor) -> Tensor:
        """Compute the logits [B, rows, columns, N] of windows [B, rows, columns, c, g, g]."""
        places = views.shape[:3]
        rows = torch.unravel_index(torch.arange(places.numel(), device=self._device), places)
        found = []
        for batch in zip(*(index.split(FC_BATCH) for index in rows), strict=True):
            pooled = views[batch].flatten(1)
            with part("fc", self._device):
                found.append(self._fc(pooled)[self._logits])
        logits: Tensor = torch.cat(found).unflatten(0, places)
        return logits
