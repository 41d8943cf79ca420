"""Stage ``rpn``: train a Region Proposal Network (Faster R-CNN sections 3.1 and 3.2).

As ``rpn_1`` from ImageNet's weights with all convolutions; as ``rpn_2`` from the maps of the detector's convolutions,
which it shares and leaves as they are. Writes the network with its RPN (``weights.safetensors``) and the curve. Cost: a
forward and a backward pass of one image an iteration; from maps, of the RPN's own layers.
"""

from cache import digest_file, digest_json
from stages.contract import Context
from stages.networks.forward import device_of
from stages.networks.weights import class_names_meta
from stages.rpn.settings import RpnSettings
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import torch_generator, train

from .images import TrainingImages
from .lists import maps_of
from .network import Shared, load_regions, save_regions
from .rpn_training import AnchorTargets, fold, reach_lines, rpn_batches, rpn_shape, rpn_terms
from .settings import ImageSettings
from .training import (
    batches,
    check_objects,
    frozen_of,
    identity,
    image_digests,
    map_inputs,
    pixel_inputs,
    schedule_of,
    solver_of,
    training_run,
)

CURVE_COLUMNS = ("iteration", "train_loss", "train_rpn_cls", "train_rpn_box")


def run(ctx: Context) -> None:
    """Train, or take what was trained before from the store."""
    settings, scale = ctx.settings(RpnSettings), ctx.settings(ImageSettings)
    network = load_regions(ctx.input("weights"), scale.layer)
    own_convolutions = not ctx.has("maps")
    records = ctx.dataset().split("train")
    images = TrainingImages(
        records,
        short_px=scale.short_px,
        long_px=scale.long_px,
        difficult=settings.difficult,
        mirror=settings.mirror,
    )
    maps = []
    if not own_convolutions:
        maps = [maps_of(ctx.artifact("maps"), network, scale, ctx.input("manifest"), ctx.shown("maps")).keys]
    params = identity(
        network,
        seed=ctx.seed,
        node=ctx.node.name,
        classes=ctx.dataset().classes,
        device=ctx.device,
        rpn=settings.identity(),
        maps=scale.model_dump(mode="json"),
    )
    inputs = {
        "images": digest_json(image_digests(records, *maps)),
        "weights": digest_file(ctx.input("weights")),
    }
    check_objects(images, "rpn")
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
    loop = training_run(settings, ctx.node.name, "rpn", seed=ctx.seed, workers=ctx.workers)

    def teach() -> None:
        network.add_rpn(rpn_shape(settings, network), torch_generator(loop.seed, "rpn", "new layers"))
        targets = AnchorTargets(network, images, settings)
        entries = targets.usable()
        for line in reach_lines(targets.coverage(len(ctx.dataset().classes)), ctx.dataset().classes):
            ctx.log.warning(line)
        network.network.to(device_of(ctx.device))
        assert network.rpn is not None
        network.rpn.to(device_of(ctx.device))
        model = Shared(network, trunk=own_convolutions, rpn=True, fast=False)
        rule = targets.loss_rule(entries)
        given = (
            pixel_inputs(ctx.image, network, images, settings.image_cache_mb)
            if own_convolutions
            else map_inputs(ctx.store, ctx.artifact("maps"), images, settings.image_cache_mb)
        )
        curve = train(
            model,
            solver_of(model, frozen_of(network, scale.frozen, trunk=own_convolutions), settings),
            schedule=schedule_of(settings),
            draw=rpn_batches(targets, given, batches(images, entries, 1, loop), loop),
            loss=rpn_terms(rule, settings.precision),
            run=loop,
            checkpoint=checkpoint,
            log=ctx.log,
        )
        fold(network, rule)
        save_regions(
            ctx.output("weights"), network, {"stage": ctx.node.name, **class_names_meta(ctx.dataset().classes)}
        )
        write_curve(ctx.output("curve"), CURVE_COLUMNS, curve)
        ctx.after_commit(checkpoint.remove)

    ctx.trained(params, inputs, teach)
