"""The convolutional layers over a whole image: once per scale, however many regions (SPP paper section 4.1)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.errors import StageError
from stages.networks.pixels import scaled_image
from stages.networks.spec import InputSpec
from stages.stopwatch import part


@dataclass(frozen=True)
class ConvPass:
    """``conv`` maps images [1, 3, h, w], as ``spec`` has them, to ``{conv5: [1, channels, y, x]}``; it lies on
    ``device`` in ``dtype``."""

    conv: nn.Module
    conv5: str
    spec: InputSpec
    device: torch.device
    dtype: torch.dtype

    def __call__(self, image: NDArray[np.uint8], scale_px: int) -> Tensor:
        """conv5 of uint8 [H, W, 3] RGB, the shorter side made ``scale_px``: float32 [y, x, c], on the device.

        To be called in inference mode. Raises ``StageError`` where it is not a number.
        """
        pixels = torch.from_numpy(scaled_image(image, self.spec, scale_px)).to(self.device, self.dtype)
        with part("conv", self.device):
            fmap: Tensor = self.conv(pixels)[self.conv5]
        fmap = fmap[0].permute(1, 2, 0).float().contiguous()
        if bool(fmap.isnan().any()):
            raise StageError(
                f"the feature map at {scale_px} px is not a number; network.weights or network.input are wrong: check "
                "network.input (colour order, range, mean) against what the weights expect"
            )
        return fmap
