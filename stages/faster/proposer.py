"""An RPN at work: the shared map of an image to its proposals (Faster R-CNN section 3.3)."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import digest_array, digest_json
from cache.errors import StageError
from stages.fast.images import ScaledSize
from stages.networks.forward import deterministic, device_of
from stages.rpn.propose import Proposals, propose
from stages.rpn.settings import ProposeSettings
from stages.stopwatch import part
from stages.training.loop import generator

from .maps import as_input
from .network import RegionNetwork, RpnShape


def anchor_grid(network: RegionNetwork, shape: RpnShape, rows: int, columns: int) -> NDArray[np.float64]:
    """The anchors of a map of so many rows and columns, in pixels of the resized image: [rows * columns * A, 4].

    StageError where ``rpn.centres: authors`` is asked of a network whose map has another stride than 16 px.
    """
    geometry = network.geometry
    stride = geometry.x.stride, geometry.y.stride
    if shape.centres == "authors":
        if stride != (16, 16):
            raise StageError(
                f"rpn.centres: authors are 16 px apart, and the cells of {network.network.name}'s {network.layer} are "
                f"{stride[0]} px; set it to own"
            )
        centre = 8.0, 8.0  # 7.5 counts pixel centres
    else:
        centre = geometry.x.centre + 0.5, geometry.y.centre + 0.5
    return shape.anchors.grid((rows, columns), centre, stride)


def rpn_digest(network: RegionNetwork) -> str:
    """Digest of all that makes scores and boxes of the shared map."""
    assert network.rpn is not None and network.rpn_shape is not None
    shape = network.rpn_shape
    tensors = {name: digest_array(tensor.numpy()) for name, tensor in network.rpn.state_dict().items()}
    anchors = [list(shape.anchors.scales_px), list(shape.anchors.ratios), shape.anchors.rule]
    return digest_json({"anchors": anchors, "centres": shape.centres, "objectness": shape.objectness, **tensors})


class Proposer:
    """Computes an image's proposals from its shared map; safe to call from several threads. Copies the RPN.

    ``seed`` and the image's digest draw the proposals where ``propose.rank`` is random.
    """

    def __init__(self, network: RegionNetwork, settings: ProposeSettings, seed: int, device: str) -> None:
        assert network.rpn is not None and network.rpn_shape is not None
        self.device = torch.device(device_of(device))
        self._network, self._shape, self._settings, self._seed = network, network.rpn_shape, settings, seed
        self._rpn = copy.deepcopy(network.rpn).eval().requires_grad_(False).to(self.device)

    def __call__(self, fmap: Tensor | NDArray[Any], size: ScaledSize, image_sha256: str, *, training: bool) -> Proposals:
        """A map [y, x, c] or [1, y, x, c] of an image scaled to ``size`` -> proposals in the original's pixels.

        ``training``: with the limits of training images.
        """
        settings = self._settings
        with torch.inference_mode(), deterministic(self.device):
            ready = as_input(fmap).to(self.device)
            with part("rpn", self.device):
                scores, deltas = self._rpn.scores(ready)
            scores, deltas = scores.float().cpu().numpy(), deltas.float().cpu().numpy()
        rows, columns = int(ready.shape[2]), int(ready.shape[3])
        with part("proposals"):
            found = propose(
                anchor_grid(self._network, self._shape, rows, columns),
                scores,
                deltas,
                n_shapes=len(self._shape.anchors.shapes()),
                width=size.width,
                height=size.height,
                min_side_px=settings.min_side_px * size.scale,
                before_nms=settings.train_before_nms if training else settings.before_nms,
                nms_iou=settings.nms_iou,
                after_nms=settings.train_after_nms if training else settings.after_nms,
                regress=settings.regress,
                rng=generator(self._seed, "propose", image_sha256[:16]) if settings.rank == "random" else None,
            )
        return found.scaled(1 / size.scale)
