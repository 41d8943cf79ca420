"""Stage ``joint``: RPN and Fast R-CNN trained at once ("approximate joint training", Faster R-CNN section 3.2).

One loss of four terms; proposals are made on the way from the RPN as it is, and no gradient passes through their boxes.
Writes the network with both heads (``weights.safetensors``) and the curve. Cost: a forward and a backward pass of one
image and 128 regions, ``joint.iter_size`` times an iteration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cache import digest_file, digest_json
from stages.boxes.geometry import Boxes
from stages.contract import Context
from stages.fast.images import ScaledSize
from stages.fast.loss import fast_loss
from stages.fast.pooling import RoiPooling
from stages.fast.rois import TargetNorm, draw_rois
from stages.fast.settings import JointRoiSettings
from stages.networks.forward import device_of
from stages.networks.weights import class_names_meta
from stages.rpn.head import margins
from stages.rpn.loss import LossRule, rpn_loss
from stages.rpn.propose import ProposalRule, propose
from stages.rpn.settings import AnchorSettings, SuppressionSettings
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import TrainingRun, generator, torch_generator, train

from .fast_training import prepare_fast, rois_of
from .images import Entry, Inputs, Objects, TrainingImages
from .network import Shared, load_regions, save_regions
from .proposer import scale_of
from .rpn_training import AnchorTargets, RpnBatch, fold, reach_lines, rpn_shape
from .settings import ImageSettings, JointSettings
from .training import (
    arithmetic,
    batches,
    frozen_of,
    identity,
    image_digests,
    inputs_of,
    on_device,
    schedule_of,
    solver_of,
    training_records,
    training_run,
)

CURVE_COLUMNS = ("iteration", "train_loss", "train_rpn_cls", "train_rpn_box", "train_cls", "train_box")


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
    entry_of: Callable[[int], tuple[Entry, ...]],
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
        with arithmetic(device, self.precision):
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
        with arithmetic(device, self.precision):
            pooled = self.pooling(fmap, drawn.boxes, (batch.size.scale_x, batch.size.scale_y))
            classes, transforms = model.fast(pooled)
        labels, targets = torch.from_numpy(drawn.labels).to(device), torch.from_numpy(wanted).to(device)
        return terms | fast_loss(classes.float(), transforms.float(), labels, targets)

    def _proposals(self, logits: Tensor, deltas: Tensor, batch: JointBatch) -> Boxes:
        """Make the image's proposals of the RPN as it is, in the original's pixels."""
        rule = self.anchor_rule
        scores = margins(logits).detach().float().cpu().numpy()
        moves = deltas.detach().float().cpu().numpy() * np.array(rule.std, np.float32) + np.array(rule.mean, np.float32)
        size = batch.size
        found = propose(batch.anchors, scores, moves, size.width, size.height, self.proposal_rule, scale=scale_of(size))
        return size.unscaled(found.boxes)


def run(ctx: Context) -> None:
    """Train, or take what was trained before from the store."""
    settings, scale = ctx.settings(JointSettings), ctx.settings(ImageSettings)
    anchors, rois, suppression = (
        ctx.settings(AnchorSettings),
        ctx.settings(JointRoiSettings),
        ctx.settings(SuppressionSettings),
    )
    network = load_regions(ctx.input("weights"), scale.layer)
    records = training_records(ctx, rpn=anchors.difficult, fast=rois.difficult)
    classes = ctx.dataset().classes
    images, shown = (
        TrainingImages(
            records, short_px=scale.short_px, long_px=scale.long_px, difficult=one.difficult, mirror=settings.mirror
        )
        for one in (anchors, rois)
    )
    params = identity(
        ctx,
        network,
        joint=settings.identity(),
        rpn=anchors.model_dump(mode="json"),
        fast=rois.model_dump(mode="json"),
        propose=suppression.model_dump(mode="json"),
        maps=scale.model_dump(mode="json"),
    )
    inputs = {"images": digest_json(image_digests(records)), "weights": digest_file(ctx.input("weights"))}
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
    loop = training_run(settings, ctx.node.name, "joint", ctx, settings.iter_size)

    def teach() -> None:
        network.add_rpn(rpn_shape(anchors, network), torch_generator(loop.seed, "joint", "new layers of rpn"))
        network.add_fast(len(classes), torch_generator(loop.seed, "joint", "new layers of fast"))
        norm = TargetNorm.fixed(len(classes))
        pooling = prepare_fast(network, rois, norm)
        targets = AnchorTargets(network, images, anchors)
        entries = targets.usable()
        for line in reach_lines(targets.coverage(len(classes)), classes):
            ctx.log.warning(line)
        assert network.rpn is not None and network.fast is not None
        for part in (network.network, network.rpn, network.fast):
            part.to(device_of(ctx.device))
        model = Shared(network, trunk=True, rpn=True, fast=True)
        rule = targets.loss_rule(entries)
        keep = ProposalRule(settings.before_nms, suppression.nms_iou, settings.after_nms, suppression.min_side_px)
        given = inputs_of(ctx, network, images, settings)
        curve = train(
            model,
            solver_of(model, frozen_of(network, scale.frozen, trunk=True), settings),
            schedule=schedule_of(settings),
            draw=joint_batches(targets, shown, given, batches(images, entries, 1, loop), loop),
            loss=JointLoss(rule, keep, rois, norm, pooling, settings.precision),
            run=loop,
            checkpoint=checkpoint,
            log=ctx.log,
        )
        fold(network, rule)
        save_regions(ctx.output("weights"), network, {"stage": ctx.node.name, **class_names_meta(classes)})
        write_curve(ctx.output("curve"), CURVE_COLUMNS, curve)
        ctx.after_commit(checkpoint.remove)

    ctx.trained(params, inputs, teach)
