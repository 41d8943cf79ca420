"""Stage ``finetune_dense``: the fully connected layers, trained on windows to tell classes and background (section 5).

Reads the network, and the stored maps of the training images that are not held out; the convolutions stay. Writes the
classifier (``weights.safetensors``, :mod:`.classifier`) and the curve. With ``finetune_dense.iterations: 0`` it is the
network as it is. Cost: per iteration a forward pass of the fully connected layers for some 1,200 windows, and a
training pass for some 100.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, digest_file, digest_json
from manifests import ImageRecord
from manifests.select import require_exhaustive
from stages.contract import Context
from stages.dense.windows import windows_of
from stages.networks.forward import device_of
from stages.networks.modes import dropout
from stages.networks.network import Network
from stages.networks.weights import class_names, load_weights, open_weights
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import torch_generator

from .classifier import classifier_as_it_is, new_classifier, save_classifier
from .finetune_dense_training import WindowLabels, window_batches, window_terms
from .lists import map_keys, map_reader, maps_of
from .pooled_rows import PooledRows, fc6_length
from .settings import FinetuneDenseSettings
from .training import CURVE_COLUMNS, fit, identity, image_digests, trained_on, training_run
from .training_images import WindowImages

GROUP = "finetune_dense"


def run(ctx: Context) -> None:
    """Train, or take what was trained before from the store, or pass the network on where ``iterations`` is 0."""
    settings, network = ctx.settings(FinetuneDenseSettings), load_weights(ctx.input("weights"))
    listed = maps_of(ctx.artifact("maps"), network, ctx.input("manifest"), ctx.shown("maps"), mirrored=settings.mirror)
    if settings.iterations == 0:
        _pass_on(ctx, network)
        return
    require_exhaustive(ctx.dataset().split("train"), "finetune_dense")
    records = trained_on(ctx.dataset().split("train"), settings.held_out_fraction, ctx.seed)
    params = identity(settings, GROUP, seed=ctx.seed, classes=ctx.dataset().classes, device=ctx.device)
    inputs: dict[str, Any] = {
        "images": digest_json(image_digests(records, map_keys(listed, records))),
        "weights": digest_file(ctx.input("weights")),
    }
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
    ctx.trained(params, inputs, lambda: _teach(ctx, network, records, listed, checkpoint))


def _pass_on(ctx: Context, network: Network) -> None:
    """Write the network as it is, and a curve that is a heading alone."""
    outputs = class_names(ctx.input("weights"))
    own = open_weights(ctx.input("weights"), header_only=True)[1].get("source") == "classification set"
    if outputs is None and own and network.n_outputs == len(ctx.dataset().classes):
        outputs = ctx.dataset().classes
        ctx.log.warning(
            f"the outputs of {ctx.shown('weights')} have no names; trained on the dataset's own classification set, "
            "they are taken for its classes in their order"
        )
    classifier = classifier_as_it_is(network, outputs, ctx.dataset().classes, ctx.shown("weights"))
    ctx.log.info("finetune_dense.iterations is 0: the classifier is used as it is, without a class for background")
    save_classifier(ctx.output("weights"), classifier, {"stage": ctx.node.name})
    write_curve(ctx.output("curve"), CURVE_COLUMNS, [])
    ctx.publish("trained", [], {})


def _teach(
    ctx: Context, network: Network, records: list[ImageRecord], listed: Artifact, checkpoint: Checkpoint
) -> None:
    """Train the fully connected layers, and write the classifier and the curve."""
    settings, classes = ctx.settings(FinetuneDenseSettings), ctx.dataset().classes
    windows, length = windows_of(network), fc6_length(network)
    scales = listed.summary["scales_px"]
    images = WindowImages(records, windows, scales, difficult=settings.difficult, mirror=settings.mirror)
    labels = WindowLabels(images, settings, len(classes))
    sides, counts = labels.survey()
    _say_counts(ctx, counts, len(records))
    generator = torch_generator(ctx.seed, GROUP, "new layer")
    classifier = new_classifier(network, classes, generator, context=settings.context)
    loop = training_run(settings, GROUP, seed=ctx.seed, workers=ctx.workers)
    cache_bytes = settings.image_cache_mb << 20
    rows = PooledRows(windows, map_reader(ctx.store, listed, records), length, cache_bytes, context=settings.context)
    sides_of = images.batches(sides, settings.images_per_batch, loop)
    with dropout(network, settings.dropout):
        curve = fit(
            classifier.fc_module().to(device_of(ctx.device)),
            settings,
            draw=window_batches(labels, rows, sides_of, loop),
            loss=window_terms(settings.offending_negatives, settings.precision),
            images_of=images.names(sides_of),
            run=loop,
            checkpoint=checkpoint,
            log=ctx.log,
        )
    save_classifier(ctx.output("weights"), classifier, {"stage": ctx.node.name})
    write_curve(ctx.output("curve"), CURVE_COLUMNS, curve)
    ctx.after_commit(checkpoint.remove)


def _say_counts(ctx: Context, counts: NDArray[np.int64], n_images: int) -> None:
    """Tell how many windows there are, and of which class none shows an object."""
    background, *foreground = counts.tolist()
    ctx.log.info(f"{sum(foreground)} windows on objects and {background} on background of {n_images} images")
    for name, count in zip(ctx.dataset().classes, foreground, strict=True):
        if not count:
            ctx.log.warning(f"class {name!r} has no window on an object: it cannot be learned")
