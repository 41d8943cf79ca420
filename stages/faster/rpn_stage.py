"""Stage ``rpn``: train a Region Proposal Network (Faster R-CNN sections 3.1 and 3.2).

As ``rpn_1`` from ImageNet's weights with all convolutions; as ``rpn_2`` from the maps of the detector's convolutions,
which it shares and leaves as they are. Writes the network with its RPN (``weights.safetensors``) and the curve. Cost: a
forward and a backward pass of one image an iteration; from maps, of the RPN's own layers.
"""

from cache import digest_file, digest_json
from manifests.select import require_exhaustive
from stages.contract import Context, ReadImage
from stages.networks.forward import device_of
from stages.networks.weights import class_names_meta
from stages.rpn.settings import RpnSettings
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import torch_generator

from .lists import maps_of, trained_on
from .network import Shared, frozen_parameters, load_regions, save_regions
from .rpn_training import AnchorTargets, fold, reach_lines, rpn_batches, rpn_shape, rpn_terms
from .settings import ImageSettings
from .training import (
    StoredMaps,
    batches,
    check_objects,
    fit,
    identity,
    image_digests,
    inputs_of,
    names_of,
    training_images,
    training_run,
)

CURVE_COLUMNS = ("iteration", "train_loss", "train_rpn_cls", "train_rpn_box")


def run(ctx: Context) -> None:
    """Train, or take what was trained before from the store."""
    settings, scale = ctx.settings(RpnSettings), ctx.settings(ImageSettings)
    network = load_regions(ctx.input("weights"), scale.layer)
    records = ctx.dataset().split("train")
    require_exhaustive(records, "rpn")
    images = training_images(records, scale, difficult=settings.difficult, mirror=settings.mirror)
    source: ReadImage | StoredMaps = ctx.image
    maps = []
    if ctx.has("maps"):
        listed = maps_of(ctx.artifact("maps"), trained_on(network, scale), ctx.input("manifest"), ctx.shown("maps"))
        source, maps = StoredMaps(ctx.store, listed), [listed.keys]
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
    stays = set() if ctx.has("maps") else frozen_parameters(network.network, network.layer, scale.frozen)
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
    loop = training_run(settings, ctx.node.name, "rpn", seed=ctx.seed, workers=ctx.workers)

    def teach() -> None:
        network.add_rpn(rpn_shape(settings, network), torch_generator(loop.seed, "rpn", "new layers"))
        targets = AnchorTargets(network, images, settings)
        entries = targets.usable()
        for line in reach_lines(targets.coverage(len(ctx.dataset().classes)), ctx.dataset().classes):
            ctx.log.warning(line)
        network.to(device_of(ctx.device))
        rule, name = targets.loss_rule(entries), batches(images, entries, 1, loop)
        given = inputs_of(source, network, images, settings.image_cache_mb)
        curve = fit(
            Shared(network, trunk=not ctx.has("maps"), rpn=True, fast=False),
            settings,
            frozen=stays,
            draw=rpn_batches(targets, given, name, loop),
            loss=rpn_terms(rule, settings.precision),
            images_of=names_of(images, name),
            run=loop,
            checkpoint=checkpoint,
            log=ctx.log,
        )
        fold(network, rule)
        names = network.classes or ctx.dataset().classes  # of Fast R-CNN's layers, which are handed on as they are
        save_regions(ctx.output("weights"), network, {"stage": ctx.node.name, **class_names_meta(names)})
        write_curve(ctx.output("curve"), CURVE_COLUMNS, curve)
        ctx.after_commit(checkpoint.remove)

    ctx.trained(params, inputs, teach)
