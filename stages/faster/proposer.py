"""An RPN at work: the shared map of an image to its proposals (Faster R-CNN section 3.3)."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import digest_array, digest_json
from stages.boxes.geometry import Boxes
from stages.fast.images import ScaledSize
from stages.networks.forward import deterministic, device_of, in_precision
from stages.rpn.head import margins
from stages.rpn.propose import ProposalRule, propose
from stages.rpn.settings import ProposeSettings
from stages.stopwatch import part
from stages.training.loop import generator

from .maps import as_input
from .network import RegionNetwork


def rpn_digest(network: RegionNetwork) -> str:
    """Digest of all that makes scores and boxes of the shared map."""
    assert network.rpn is not None and network.rpn_shape is not None
    shape = network.rpn_shape
    tensors = {name: digest_array(tensor.numpy()) for name, tensor in network.rpn.state_dict().items()}
    anchors = [list(shape.anchors.scales_px), list(shape.anchors.ratios), shape.anchors.rule]
    return digest_json({"anchors": anchors, "centres": shape.centres, "objectness": shape.objectness, **tensors})


@dataclass(frozen=True)
class ImageProposals:
    """One image's proposals, best first: boxes float32 [k, 4] px of the original, scores float32 [k], and which anchor
    shape each came from, int64 [k]."""

    boxes: Boxes
    scores: NDArray[np.float32]
    anchors: NDArray[np.int64]


class Proposer:
    """Computes an image's proposals from its shared map; safe to call from several threads. Copies the RPN.

    ``seed`` and the image's digest draw the proposals where ``propose.rank`` is random.
    """

    def __init__(
        self, network: RegionNetwork, settings: ProposeSettings, seed: int, device: str, dtype: str = "float32"
    ) -> None:
        assert network.rpn is not None and network.rpn_shape is not None
        self.device, self._dtype = torch.device(device_of(device)), dtype
        self._shape, self._settings, self._seed = network.rpn_shape, settings, seed
        self._places = network.places
        self._rpn = copy.deepcopy(network.rpn).eval().requires_grad_(False).to(self.device)

    def __call__(
        self, fmap: Tensor | NDArray[Any], size: ScaledSize, image_sha256: str, *, training: bool
    ) -> "ImageProposals":
        """A map [y, x, c] or [1, y, x, c] of an image scaled to ``size`` -> proposals in the original's pixels.

        ``training``: with the limits of training images.
        """
        with torch.inference_mode(), deterministic(self.device):
            ready = as_input(fmap).to(self.device)
            with part("rpn", self.device), in_precision(self.device, self._dtype):
                logits, deltas = self._rpn(ready)
            scores, transforms = margins(logits[0]).float().cpu().numpy(), deltas[0].float().cpu().numpy()
        grid = self._shape.anchors.grid((int(ready.shape[2]), int(ready.shape[3])), self._places)
        rng = generator(self._seed, "propose", image_sha256[:16]) if self._rule(training).rank == "random" else None
        with part("proposals"):
            found = propose(
                grid, scores, transforms, size.width, size.height, self._rule(training), scale=scale_of(size), rng=rng
            )
        return ImageProposals(size.unscaled(found.boxes), found.scores, found.shapes(len(self._shape.anchors)))

    def _rule(self, training: bool) -> ProposalRule:
        settings = self._settings
        return ProposalRule(
            before_nms=settings.train_before_nms if training else settings.before_nms,
            nms_iou=settings.nms_iou,
            after_nms=settings.train_after_nms if training else settings.after_nms,
            min_side_px=settings.min_side_px,
            rank=settings.rank,
            regress=settings.regress,
        )


def scale_of(size: ScaledSize) -> float:
    """Pixels of the resized image per pixel of the original: both directions' are nearly one number."""
    return (size.scale_x + size.scale_y) / 2
