"""Fast R-CNN's head at work: the shared map of an image and its regions to detections (Fast R-CNN section 2.4)."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import digest_array, digest_json
from cache.errors import StageError
from stages.detections.suppression import Candidates, ImageDetections
from stages.fast.detections import candidates_of, detections_of
from stages.fast.head import FastHead
from stages.fast.images import ScaledSize
from stages.fast.settings import RoiDetectSettings
from stages.fast.svd import compressed
from stages.networks.forward import deterministic, device_of
from stages.stopwatch import part

from .maps import as_input
from .network import RegionNetwork

MAX_PER_CLASS = 100  # that enter suppression by R-CNN's rule (``rank_factor``)


def fast_digest(network: RegionNetwork) -> str:
    """Digest of all that makes classes and boxes of the shared map and regions."""
    head, norm = _trained(network)
    tensors = {name: digest_array(tensor.numpy()) for name, tensor in head.state_dict().items()}
    pooling = [network.pooling.kind, network.pooling.cells, network.pooling.grid]
    return digest_json({"norm": digest_array(norm.mean, norm.std), "pooling": pooling, **tensors})


def _trained(network: RegionNetwork) -> tuple[FastHead, Any]:
    if network.fast is None or network.norm is None:
        raise StageError("the network holds no trained Fast R-CNN; run `dvc repro`")
    return network.fast, network.norm


class RoiScorer:
    """Finds the detections of an image in its shared map; safe to call from several threads. Copies the head."""

    def __init__(self, network: RegionNetwork, settings: RoiDetectSettings, device: str) -> None:
        head, self._norm = _trained(network)
        self.device = torch.device(device_of(device))
        self._settings, self._pooling = settings, network.pooling
        own = compressed(head, settings.svd) if settings.svd else copy.deepcopy(head)
        self._head = own.eval().requires_grad_(False).to(self.device)

    def candidates(
        self, fmap: Tensor | NDArray[Any], size: ScaledSize, boxes: NDArray[np.floating], width: int, height: int
    ) -> Candidates:
        """Score the regions ``boxes`` [n, 4], px of the original image of that width and height.

        Args:
            fmap: the map [y, x, c] or [1, y, x, c] of the image scaled to ``size``.
        """
        regions = np.asarray(boxes, np.float32).reshape(-1, 4)
        probabilities, transforms = self._scores(as_input(fmap), size, regions)
        settings = self._settings
        by_rank = settings.rank_factor is not None
        return candidates_of(
            probabilities,
            self._norm.denormalise(transforms),
            regions,
            width,
            height,
            score_floor=settings.score_floor,
            max_per_class=MAX_PER_CLASS if by_rank else None,
        )

    def _scores(
        self, fmap: Tensor, size: ScaledSize, regions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities [n, n_classes + 1] and normalised transforms [n, n_classes, 4]; each window of cells once."""
        n_classes = self._head.n_classes
        if not len(regions):
            return np.zeros((0, n_classes + 1), np.float32), np.zeros((0, n_classes, 4), np.float32)
        scale = (size.scale_x, size.scale_y)
        rows, which = self._pooling.distinct(regions, scale)
        with torch.inference_mode(), deterministic(self.device):
            with part("pooling", self.device):
                pooled = self._pooling(fmap.to(self.device), regions[rows], scale)
            with part("fc", self.device):
                logits, transforms = self._head(pooled)
                probabilities = logits.softmax(1).cpu().numpy()
            moved = transforms.cpu().numpy()
        return probabilities[which], moved[which]

    def __call__(
        self, fmap: Tensor | NDArray[Any], size: ScaledSize, boxes: NDArray[np.floating], width: int, height: int
    ) -> ImageDetections:
        """As :meth:`candidates`, suppressed."""
        return self.kept(self.candidates(fmap, size, boxes, width, height))

    def kept(self, candidates: Candidates) -> ImageDetections:
        """Suppress an image's candidates, and keep its best."""
        return detections_of(candidates, nms_iou=self._settings.nms_iou, max_per_image=self._settings.max_per_image)
