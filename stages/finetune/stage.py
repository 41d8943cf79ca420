"""Stage ``finetune``: continue training the CNN on proposals of training images (paper section 2.3).

These are all images of the train split, or of the parts of it that ``finetune.images`` names, but for those that
``finetune.held_out_fraction`` keeps aside for the curve, which chooses nothing. Of an image that is annotated in part
the windows are its objects alone.

Reads the dataset manifest, the proposals and the network's weights; writes ``weights.safetensors`` (N + 1 outputs,
background first) and the curve ``curve.csv``. With ``finetune.iterations: 0`` the weights are passed on as they are.
Cost: 128 windows forward and backward per iteration, about four forward passes. With ``features.method: spp`` only the
fully connected layers are trained (SPP paper section 4.2), on windows pooled from feature maps, the stage's own
objects; ``manifest.json`` names them.
"""

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import Artifact, digest_file, digest_json
from manifests import ImageRecord
from manifests.select import is_searched, training_images
from stages.boxes.geometry import Boxes
from stages.contract import Context
from stages.features.maps import STAGE as MAPS
from stages.features.maps import MapsCompute, map_name, map_task, maps_made_of
from stages.features.objects import ground_truth_digest
from stages.features.settings import RegionSettings
from stages.features.spp.extraction import Spp
from stages.networks.forward import device_of
from stages.networks.network import Network
from stages.networks.weights import class_names_meta, load_weights, save_weights
from stages.proposals.reading import proposals_key
from stages.training.checkpoint import Checkpoint
from stages.training.curve import write_curve
from stages.training.loop import generator

from .batches import (
    MapName,
    PooledWindows,
    WarpedWindows,
    WindowBatches,
    checked_length,
    pooled_windows,
    warped_windows,
)
from .fine_tune import CURVE_COLUMNS, check_windows, fine_tune, training_run
from .sampling import hold_out
from .settings import FinetuneSettings
from .windows import Limits, Windows, classes_shown, collect, concatenate

LEARNED = 0.1  # a fine-tuned network recognises at least this share of object windows
# These change no number of the result, so a run may go on from a checkpoint that was made with others.
NO_RESULT = {"image_cache_mb", "checkpoint_every"}


def run(ctx: Context) -> None:
    """Fine-tune, or pass the weights on where ``iterations`` is 0."""
    settings = ctx.settings(FinetuneSettings)
    if settings.iterations == 0:
        ctx.log.info("finetune.iterations is 0: weights are used as they are")
        shutil.copyfile(ctx.input("weights"), ctx.output("weights"))
        write_curve(ctx.output("curve"), CURVE_COLUMNS, [])
        for name in ("maps", "trained"):
            ctx.publish(name, [], {})
        return
    regions, network = ctx.settings(RegionSettings), load_weights(ctx.input("weights"))
    params, inputs = _made_from(ctx, settings, regions)
    identity = {"version": ctx.node.version, **params, **inputs}

    def train() -> None:
        training, held_out = _labelled_windows(ctx, settings)
        check_windows(training, ctx.log)
        batches: WindowBatches
        if regions.method == "spp":
            batches = _pooled(ctx, regions, network, settings, training, held_out)
        else:
            batches = _warped(ctx, regions, network, settings)
            ctx.publish("maps", [], {})
        _fine_tune(ctx, network, training, held_out, batches, Checkpoint(ctx.work_dir(), identity))

    if not ctx.trained(params, inputs, train):
        _publish_kept_maps(ctx, regions, network, settings)


def _fine_tune(
    ctx: Context,
    network: Network,
    training: Windows,
    held_out: Windows,
    batches: WindowBatches,
    checkpoint: Checkpoint,
) -> None:
    """Train the network, and write the weights and the curve."""
    settings, classes = ctx.settings(FinetuneSettings), ctx.dataset().classes
    found = fine_tune(
        network.to(device_of(ctx.device)),
        training,
        held_out,
        batches,
        settings,
        training_run(settings, ctx.seed, ctx.workers),
        checkpoint,
        ctx.log,
        n_classes=len(classes),
    )
    if found.recognised < LEARNED:
        ctx.log.warning(_nothing_learned(found.recognised, "held-out" if len(held_out) else "training"))
    meta = {"stage": "finetune", **class_names_meta(classes), "background_output": "0"}
    save_weights(ctx.output("weights"), network, meta)
    write_curve(ctx.output("curve"), CURVE_COLUMNS, found.curve)
    ctx.after_commit(checkpoint.remove)


