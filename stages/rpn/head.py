"""The layers that a Region Proposal Network adds to a shared feature map (Faster R-CNN paper section 3)."""

from typing import Literal

import torch
from torch import Tensor, nn

NEW_LAYER_STD = 0.01  # of the new layers' weights (section 3, Optimization)
Objectness = Literal["softmax", "logistic"]


class RpnHead(nn.Module):
    """A 3 x 3 convolution with ReLU, and behind it one 1 x 1 convolution for objectness and one for transforms.

    With ``softmax`` objectness has two logits for each anchor, and of the layer's 2 A channels the first A are
    background (as py-faster-rcnn's ``rpn_cls_score``); with ``logistic`` one (the paper's footnote 2, and torchvision).
    Of the 4 A channels of transforms, an anchor's four lie together.
    """

    def __init__(
        self,
        in_channels: int,
        n_anchors: int,
        channels: int = 512,
        objectness: Objectness = "softmax",
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Make the layers: N(0, 0.01), biases 0.

        Args:
            in_channels: Of the shared map.
            n_anchors: A, anchors at each cell.
            channels: Of the 3 x 3 convolution: 256 for ZF, 512 for VGG16.
            objectness: The form of the score.
            generator: Draws the weights; None leaves them without values, for a file's.
        """
        super().__init__()
        self.n_anchors = n_anchors
        self.objectness = objectness
        per_anchor = 2 if objectness == "softmax" else 1
        self.conv = nn.utils.skip_init(nn.Conv2d, in_channels, channels, 3, padding=1)
        self.score = nn.utils.skip_init(nn.Conv2d, channels, per_anchor * n_anchors, 1)
        self.box = nn.utils.skip_init(nn.Conv2d, channels, 4 * n_anchors, 1)
        if generator is not None:
            for layer in (self.conv, self.score, self.box):
                nn.init.normal_(layer.weight, std=NEW_LAYER_STD, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for every anchor, in the grid's order (h, w, a).

        Args:
            features: The shared map [B, C, h, w].

        Returns:
            Logits [B, h * w * A, 2] (background, object), or [B, h * w * A] where logistic; transforms
            [B, h * w * A, 4].
        """
        hidden = nn.functional.relu(self.conv(features), inplace=True)
        boxes = self.box(hidden).permute(0, 2, 3, 1).reshape(len(features), -1, 4)
        scores = self.score(hidden)
        if self.objectness == "softmax":
            return scores.unflatten(1, (2, -1)).permute(0, 3, 4, 2, 1).reshape(len(features), -1, 2), boxes
        return scores.permute(0, 2, 3, 1).reshape(len(features), -1), boxes

    @torch.no_grad()
    def fold(self, mean: Tensor, std: Tensor) -> None:
        """Make a head that was trained on standardised transforms answer plain ones; mean and std [4].

        What the MATLAB code does when it writes the network.
        """
        by, shift = std.to(self.box.bias).repeat(self.n_anchors), mean.to(self.box.bias).repeat(self.n_anchors)
        self.box.weight.mul_(by[:, None, None, None])
        self.box.bias.mul_(by).add_(shift)


def margins(logits: Tensor) -> Tensor:
    """Return by how much each anchor is more an object than background: [..., n, 2] or [..., n] logits -> [..., n].

    Its sigmoid is the object's probability in either form; logits of the logistic form are margins themselves. To be
    called on an image's logits: [n, 2] or [n].
    """
    return logits[:, 1] - logits[:, 0] if logits.ndim == 2 else logits
