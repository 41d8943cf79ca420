"""``zf5`` and ``zf``: Zeiler and Fergus's network as SPP-net's authors (section 3.1) and Faster R-CNN's have it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .architectures import ARCHITECTURES
from .caffenet import CaffeStyle


class WithinChannelNorm(nn.Module):
    """Caffe's local response normalisation within each channel: ``x / (1 + alpha * mean of squares)^0.75``.

    The mean is over a centred 3 x 3 window and always of nine values, those outside the map as 0. At float32 inside,
    whatever the input's type.
    """

    window = 3
    alpha = 5e-5  # the exponent 0.75 is written out as two square roots

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps [B, c, y, x], keeping shape and type."""
        mean = functional.avg_pool2d(x.float().square(), self.window, 1, self.window // 2)
        root = torch.sqrt(1.0 + self.alpha * mean)
        return (x.float() / (root * torch.sqrt(root))).to(x.dtype)


class ZF5(CaffeStyle):
    """ZF-5: 96 (7 x 7, stride 2), 256 (5 x 5, stride 2), 384, 384, 256 (3 x 3) filters, two layers of 4,096 units.

    Paddings, order and first weights are those of the authors' Zeiler_conv5.prototxt: 1, 0, 1, 1, 1; ReLU,
    normalisation, then 3/2 pooling without padding that rounds up: 224 -> 110 -> 55 -> 26 -> 13; fc6 and fc7
    N(0, 0.01), fc8's biases 1. Here with the plain 3/2 pool5 (13 -> 6) of the paper's baseline; ``network.pyramid``
    puts the spatial pyramid in its place.
    """

    fc_std = 0.01
    last_bias = ARCHITECTURES["zf5"].last_bias
    paddings = (1, 0, 0, 0)  # of conv1, pool1, conv2, pool2
    pool5 = 3

    def __init__(self, n_outputs: int) -> None:
        conv1, pool1, conv2, pool2 = self.paddings
        features = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2, padding=conv1),
            nn.ReLU(inplace=True),
            WithinChannelNorm(),
            nn.MaxPool2d(3, 2, pool1, ceil_mode=True),
            nn.Conv2d(96, 256, 5, stride=2, padding=conv2),
            nn.ReLU(inplace=True),
            WithinChannelNorm(),
            nn.MaxPool2d(3, 2, pool2, ceil_mode=True),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(self.pool5, 2, ceil_mode=True),
        )
        super().__init__(features, n_outputs)


class ZF(ZF5):
    """Faster R-CNN's ZF: zf5 with paddings 3, 1, 2, 1 in conv1, pool1, conv2 and pool2, so that weights fit either.

    Cell i of conv5 is centred at pixel 16 i of the image, and the RPN's 3 x 3 convolution sees 171 px, normalisations
    apart (Ren et al. 2015, section 3.1). The authors pool RoIs and have no pool5. For crops of 224 px, whose conv5 is
    15 x 15, there is one of ours here, 5/2, which gives fc6 its 6 x 6.
    """

    paddings = (3, 1, 2, 1)
    pool5 = 5
