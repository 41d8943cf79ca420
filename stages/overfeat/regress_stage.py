"""Stage ``regress``: a network that says where in its window an object lies (OverFeat section 4.2).

Reads the network, of which it keeps nothing but the form of its windows, and the stored maps of the training images
that are not held out. Writes the regressor (``weights.safetensors``, :mod:`.regressor`) and the curve. Cost: per
iteration a training pass of three fully connected layers for ``regress.batch`` windows.
"""

from dataclasses import asdict
from typing import Any

from cache import Artifact, digest_json
from manifests import ImageRecord
from manifests.select import require_exhaustive
from stages.contract import Context
from stages.dense.windows import windows_of
from stages.networks.forward import device_of
from stages.networks.network import Network
from stages.networks.weights import load_weights, weights_digest
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import torch_generator

from .lists import map_keys, map_reader, maps_of
from .pooled_rows import PooledRows, fc6_length
from .regress_training import EdgeTargets, edge_batches, edge_terms
from .regressor import EDGES, EdgeRegressor, new_edge_layers, save_regressor
from .settings import HeldOutSettings, RegressSettings
from .training import CURVE_COLUMNS, fit, identity, image_digests, trained_on, training_run
from .training_images import WindowImages

GROUP = "regress"


def run(ctx: Context) -> None:
    """Train, or take what was trained before from the store.

    The key names the maps and the convolutions before them, and not what the network has behind them.
    """
    settings, network = ctx.settings(RegressSettings), load_weights(ctx.input("weights"))
    listed = maps_of(ctx.artifact("maps"), network, ctx.input("manifest"), ctx.shown("maps"), mirrored=settings.mirror)
    fraction = ctx.settings(HeldOutSettings).held_out_fraction
    require_exhaustive(ctx.dataset().split("train"), "regress")
    records = trained_on(ctx.dataset().split("train"), fraction, ctx.seed)
    own = identity(settings, GROUP, seed=ctx.seed, classes=ctx.dataset().classes, device=ctx.device)
    params = {**own, "windows": asdict(windows_of(network))}
    inputs: dict[str, Any] = {
        "images": digest_json(image_digests(records, map_keys(listed, records))),
        "conv": weights_digest(network, [network.conv5]),
    }
    checkpoint = Checkpoint(ctx.work_dir(), {"version": ctx.node.version, **params, **inputs})
    ctx.trained(params, inputs, lambda: _teach(ctx, network, records, listed, checkpoint))


def _teach(
    ctx: Context, network: Network, records: list[ImageRecord], listed: Artifact, checkpoint: Checkpoint
) -> None:
    """Train the regressor's layers, and write them and the curve."""
    settings, classes = ctx.settings(RegressSettings), ctx.dataset().classes
    windows, length = windows_of(network), fc6_length(network)
    scales = listed.summary["scales_px"]
    images = WindowImages(records, windows, scales, difficult=settings.difficult, mirror=settings.mirror)
    targets = EdgeTargets(images, settings)
    _say_counts(ctx, targets, len(records), settings.per_class)
    generator = torch_generator(ctx.seed, GROUP, "layers")
    outputs = EDGES * (len(classes) if settings.per_class else 1)
    layers = new_edge_layers(length, settings.units, outputs, generator)
    mean, std = targets.norm()
    digest = weights_digest(network, [network.conv5])
    regressor = EdgeRegressor(layers, mean, std, classes, settings.per_class, digest)
    loop = training_run(settings, GROUP, seed=ctx.seed, workers=ctx.workers)
    rows = PooledRows(windows, map_reader(ctx.store, listed, records), length, settings.image_cache_mb << 20)
    sides_of = images.batches(targets.sides, settings.images_per_batch, loop)
    curve = fit(
        layers.to(device_of(ctx.device)),
        settings,
        draw=edge_batches(targets, rows, regressor, sides_of, settings.batch, loop),
        loss=edge_terms(settings.per_class, settings.precision),
        images_of=images.names(sides_of),
        run=loop,
        checkpoint=checkpoint,
        log=ctx.log,
    )
    save_regressor(ctx.output("weights"), regressor, {"stage": ctx.node.name})
    write_curve(ctx.output("curve"), CURVE_COLUMNS, curve)
    ctx.after_commit(checkpoint.remove)


def _say_counts(ctx: Context, targets: EdgeTargets, n_images: int, per_class: bool) -> None:
    """Tell how many windows there are; with ``per_class``, of which class there is none."""
    classes = ctx.dataset().classes
    counts = targets.counts(len(classes)).tolist()
    ctx.log.info(f"{sum(counts)} windows that hold an object, of {n_images} images")
    for name, count in zip(classes, counts, strict=True):
        if per_class and not count:
            ctx.log.warning(f"class {name!r} has no window that holds an object: its boxes cannot be learned")
