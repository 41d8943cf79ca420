"""``small``: a five-convolution network in AlexNet's shape for the built-in data, about 20 million multiply-adds."""

import torch
from torch import Tensor, nn


class SmallNet(nn.Module):
    """Five convolutions and three fully connected layers over 64 x 64 crops.

    conv5-5-3-3-3 with three max-pools as in AlexNet, thin enough for thousands of crops per second on a CPU.
    ``pool5`` is 64 x 4 x 4, ``fc6`` and ``fc7`` have 512 units. No normalisation layers, so that fine-tuning behaves
    as it does for AlexNet.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),  # 32 -> 16
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),  # 16 -> 8
            nn.Conv2d(64, 96, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(96, 96, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(96, 64, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),  # 8 -> 4
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(64 * 4 * 4, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, n_outputs),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map crops [B, 3, 64, 64] to logits [B, n_outputs]."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits
