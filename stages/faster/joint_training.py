"""Joint training of RPN and Fast R-CNN: its start, the batches, one image each, and the loss of four terms (section
3.2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.boxes.geometry import Boxes
from stages.fast.images import ScaledSize
from stages.fast.loss import fast_loss
from stages.fast.pooling import RoiPooling
from stages.fast.rois import TargetNorm, draw_rois
from stages.fast.settings import JointRoiSettings
from stages.networks.forward import in_precision
from stages.rpn.head import margins
from stages.rpn.loss import LossRule, rpn_loss
from stages.rpn.propose import ProposalRule, propose
from stages.rpn.settings import AnchorSettings
from stages.training.images import ImageSide, Objects
from stages.training.loop import TrainingRun, generator, torch_generator

from .fast_training import prepare_fast, rois_of
from .images import Inputs, TrainingImages
from .network import RegionNetwork, Shared
from .proposer import scale_of
from .rpn_training import AnchorTargets, RpnBatch, rpn_shape
from .training import batches, on_device


@dataclass(frozen=True)
class JointStart:
    """What a joint training begins with: what gives anchors, the order of the images, and how losses are weighed.

    ``entry_of`` names the one image of batch ``number``, and whether it is mirrored.
    """

    targets: AnchorTargets
    entry_of: Callable[[int], tuple[ImageSide, ...]]
    rule: LossRule
    norm: TargetNorm
    pooling: RoiPooling


def start(
    network: RegionNetwork,
    images: TrainingImages,
    anchors: AnchorSettings,
    rois: JointRoiSettings,
    n_classes: int,
    run: TrainingRun,
) -> JointStart:
    """Give a network its new heads, drawn from the run's seed, and put together what its training begins with.

    StageError where no image has an anchor to learn from.
    """
    network.add_rpn(rpn_shape(anchors, network), torch_generator(run.seed, run.stage, "new layers of rpn"))
    network.fit_fc6(torch_generator(run.seed, run.stage, "fc6"))
    network.add_fast(n_classes, torch_generator(run.seed, run.stage, "new layers of fast"))
    norm = TargetNorm.fixed(n_classes)
    pooling = prepare_fast(network, rois, norm)
    targets = AnchorTargets(network, images, anchors)
    entries = targets.usable()
    return JointStart(targets, batches(images, entries, 1, run), targets.loss_rule(entries), norm, pooling)


@dataclass(frozen=True)
class JointBatch:
    """One image: what the RPN learns from it, and what its proposals will be labelled by.

    ``anchors`` [n, 4] px of the resized image; ``objects`` in the original's (mirrored where it is); ``rng`` draws the
    regions.
    """

    rpn: RpnBatch
    anchors: np.ndarray
    size: ScaledSize
    objects: Objects
    rng: np.random.Generator


def joint_batches(
    targets: AnchorTargets,
    shown: TrainingImages,
    inputs: Inputs,
    entry_of: Callable[[int], tuple[ImageSide, ...]],
    run: TrainingRun,
) -> Callable[[int], JointBatch]:
    """Return what makes batch ``number``: one image; called from several threads.

    ``shown`` are the images of ``targets`` with the objects that regions are labelled by (``fast.difficult``).
    """

    def batch(number: int) -> JointBatch:
        (entry,) = entry_of(number)
        sample = targets.draw(entry, generator(run.seed, run.stage, "anchors", number))
        return JointBatch(
            RpnBatch(inputs(entry), sample),
            targets.grid(entry.image),
            targets.images.sizes[entry.image],
            shown.objects(entry),
            generator(run.seed, run.stage, "regions", number),
        )

    return batch


@dataclass(frozen=True)
class JointLoss:
    """The loss of the training loop: ``rpn_cls``, ``rpn_box``, ``cls``, ``box`` of one image."""

    anchor_rule: LossRule
    proposal_rule: ProposalRule
    rois: JointRoiSettings
    norm: TargetNorm
    pooling: RoiPooling
    precision: str

    def __call__(self, model: Shared, batch: JointBatch) -> Mapping[str, Tensor]:
        """Compute the four terms."""
        assert model.rpn is not None and model.fast is not None
        device = next(model.parameters()).device
        with in_precision(device, self.precision):
            fmap = model.map_of(on_device(batch.rpn.inputs, device))
            logits, deltas = model.rpn(fmap)
        positions = fmap.shape[2] * fmap.shape[3]
        terms = rpn_loss(logits[0].float(), deltas[0].float(), batch.rpn.sample, self.anchor_rule, positions)
        drawn = rois_of(batch.objects, self._proposals(logits[0], deltas[0], batch), self.rois)
        rows = draw_rois(
            drawn, rois_per_image=self.rois.rois_per_image, fg_fraction=self.rois.fg_fraction, rng=batch.rng
        )
        drawn = drawn.take(rows)
        wanted = self.norm.normalise(drawn.transforms(), drawn.labels)
        with in_precision(device, self.precision):
            pooled = self.pooling(fmap, drawn.boxes, (batch.size.scale_x, batch.size.scale_y))
            classes, transforms = model.fast(pooled)
        labels, targets = torch.from_numpy(drawn.labels).to(device), torch.from_numpy(wanted).to(device)
        return terms | fast_loss(classes.float(), transforms.float(), labels, targets, sigma=self.rois.sigma)

    def _proposals(self, logits: Tensor, deltas: Tensor, batch: JointBatch) -> Boxes:
        """Make the image's proposals of the RPN as it is, in the original's pixels."""
        rule = self.anchor_rule
        scores = margins(logits).detach().float().cpu().numpy()
        moves = deltas.detach().float().cpu().numpy() * np.array(rule.std, np.float32) + np.array(rule.mean, np.float32)
        size = batch.size
        found = propose(batch.anchors, scores, moves, size.width, size.height, self.proposal_rule, scale=scale_of(size))
        return size.unscaled(found.boxes)
