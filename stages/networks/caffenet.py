"""``caffenet``: the paper's T-Net, the reference AlexNet of Caffe that the authors fine-tune (paper section 2.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossChannelNorm(nn.Module):
    """Caffe's local response normalisation across channels: ``x / (1 + alpha/n * sum of n squares)^0.75``.

    The same numbers as ``torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 1)`` (a test holds that), several times faster on
    channels-last memory, and at float32 inside whatever the input's type, which torch's lacks for bfloat16.
    """

    window = 5
    alpha = 1e-4  # the exponent 0.75 is written out as two square roots

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps [B, c, y, x], keeping shape and type."""
        reach = self.window // 2
        channels = x.shape[1]
        squares = functional.pad(x.float().square(), (0, 0, 0, 0, reach, reach))
        total = squares[:, :channels]
        for k in range(1, self.window):
            total = total + squares[:, k : k + channels]
        root = torch.sqrt(1.0 + total * (self.alpha / self.window))
        return (x.float() / (root * torch.sqrt(root))).to(x.dtype)


class CaffeStyle(nn.Module):
    """Five convolutions in ``features``, then two layers of 4,096 units: what Caffe's early networks share.

    ``features`` ends in 256 maps of 6 x 6 and has its second, fourth and fifth convolution at 4, 10 and 12. Weights
    start as in Caffe's training files: Gaussian 0.01, in fc6 and fc7 ``fc_std``; bias 1 in conv2, conv4, conv5, fc6 and
    fc7, ``last_bias`` in fc8, else 0.
    """

    fc_std = 0.005
    last_bias = 0.0

    def __init__(self, features: nn.Sequential, n_outputs: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, n_outputs),
        )
        self._initialise()

    def _initialise(self) -> None:
        """Draw the weights as Caffe's training files have it, from torch's global generator."""
        biased = {self.features[i] for i in (4, 10, 12)} | {self.classifier[i] for i in (0, 3)}
        wide = {self.classifier[i] for i in (0, 3)}
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=self.fc_std if module in wide else 0.01)
                nn.init.constant_(module.bias, 1.0 if module in biased else 0.0)  # type: ignore[arg-type]
        nn.init.constant_(self.classifier[6].bias, self.last_bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map crops [B, 3, side, side] to logits [B, n_outputs]."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


class CaffeNet(CaffeStyle):
    """Caffe's reference network: 227 px, conv-relu-pool-LRN order, two groups in conv2, conv4 and conv5.

    Pooling rounds its output size up (Caffe's rule), giving 227 -> 55 -> 27 -> 13 -> 6; 60,965,224 parameters
    with 1,000 outputs.
    """

    def __init__(self, n_outputs: int) -> None:
        features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            CrossChannelNorm(),
            nn.Conv2d(96, 256, 5, padding=2, groups=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            CrossChannelNorm(),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1, groups=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, groups=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        super().__init__(features, n_outputs)
