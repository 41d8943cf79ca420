"""Stage ``joint``: RPN and Fast R-CNN trained at once ("approximate joint training", Faster R-CNN section 3.2).

One loss of four terms; proposals are made on the way from the RPN as it is, and no gradient passes through their boxes.
Writes the network with both heads (``weights.safetensors``) and the curve. Cost: a forward and a backward pass of one
image and 128 regions, ``joint.iter_size`` times an iteration.
"""

from cache import digest_file, digest_json
from manifests.select import require_exhaustive
from stages.contract import Context
from stages.fast.settings import JointRoiSettings
from stages.networks.forward import device_of
from stages.networks.weights import class_names_meta
from stages.rpn.propose import ProposalRule
from stages.rpn.settings import AnchorSettings, SuppressionSettings
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve

from .joint_training import JointLoss, joint_batches, start
from .network import Shared, frozen_parameters, load_regions, save_regions
from .rpn_training import fold, reach_lines
from .settings import ImageSettings, JointSettings
from .training import (
    check_objects,
    fit,
    identity,
    image_digests,
    inputs_of,
    names_of,
    training_images,
    training_run,
)

CURVE_COLUMNS = ("iteration", "train_loss", "train_rpn_cls", "train_rpn_box", "train_cls", "train_box")


def run(ctx: Context) -> None:
    """Train, or take what was trained before from the store."""
    settings, scale = ctx.settings(JointSettings), ctx.settings(ImageSettings)
    anchors, rois, suppression = (
        ctx.settings(AnchorSettings),
        ctx.settings(JointRoiSettings),
        ctx.settings(SuppressionSettings),
    )
    network = load_regions(ctx.input("weights"), scale.layer)
    records, classes = ctx.dataset().split("train"), ctx.dataset().classes
    require_exhaustive(records, "joint")
    images, shown = (
        training_images(records, scale, difficult=one.difficult, mirror=settings.mirror) for one in (anchors, rois)
    )
    params = identity(
        network,
        seed=ctx.seed,
        node=ctx.node.name,
        classes=classes,
        device=ctx.device,
        joint=settings.identity(),
        rpn=anchors.model_dump(mode="json"),
        fast=rois.identity(),
        propose=suppression.model_dump(mode="json"),
        maps=scale.model_dump(mode="json"),
    )
    inputs = {"images": digest_json(image_digests(records)), "weights": digest_file(ctx.input("weights"))}
    check_objects(images, "rpn")
    check_objects(shown, "fast")
    stays = frozen_parameters(network.network, network.layer, scale.frozen)
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
    loop = training_run(
        settings, ctx.node.name, "joint", seed=ctx.seed, workers=ctx.workers, iter_size=settings.iter_size
    )

    def teach() -> None:
        begun = start(network, images, anchors, rois, len(classes), loop)
        for line in reach_lines(begun.targets.coverage(len(classes)), classes):
            ctx.log.warning(line)
        network.to(device_of(ctx.device))
        keep = ProposalRule(settings.before_nms, suppression.nms_iou, settings.after_nms, suppression.min_side_px)
        given = inputs_of(ctx.image, network, images, settings.image_cache_mb)
        curve = fit(
            Shared(network, trunk=True, rpn=True, fast=True),
            settings,
            frozen=stays,
            draw=joint_batches(begun.targets, shown, given, begun.entry_of, loop),
            loss=JointLoss(begun.rule, keep, rois, begun.norm, begun.pooling, settings.precision),
            images_of=names_of(images, begun.entry_of),
            run=loop,
            checkpoint=checkpoint,
            log=ctx.log,
        )
        fold(network, begun.rule)
        save_regions(ctx.output("weights"), network, {"stage": ctx.node.name, **class_names_meta(classes)})
        write_curve(ctx.output("curve"), CURVE_COLUMNS, curve)
        ctx.after_commit(checkpoint.remove)

    ctx.trained(params, inputs, teach)
