"""Training of Fast R-CNN: the batches, regions of some images, and their loss (Fast R-CNN section 2.3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.fast.loss import fast_loss
from stages.fast.pooling import RoiPooling
from stages.fast.rois import LabelledRois, TargetNorm, draw_rois, labelled_rois, target_norm
from stages.fast.settings import FastSettings, RoiSettings
from stages.finetune.windows import Limits
from stages.networks.forward import in_precision
from stages.training.images import ImageSide, Objects
from stages.training.loop import TrainingRun, generator

from .images import Inputs, TrainingImages
from .network import RegionNetwork, Shared
from .training import on_device


@dataclass(frozen=True)
class ImageRois:
    """One image of a mini-batch: what the network takes of it, and the regions drawn from it.

    ``rois`` float32 [n, 4] px of the original (mirrored) image, ``scale`` leads to the network's input; ``labels``
    int64 [n], ``targets`` float32 [n, 4] standardised.
    """

    inputs: NDArray[np.float32]
    rois: Boxes
    scale: tuple[float, float]
    labels: NDArray[np.int64]
    targets: NDArray[np.float32]


def rois_of(objects: Objects, proposals: Boxes, settings: RoiSettings) -> LabelledRois:
    """Label an image's ground truth and proposals as the parameters say."""
    boxes = np.concatenate([objects.boxes, objects.crowds])
    crowd = np.arange(len(boxes)) >= len(objects.boxes)
    labels = np.concatenate([objects.labels, np.zeros(len(objects.crowds), np.int64)])
    limits = Limits(settings.fg_iou, settings.bg_iou, settings.bg_iou_low)
    return labelled_rois(boxes, labels, crowd, proposals, limits)


class RoiTargets:
    """The labelled regions of training images, and what is drawn of them; safe to call from several threads."""

    def __init__(
        self, images: TrainingImages, proposals: Sequence[Boxes], settings: FastSettings, n_classes: int
    ) -> None:
        self.images, self._settings, self._n_classes = images, settings, n_classes
        self._rois = [
            rois_of(images.objects(ImageSide(i, mirrored=False)), boxes, settings) for i, boxes in enumerate(proposals)
        ]

    def usable(self) -> list[ImageSide]:
        """Return the entries with a region to learn from; StageError where no region shows an object."""
        if not any((rois.labels > 0).any() for rois in self._rois):
            raise StageError(
                "fast: no region of the train split overlaps an object enough to be foreground; lower fast.fg_iou, or "
                "annotate objects"
            )
        return [entry for entry in self.images.entries if len(self._rois[entry.image])]

    def norm(self) -> TargetNorm:
        """Return what box targets are standardised by."""
        if self._settings.targets == "fixed":
            return TargetNorm.fixed(self._n_classes)
        return target_norm(self._rois, self._n_classes, mirror=self.images.mirror)

    def counts(self) -> NDArray[np.int64]:
        """Count the regions of each class: int64 [n_classes + 1], background first."""
        labels = np.concatenate([rois.labels for rois in self._rois])
        return np.bincount(labels, minlength=self._n_classes + 1)

    def draw(self, entry: ImageSide, rng: np.random.Generator) -> LabelledRois:
        """Draw an image's part of a mini-batch."""
        rois, settings = self._rois[entry.image], self._settings
        rows = draw_rois(rois, rois_per_image=settings.rois_per_image, fg_fraction=settings.fg_fraction, rng=rng)
        drawn = rois.take(rows)
        return drawn.mirrored(self.images.records[entry.image].width) if entry.mirrored else drawn


def fast_batches(
    targets: RoiTargets,
    norm: TargetNorm,
    inputs: Inputs,
    entries_of: Callable[[int], tuple[ImageSide, ...]],
    run: TrainingRun,
) -> Callable[[int], list[ImageRois]]:
    """Return what makes mini-batch ``number``; called from several threads."""

    def batch(number: int) -> list[ImageRois]:
        rng = generator(run.seed, run.stage, "regions", number)
        made = []
        for entry in entries_of(number):
            drawn, size = targets.draw(entry, rng), targets.images.sizes[entry.image]
            wanted = norm.normalise(drawn.transforms(), drawn.labels)
            made.append(ImageRois(inputs(entry), drawn.boxes, (size.scale_x, size.scale_y), drawn.labels, wanted))
        return made

    return batch


def fast_terms(
    pooling: RoiPooling, settings: FastSettings
) -> Callable[[Shared, Sequence[ImageRois]], Mapping[str, Tensor]]:
    """Make the loss of the training loop: ``cls`` and ``box`` of the regions of all of the mini-batch's images.

    Each image passes by itself, without padding to the largest, and all regions together through the fc layers.
    """

    def loss(model: Shared, batch: Sequence[ImageRois]) -> Mapping[str, Tensor]:
        assert model.fast is not None
        device = next(model.parameters()).device
        with in_precision(device, settings.precision):
            pooled = [pooling(model.map_of(on_device(one.inputs, device)), one.rois, one.scale) for one in batch]
            logits, transforms = model.fast(torch.cat(pooled))
        labels = torch.from_numpy(np.concatenate([one.labels for one in batch])).to(device)
        targets = torch.from_numpy(np.concatenate([one.targets for one in batch])).to(device)
        return fast_loss(logits.float(), transforms.float(), labels, targets, sigma=settings.sigma)

    return loss


def prepare_fast(network: RegionNetwork, settings: RoiSettings, norm: TargetNorm) -> RoiPooling:
    """Tell the network how its regions are pooled and its targets standardised; returns the pooling."""
    network.pooled_by = (settings.pooling, settings.cells)
    network.norm = norm
    return network.pooling
