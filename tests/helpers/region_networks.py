"""A tiny region network, two images with objects, and the trainings' parts put together as the stages do it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.fast.pooling import Cells, PoolingKind
from stages.fast.rois import TargetNorm
from stages.faster.images import PixelInputs, TrainingImages
from stages.faster.network import RegionNetwork, RpnShape, cut
from stages.finetune.batches import ArrayCache
from stages.networks.network import build
from stages.rpn.anchors import Anchors
from stages.rpn.head import Objectness

SHORT_PX, LONG_PX = 96, 160
CLASSES = 2
SIZES = ((100, 60), (50, 80))  # width, height, px
_BOXES = ([[8, 6, 40, 38], [50, 10, 90, 50]], [[5, 20, 45, 62]])
_LABELS = ([0, 1], [1])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def region_network(
    seed: int = 0,
    *,
    objectness: Objectness = "softmax",
    pooled_by: tuple[PoolingKind, Cells] = ("max", "authors"),
    scales_px: tuple[float, ...] = (24, 48),
) -> RegionNetwork:
    """Network ``small`` with both heads, whose last layers are large enough that scores differ."""
    made = cut(build("small", 3, generator=seeded(seed), fc=(32, 16), pyramid=(3,)), None)
    rpn = made.add_rpn(RpnShape(Anchors(scales_px, (0.5, 1, 2)), "own", objectness, 16), seeded(seed + 1))
    fast = made.add_fast(CLASSES, seeded(seed + 2))
    with torch.no_grad():
        for layer in (rpn.conv, rpn.score, rpn.box, fast.cls_score, fast.bbox_pred):
            layer.weight.normal_(0, 0.3, generator=seeded(seed + 3))
    made.pooled_by = pooled_by
    made.norm = TargetNorm(np.full((CLASSES, 4), 0.05), np.tile(np.array([0.1, 0.1, 0.2, 0.2]), (CLASSES, 1)))
    return made


def pixels(image: int) -> NDArray[np.uint8]:
    """Noise, and each object a brighter box: uint8 [H, W, 3]."""
    width, height = SIZES[image]
    drawn = np.random.default_rng(image).integers(0, 120, (height, width, 3)).astype(np.uint8)
    for x1, y1, x2, y2 in _BOXES[image]:
        drawn[y1:y2, x1:x2] += 100
    return drawn


def records(boxes: Sequence[Sequence[Sequence[float]]] = _BOXES) -> list[ImageRecord]:
    """Return the two images' records."""
    return [
        ImageRecord(
            i + 1, f"{i}.png", width, height, f"{i + 1:064x}", "train", np.array(own, np.float32), np.array(labels)
        )
        for i, ((width, height), own, labels) in enumerate(zip(SIZES, boxes, _LABELS, strict=True))
    ]


def training_images(*, mirror: bool = True) -> TrainingImages:
    """Return both images as trainings take them."""
    return TrainingImages(records(), short_px=SHORT_PX, long_px=LONG_PX, difficult=False, mirror=mirror)


def pixel_inputs(network: RegionNetwork, images: TrainingImages) -> PixelInputs:
    """Return what gives the network the pixels of either image."""
    return PixelInputs(ArrayCache(pixels, 1 << 20), images.sizes, network.network.input)
