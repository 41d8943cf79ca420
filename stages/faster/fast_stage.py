"""Stage ``fast``: train Fast R-CNN on proposals (Fast R-CNN section 2.3; steps 2 and 4 of Faster R-CNN section 3.2).

As ``fast`` and ``fast_1`` from ImageNet's weights with the convolutions that ``maps.frozen`` leaves; as ``fast_2`` from
stored maps, so that its fully connected layers alone are trained. Writes the network with its new layers
(``weights.safetensors``) and the curve. Cost: a forward and a backward pass of two images and 128 regions an iteration.
"""

from typing import Any

from cache import Artifact, digest_file, digest_json
from manifests.select import require_exhaustive
from stages.boxes.geometry import Boxes
from stages.contract import Context, ReadImage
from stages.fast.settings import FastSettings
from stages.lists import of_dataset
from stages.networks.forward import device_of
from stages.networks.weights import class_names_meta
from stages.proposals.reading import proposals_key
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import torch_generator

from .fast_training import RoiTargets, fast_batches, fast_terms, prepare_fast
from .lists import maps_of, trained_on
from .network import Shared, frozen_parameters, load_regions, save_regions
from .settings import ImageSettings
from .training import (
    StoredMaps,
    batches,
    check_objects,
    fit,
    identity,
    image_digests,
    inputs_of,
    map_shapes,
    names_of,
    training_images,
    training_run,
)

CURVE_COLUMNS = ("iteration", "train_loss", "train_cls", "train_box")


def run(ctx: Context) -> None:
    """Train, or take what was trained before from the store."""
    settings, scale = ctx.settings(FastSettings), ctx.settings(ImageSettings)
    network = load_regions(ctx.input("weights"), scale.layer)
    records = ctx.dataset().split("train")
    require_exhaustive(records, "fast")
    proposals = of_dataset(ctx.artifact("proposals"), ctx.input("manifest"), ctx.shown("proposals"))
    images = training_images(records, scale, difficult=settings.difficult, mirror=settings.mirror)
    source: ReadImage | StoredMaps = ctx.image
    maps = []
    if ctx.has("maps"):
        listed = maps_of(ctx.artifact("maps"), trained_on(network, scale), ctx.input("manifest"), ctx.shown("maps"))
        source, maps = StoredMaps(ctx.store, listed), [listed.keys]
    regions = {record.id: proposals_key(proposals, record) for record in records}
    params = identity(
        network,
        seed=ctx.seed,
        node=ctx.node.name,
        classes=ctx.dataset().classes,
        device=ctx.device,
        fast=settings.identity(),
        maps=scale.model_dump(mode="json"),
    )
    inputs: dict[str, Any] = {
        "images": digest_json(image_digests(records, regions, *maps)),
        "weights": digest_file(ctx.input("weights")),
    }
    check_objects(images, "fast")
    stays = set() if ctx.has("maps") else frozen_parameters(network.network, network.layer, scale.frozen)
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
    loop = training_run(settings, ctx.node.name, "fast", seed=ctx.seed, workers=ctx.workers)

    def teach() -> None:
        classes = ctx.dataset().classes
        map_shapes(network, images)
        targets = RoiTargets(images, [_boxes(ctx, proposals, regions[r.id]) for r in records], settings, len(classes))
        entries = targets.usable()
        _say_counts(ctx, targets, classes)
        kept = settings.heads == "kept" and network.fast is not None and network.classes == classes
        if settings.heads == "kept" and network.fast is not None and not kept:
            ctx.log.warning(
                f"fast.heads: kept, but those of {ctx.shown('weights')} are for {', '.join(network.classes)}; new ones "
                "are drawn"
            )
        norm = network.norm if kept and network.norm is not None else targets.norm()
        if not kept:
            network.fit_fc6(torch_generator(loop.seed, "fast", "fc6"))
            network.add_fast(len(classes), torch_generator(loop.seed, "fast", "new layers"))
        pooling = prepare_fast(network, settings, norm)
        network.to(device_of(ctx.device))
        name = batches(images, entries, settings.images_per_batch, loop)
        given = inputs_of(source, network, images, settings.image_cache_mb)
        curve = fit(
            Shared(network, trunk=not ctx.has("maps"), rpn=False, fast=True),
            settings,
            frozen=stays,
            draw=fast_batches(targets, norm, given, name, loop),
            loss=fast_terms(pooling, settings),
            images_of=names_of(images, name),
            run=loop,
            checkpoint=checkpoint,
            log=ctx.log,
        )
        save_regions(ctx.output("weights"), network, {"stage": ctx.node.name, **class_names_meta(classes)})
        write_curve(ctx.output("curve"), CURVE_COLUMNS, curve)
        ctx.after_commit(checkpoint.remove)

    ctx.trained(params, inputs, teach)


def _boxes(ctx: Context, proposals: Artifact, key: str) -> Boxes:
    boxes: Boxes = ctx.store.get(proposals.stage, key, ["boxes"]).arrays["boxes"]
    return boxes


def _say_counts(ctx: Context, targets: RoiTargets, classes: tuple[str, ...]) -> None:
    """Tell how many regions there are, and of which class none is foreground."""
    background, *foreground = targets.counts().tolist()
    ctx.log.info(
        f"{sum(foreground)} foreground and {background} background regions of {len(targets.images.records)} images"
    )
    for name, count in zip(classes, foreground, strict=True):
        if not count:
            ctx.log.warning(f"class {name!r} has no foreground region: it cannot be learned")
    if not background:
        ctx.log.warning("no background regions (no proposals?); mini-batches hold foreground only")
