"""Fast R-CNN's head at work: the shared map of an image and its regions to detections (Fast R-CNN section 2.4)."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import digest_array, digest_json
from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.detections.suppression import Candidates, ImageDetections
from stages.fast.detections import candidates_of, detections_of
from stages.fast.head import FastHead, roi_scores
from stages.fast.images import ScaledSize, scaled_size
from stages.fast.rois import TargetNorm
from stages.fast.scales import nearest_scales
from stages.fast.settings import RoiDetectSettings
from stages.fast.svd import compressed
from stages.networks.forward import deterministic, device_of, in_precision
from stages.stopwatch import part

from .maps import MapPass, as_input
from .network import RegionNetwork

MAX_PER_CLASS = 100  # that enter suppression by R-CNN's rule (``rank_factor``)


def fast_digest(network: RegionNetwork) -> str:
    """Digest of all that makes classes and boxes of the shared map and regions."""
    head, norm = _trained(network)
    tensors = {name: digest_array(tensor.numpy()) for name, tensor in head.state_dict().items()}
    pooling = [network.pooling.kind, network.pooling.cells, network.pooling.grid]
    return digest_json({"norm": digest_array(norm.mean, norm.std), "pooling": pooling, **tensors})


def _trained(network: RegionNetwork) -> tuple[FastHead, TargetNorm]:
    if network.fast is None or network.norm is None:
        raise StageError("the network holds no trained Fast R-CNN; run `dvc repro`")
    return network.fast, network.norm


class RoiScorer:
    """Finds the detections of an image in its shared map; safe to call from several threads. Copies the head."""

    def __init__(
        self, network: RegionNetwork, settings: RoiDetectSettings, device: str, dtype: str = "float32"
    ) -> None:
        head, self._norm = _trained(network)
        self.device, self._dtype = torch.device(device_of(device)), dtype
        self._settings, self._pooling = settings, network.pooling
        own = compressed(head, settings.svd) if settings.svd else copy.deepcopy(head)
        self._head = own.eval().requires_grad_(False).to(self.device)

    @property
    def by_scale(self) -> bool:
        """Whether it looks at regions at several scales, with maps of its own (:meth:`candidates_at_scales`)."""
        return self._settings.scales_px is not None

    def sizes_of(self, width: int, height: int) -> list[ScaledSize]:
        """The sizes at which it looks at an image of this width and height; none unless :attr:`by_scale`."""
        scales, longest = self._settings.scales_px or (), self._settings.scales_long_px
        return [scaled_size(width, height, scale, longest) for scale in scales]

    def candidates(
        self, fmap: Tensor | NDArray[Any], size: ScaledSize, boxes: NDArray[np.floating], width: int, height: int
    ) -> Candidates:
        """Score the regions ``boxes`` [n, 4], px of the original image of that width and height.

        Args:
            fmap: the map [y, x, c] or [1, y, x, c] of the image scaled to ``size``.

        ValueError where it works :attr:`by_scale`: one map is then not what its settings ask for.
        """
        if self.by_scale:
            raise ValueError("roi_detect.scales_px: regions are scored by candidates_at_scales, not on one map")
        regions = np.asarray(boxes, np.float32).reshape(-1, 4)
        return self._candidates(*self._scores(fmap, size, regions), regions, width, height)

    def candidates_at_scales(
        self, maps: MapPass, pixels: NDArray[np.uint8], boxes: NDArray[np.floating], image: str
    ) -> Candidates:
        """Score the regions of an image, uint8 [H, W, 3] RGB, each on the map of the scale that suits it.

        A map that suits no region is not computed.
        """
        height, width = pixels.shape[:2]
        regions, sizes = np.asarray(boxes, np.float32).reshape(-1, 4), self.sizes_of(width, height)
        chosen = nearest_scales(regions, sizes)
        n_classes = self._head.n_classes
        probabilities = np.empty((len(regions), n_classes + 1), np.float32)
        transforms = np.empty((len(regions), n_classes, 4))
        for scale in np.unique(chosen).tolist():
            those = chosen == scale
            fmap = maps(pixels, image, sizes[scale])
            probabilities[those], transforms[those] = self._scores(fmap, sizes[scale], regions[those])
        return self._candidates(probabilities, transforms, regions, width, height)

    def _scores(
        self, fmap: Tensor | NDArray[Any], size: ScaledSize, regions: Boxes
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Probabilities and transforms of regions on one map, as :func:`roi_scores` has them."""
        with torch.inference_mode(), deterministic(self.device), part("regions", self.device):
            ready = as_input(fmap).to(self.device)
            scale = (size.scale_x, size.scale_y)
            with in_precision(self.device, self._dtype):
                return roi_scores(self._head, self._pooling, self._norm, ready, regions, scale)

    def _candidates(
        self,
        probabilities: NDArray[np.float32],
        transforms: NDArray[np.float64],
        regions: Boxes,
        width: int,
        height: int,
    ) -> Candidates:
        by_rank = self._settings.rank_factor is not None
        return candidates_of(
            probabilities,
            transforms,
            regions,
            width,
            height,
            score_floor=self._settings.score_floor,
            max_per_class=MAX_PER_CLASS if by_rank else None,
        )

    def __call__(
        self, fmap: Tensor | NDArray[Any], size: ScaledSize, boxes: NDArray[np.floating], width: int, height: int
    ) -> ImageDetections:
        """Find the detections: those of :meth:`candidates`, whose arguments it takes, that suppression leaves."""
        return self.kept(self.candidates(fmap, size, boxes, width, height))

    def kept(self, candidates: Candidates) -> ImageDetections:
        """Suppress an image's candidates, and keep its best."""
        with part("suppression"):
            return detections_of(candidates, nms_iou=self._settings.nms_iou, max_per_image=self._settings.max_per_image)