def _made_from(
    ctx: Context, settings: FinetuneSettings, regions: RegionSettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters and the digests of inputs that the trained weights depend on: of training images alone."""
    dataset, proposals = ctx.dataset(), ctx.artifact("proposals")
    records = training_images(dataset, settings.images)
    images = [[record.sha256, ground_truth_digest(record), _regions_key(proposals, record)] for record in records]
    params = {
        "seed": ctx.seed,
        "finetune": settings.model_dump(mode="json", exclude=NO_RESULT | {"images"}),  # these are among the inputs
        "regions": _identity(regions),
        "classes": list(dataset.classes),
        "torch": torch.__version__,
        "device": device_of(ctx.device),
    }
    return params, {"images": digest_json(images), "weights": digest_file(ctx.input("weights"))}


def _regions_key(proposals: Artifact, record: ImageRecord) -> str | None:
    """Return the key of an image's proposals; None of one that is annotated in part: its objects are its windows."""
    return proposals_key(proposals, record) if is_searched(record) else None


def _identity(regions: RegionSettings) -> list[Any]:
    """Return those of the parameters that matter to the chosen method, as JSON."""
    if regions.method == "warp":
        padding = [] if regions.padding == "mean" else [regions.padding]  # weights were named before there was it
        return [regions.method, regions.crop, regions.context_px, *padding]
    spp = regions.spp
    return [regions.method, sorted(spp.scales_px), list(spp.levels), spp.target_side_px, regions.storage]


def _labelled_windows(ctx: Context, settings: FinetuneSettings) -> tuple[Windows, Windows]:
    """Label ground truth and proposals: of the images trained on, and of those held out.

    ``StageError`` for an image without proposals.
    """
    dataset, artifact = ctx.dataset(), ctx.artifact("proposals")
    records = training_images(dataset, settings.images)

    def proposals_of(record: ImageRecord) -> Boxes:
        key = _regions_key(artifact, record)
        if key is None:
            return np.zeros((0, 4), np.float32)
        boxes: Boxes = ctx.store.get(artifact.stage, key, ["boxes"]).arrays["boxes"]
        return boxes

    limits = Limits(settings.fg_iou, settings.bg_iou, settings.bg_iou_low)
    parts = collect(records, proposals_of, n_classes=len(dataset.classes), limits=limits)
    shown = classes_shown(parts, len(dataset.classes))
    aside = hold_out(shown, settings.held_out_fraction, generator(ctx.seed, "finetune", "held-out images"))
    training, held_out = (
        concatenate([part for part, out in zip(parts, aside, strict=True) if out == side]) for side in (False, True)
    )
    ctx.log.info(
        f"{len(training.foreground)} foreground and {len(training.background)} background windows of"
        f" {int((~aside).sum())} images; {int(aside.sum())} images held out"
    )
    for name, has_any in zip(dataset.classes, np.any(shown, axis=0).tolist(), strict=True):
        if not has_any:
            ctx.log.warning(f"class {name!r} has no foreground window: fine-tuning cannot teach it")
    return training, held_out


def _warped(ctx: Context, regions: RegionSettings, network: Network, settings: FinetuneSettings) -> WarpedWindows:
    """Cut windows out of the training images. Raises ``StageError`` where the context leaves no room."""
    records, read = training_images(ctx.dataset(), settings.images), ctx.image
    return warped_windows(
        lambda index: read(records[index]),
        network.input,
        mode=regions.crop,
        context_px=regions.context_px,
        padding=regions.padding,
        cache_bytes=settings.image_cache_mb << 20,
    )


def _pooled(
    ctx: Context,
    regions: RegionSettings,
    network: Network,
    settings: FinetuneSettings,
    training: Windows,
    held_out: Windows,
) -> PooledWindows:
    """Pool windows from the images' maps, of which those that the store lacks are computed now.

    Publishes output ``maps``. ``network`` is in main memory. Raises ``StageError`` where the network's fully connected
    layers do not take the pooled vector.
    """
    spp = Spp(**dict(regions.spp))
    checked_length(network, spp)
    records = training_images(ctx.dataset(), settings.images)
    mirrored = set(np.unique(training.images).tolist()) if settings.mirror else set()
    wanted = np.unique(np.concatenate([training.images, held_out.images])).tolist()
    made_of = maps_made_of(network, spp.scales_px, settings.precision, regions.storage)
    tasks = [map_task(records[index], made_of, mirrored=index in mirrored) for index in wanted]
    computed = ctx.compute_images(tasks, MapsCompute(ctx.image, network, ctx.device, made_of), unit="maps")
    ctx.publish("maps", [(records[i].id, key) for i, key in zip(wanted, computed, strict=True)], made_of)
    keys, store = dict(zip(wanted, computed, strict=True)), ctx.store

    def read(name: MapName) -> NDArray[Any]:
        index, scale_px, mirror = name
        array = map_name(scale_px, mirror)
        return store.get(MAPS, keys[index], [array]).arrays[array]

    return pooled_windows(network, read, _shapes(records), spp, cache_bytes=settings.image_cache_mb << 20)


def _publish_kept_maps(ctx: Context, regions: RegionSettings, network: Network, settings: FinetuneSettings) -> None:
    """Publish output ``maps`` where nothing was trained: the maps that the store has of the training images.

    So gc spares them for the next training, and no map is computed for weights that are there.
    """
    if regions.method != "spp":
        ctx.publish("maps", [], {})
        return
    made_of = maps_made_of(network, Spp(**dict(regions.spp)).scales_px, settings.precision, regions.storage)
    records = training_images(ctx.dataset(), settings.images)
    kept: dict[int, str] = {}
    for side in (not settings.mirror, settings.mirror):  # those held out have no mirror images
        tasks = [map_task(record, made_of, mirrored=side) for record in records]
        keys = ctx.stored(tasks, MapsCompute)
        kept |= {record.id: key for record, key in zip(records, keys, strict=True) if key is not None}
    ctx.publish("maps", [(record.id, kept[record.id]) for record in records if record.id in kept], made_of)


def _shapes(records: Sequence[ImageRecord]) -> list[tuple[int, int]]:
    return [(record.width, record.height) for record in records]


def _nothing_learned(share: float, which: str) -> str:
    """Word the warning of a rate that throws the weights off: a finite loss, and all is called background."""
    return (
        f"only {share:.0%} of the {which} object windows are recognised after fine-tuning; lower finetune.lr or "
        "finetune.new_layer_lr, or train for more iterations"
    )
