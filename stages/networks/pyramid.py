"""The spatial pyramid as a layer of a network, between conv5 and fc6 (SPP paper section 2.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PyramidPool(nn.Module):
    """Maximum over n x n bins for each level n: [B, c, y, x] -> [B, c * sum of n squared], any y and x.

    Levels follow one another in the order given, (c, y, x) inside a level. A level's bins have rows floor(i h / n)
    up to ceil((i + 1) h / n), so they may overlap and are never empty. On a 13 x 13 map these are the windows of the
    paper, ceil(13 / n) long with stride floor(13 / n); the authors' prototxt has another stride, 7, for n = 2.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, x: Tensor) -> Tensor:
        """Pool maps [B, c, y, x] to vectors [B, c * sum of n squared]."""
        return torch.cat([functional.adaptive_max_pool2d(x, n).flatten(1) for n in self.levels], 1)


def put_pyramid(trunk: nn.Module, pool5: str, fc6: str, levels: Sequence[int]) -> None:
    """Put the pyramid in ``pool5``'s place and give ``fc6`` (module paths) as many inputs as it has outputs.

    fc6's weights are drawn again with the standard deviation that its constructor gave them.
    """
    old = trunk.get_submodule(fc6)
    assert isinstance(old, nn.Linear)
    channels = [m.out_channels for m in trunk.modules() if isinstance(m, nn.Conv2d)][-1]
    inputs = channels * sum(n * n for n in levels)
    new = nn.Linear(inputs, old.out_features, device=old.weight.device)
    with torch.no_grad():
        if not old.weight.is_meta:
            new.weight.normal_(0, float(old.weight.std()))
            new.bias.copy_(old.bias)
    put_module(trunk, fc6, new)
    put_pool(trunk, pool5, levels)


def put_pool(trunk: nn.Module, pool5: str, levels: Sequence[int]) -> None:
    """Put the pyramid at a path, without what would follow: torchvision's networks bring pool5 to fc6's grid."""
    if hasattr(trunk, "avgpool"):
        trunk.avgpool = nn.Identity()
    put_module(trunk, pool5, PyramidPool(levels))


def put_module(trunk: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path, in the place of the one that is there, if any."""
    parent, _, leaf = path.rpartition(".")
    setattr(trunk.get_submodule(parent), leaf, module)
