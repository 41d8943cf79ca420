"""Training of a Region Proposal Network: the batches, each an image's sampled anchors, and their loss (section 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.errors import StageError
from stages.boxes.assignment import assign
from stages.networks.forward import in_precision
from stages.rpn.anchors import Anchors, Floats, inside
from stages.rpn.coverage import AnchorCoverage, coverage
from stages.rpn.loss import LossRule, paper_rule, rpn_loss
from stages.rpn.settings import AnchorSettings, RpnShapeSettings
from stages.rpn.targets import (
    AnchorLabels,
    LabelRule,
    MiniBatch,
    draw,
    label_anchors,
    transform_statistics,
    transforms_of,
)
from stages.training.images import ImageSide
from stages.training.loop import TrainingRun, generator

from .images import Inputs, TrainingImages
from .network import RegionNetwork, RpnShape, Shared
from .training import map_shapes, on_device


@dataclass(frozen=True)
class RpnBatch:
    """One image of one step: what the network takes of it, and the anchors to learn from."""

    inputs: NDArray[np.float32]
    sample: MiniBatch


@dataclass(frozen=True)
class LabelledAnchors:
    """The anchors of one image with their labels, and its objects in px of the resized image."""

    grid: Floats
    objects: NDArray[np.float32]
    labels: AnchorLabels


class AnchorTargets:
    """Labels the anchors of training images; safe to call from several threads."""

    def __init__(self, network: RegionNetwork, images: TrainingImages, settings: AnchorSettings) -> None:
        assert network.rpn_shape is not None
        self.images = images
        self.anchors, self._places = network.rpn_shape.anchors, network.places
        self._network, self._settings = network, settings
        self._rule = LabelRule(settings.positive_iou, settings.negative_iou, settings.border_px)
        self._map_shapes = map_shapes(network, images)

    def grid(self, image: int) -> Floats:
        """Return the anchors of an image, [h * w * A, 4] px of the resized one."""
        size = self.images.sizes[image]
        return self.anchors.grid(self._map_shapes[size.height, size.width], self._places)

    def label(self, entry: ImageSide) -> LabelledAnchors:
        """Label an image's anchors; StageError naming it where none lies within."""
        size, found = self.images.sizes[entry.image], self.images.objects(entry)
        grid, objects = self.grid(entry.image), size.scaled(found.boxes)
        try:
            crowds = size.scaled(found.crowds)
            labels = label_anchors(grid, objects, size.width, size.height, self._rule, crowds)
        except StageError as error:
            raise StageError(f"{self.images.records[entry.image].file_name}: {error}") from None
        return LabelledAnchors(grid, objects, labels)

    def draw(self, entry: ImageSide, rng: np.random.Generator) -> MiniBatch:
        """Draw the anchors of an image that one step learns from."""
        one, settings = self.label(entry), self._settings
        return draw(
            one.grid,
            one.objects,
            one.labels,
            rng,
            batch=settings.batch,
            positive_fraction=settings.positive_fraction,
        )

    def usable(self) -> list[ImageSide]:
        """Return the entries with an anchor to learn from; StageError where there is none (``border_px``, scales)."""
        sizes = self.images.sizes
        able = [
            bool(inside(self.grid(i), sizes[i].width, sizes[i].height, self._rule.border_px).any())
            for i in range(len(sizes))
        ]
        if not any(able):
            raise StageError(
                "rpn: no training image has an anchor within it; set rpn.border_px to null, which trains on anchors "
                "that cross the edges too, add smaller rpn.scales_px, or raise maps.short_px"
            )
        return [entry for entry in self.images.entries if able[entry.image]]

    def coverage(self, n_classes: int) -> AnchorCoverage:
        """Count, per class, the objects that no anchor reaches, in the images as they are."""
        objects, labels, best = [], [], []
        for image in range(len(self.images.records)):
            size, found = self.images.sizes[image], self.images.objects(ImageSide(image, mirrored=False))
            grid = self.grid(image)
            own = grid[inside(grid, size.width, size.height, self._rule.border_px)]
            boxes = size.scaled(found.boxes)
            objects.append(boxes)
            labels.append(found.labels)
            best.append(assign(own, boxes).best)
        geometry = self._network.geometry
        stride = float(geometry.x.stride), float(geometry.y.stride)
        return coverage(
            np.concatenate(objects), np.concatenate(labels), np.concatenate(best), n_classes, self.anchors, stride
        )

    def loss_rule(self, entries: Sequence[ImageSide]) -> LossRule:
        """Return how the loss is weighed; by the paper's rule over these entries' own transforms."""
        if self._settings.loss == "authors":
            return LossRule()
        found = []
        for entry in entries:
            one = self.label(entry)
            found.append(transforms_of(one.grid, one.objects, one.labels, one.labels.positive))
        mean, std = transform_statistics(found)
        return paper_rule(tuple(mean.tolist()), tuple(std.tolist()), self._settings.batch)


def rpn_batches(
    targets: AnchorTargets, inputs: Inputs, entry_of: Callable[[int], tuple[ImageSide, ...]], run: TrainingRun
) -> Callable[[int], RpnBatch]:
    """Return what makes batch ``number``: one image; called from several threads."""

    def batch(number: int) -> RpnBatch:
        (entry,) = entry_of(number)
        rng = generator(run.seed, run.stage, "anchors", number)
        return RpnBatch(inputs(entry), targets.draw(entry, rng))

    return batch


def rpn_terms(rule: LossRule, precision: str) -> Callable[[Shared, RpnBatch], Mapping[str, Tensor]]:
    """Make the loss of the training loop: ``rpn_cls`` and ``rpn_box`` of one image."""

    def loss(model: Shared, batch: RpnBatch) -> Mapping[str, Tensor]:
        assert model.rpn is not None
        device = next(model.parameters()).device
        with in_precision(device, precision):
            fmap = model.map_of(on_device(batch.inputs, device))
            logits, deltas = model.rpn(fmap)
        return rpn_loss(logits[0].float(), deltas[0].float(), batch.sample, rule, fmap.shape[2] * fmap.shape[3])

    return loss


def rpn_shape(settings: AnchorSettings | RpnShapeSettings, network: RegionNetwork) -> RpnShape:
    """Return the RPN that the parameters describe."""
    anchors = Anchors(tuple(settings.scales_px), tuple(settings.ratios), settings.anchors)
    channels = settings.channels or (512 if network.network.name == "vgg16" else 256)
    return RpnShape(anchors, settings.centres, settings.objectness, channels)


def fold(network: RegionNetwork, rule: LossRule) -> None:
    """Make the trained head answer plain transforms, where it was trained on standardised ones."""
    if rule.rule == "paper":
        assert network.rpn is not None
        network.rpn.fold(torch.tensor(rule.mean), torch.tensor(rule.std))


def reach_lines(found: AnchorCoverage, classes: Sequence[str]) -> list[str]:
    """Word a line for each class of which more than a twentieth has no anchor above the IoU, and what would help."""
    lines = []
    for name, objects, missed, never in zip(
        classes, found.objects.tolist(), found.missed.tolist(), found.unreachable.tolist(), strict=True
    ):
        if objects and missed > 0.05 * objects:
            other = f"; {never} need other rpn.ratios or a finer map" if never else ""
            lines.append(f"class {name!r}: {missed} of {objects} objects have no anchor with an IoU above 0.5{other}")
    if lines and found.scales_px:
        shown = ", ".join(f"{scale:g}" for scale in found.scales_px)
        lines.append(f"rpn.scales_px: [{shown}] would reach nearly all objects")
    return lines
