"""The dense pass over an image at one size: convolutions once, fully connected layers at every window."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.errors import StageError
from stages.networks.forward import DTYPES, deterministic
from stages.networks.network import Network
from stages.networks.pixels import scaled_image
from stages.stopwatch import part

from .scales import scaled_px
from .windows import windows_of

FC_BATCH = 256  # windows that go through the fully connected layers together; of one image and scale, both flips
POOLED = "pool5"  # the layer that is a window itself, before any fully connected one


class WindowPass:
    """Computes one layer in an image's windows; safe to call from several threads at once.

    Computes as :func:`~stages.networks.forward.deterministic` says; an image's values depend on no other image.
    ``network`` is copied; ``dtype`` is its arithmetic. With ``before_relu`` the values are those that the layer's ReLU
    takes. Raises ``StageError`` as :func:`~stages.dense.windows.windows_of` and
    :meth:`~stages.networks.network.Network.before_relu`.

    Attributes:
        windows: the network's.
        length: of a window's values, d.
    """

    def __init__(
        self, network: Network, layer: str, *, before_relu: bool = False, dtype: str = "float32", device: str = "cpu"
    ) -> None:
        self.windows = windows_of(network)
        self._layer, self._device, self._dtype = layer, torch.device(device), DTYPES[dtype]
        own = copy.deepcopy(network).eval().requires_grad_(False)
        own.to(self._device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._input, self._conv5, self._conv = own.input, own.conv5, own.graph([own.conv5])
        self._node = own.before_relu(layer) if before_relu else own.node(layer)
        self._fc = None if layer == POOLED else own.fc_graph([self._node])
        behind = own.fc_graph(["fc8"]) if self._fc is None else self._fc
        pooled = next(one for one in behind.modules() if isinstance(one, nn.Linear)).in_features
        with torch.inference_mode(), deterministic(self._device):
            empty = torch.zeros(1, pooled, device=self._device, dtype=self._dtype)
            self.length = self._of_batch(empty).shape[1]

    def __call__(
        self, image: NDArray[np.uint8], size: tuple[int, int], *, mirrored: bool = False, step: int = 1
    ) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB -> float32 [flips, rows, columns, d]: of the image, ``mirrored`` of its mirror image too.

        Args:
            image: Any size.
            size: Width and height that it is brought to, as :func:`~stages.dense.scales.scaled_px` finds them.
            mirrored: Whether a second flip is wanted.
            step: Every so many windows along either side, from the first on.

        Raises ``StageError`` where a value is not a number. Its times (``stopwatch``) are ``conv``, ``fc``, ``rest``.
        """
        with part("rest"), torch.inference_mode(), deterministic(self._device):
            pixels = torch.from_numpy(scaled_image(image, self._input, size))
            flips = torch.cat([pixels, pixels.flip(3)]) if mirrored else pixels
            flips = flips.to(self._device, self._dtype, memory_format=torch.channels_last)
            with part("conv", self._device):
                fmap: Tensor = self._conv(flips)[self._conv5]
            found: NDArray[Any] = self._of_windows(self.windows(fmap)[:, ::step, ::step]).float().cpu().numpy()
        if not np.isfinite(found).all():
            raise StageError(f"{self._layer} is not finite; network.weights or network.input are wrong")
        return found

    def _of_windows(self, views: Tensor) -> Tensor:
        """Compute the values [B, rows, columns, d] of windows [B, rows, columns, c, g, g]."""
        places = views.shape[:3]
        rows = torch.unravel_index(torch.arange(places.numel(), device=self._device), places)
        found = []
        for batch in zip(*(index.split(FC_BATCH) for index in rows), strict=True):
            pooled = views[batch].flatten(1)
            with part("fc", self._device):
                found.append(self._of_batch(pooled))
        values: Tensor = torch.cat(found).unflatten(0, places)
        return values

    def _of_batch(self, pooled: Tensor) -> Tensor:
        """Compute the values [n, d] of windows [n, c g g], flattened."""
        values: Tensor = pooled if self._fc is None else self._fc(pooled)[self._node]
        return values


class DensePass:
    """Computes the logits of an image's windows and of its mirror image's, as :class:`WindowPass` does."""

    def __init__(self, network: Network, *, dtype: str = "float32", device: str = "cpu") -> None:
        self._logits = WindowPass(network, "fc8", dtype=dtype, device=device)
        self.windows = self._logits.windows

    def __call__(self, image: NDArray[np.uint8], scale_px: int) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB -> logits float32 [2, rows, columns, N]: of the image's windows, and the mirror image's.

        The image is brought to the size of :func:`~stages.dense.scales.scaled_px`. Raises ``StageError`` as that does,
        and where a value is not a number.
        """
        size = scaled_px(image.shape[1], image.shape[0], scale_px, self.windows)
        return self._logits(image, size, mirrored=True)
