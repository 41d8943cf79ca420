"""Stage ``region_features``: features of regions whose background is taken away (paper section 5: fg).

Reads the dataset manifest, the masks, the proposals, the network and the list of cached features; writes one zarr
object per image and ``artifacts/region_features/manifest.json``, which lists none with ``region_features.features:
full``: those are in the store; ``mirrored.json`` lists those of the training images' mirrored objects, where they are
asked for. Cost: one forward pass per region of ``region_features.max_regions``, and two per mirrored object.
"""

from collections.abc import Mapping
from typing import Any

from cache import Artifact, Recipe
from manifests import ImageRecord
from manifests.masks import masks_digest
from stages.contract import Context, ImageTask
from stages.features.objects import ground_truth_digest
from stages.features.settings import RegionSettings
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights, weights_digest
from stages.proposals.reading import proposals_key

from .region_features import FgCompute, MirroredCompute
from .settings import RegionFeaturesSettings, RegionOverlapsSettings, check_regions


def run(ctx: Context) -> None:
    """Compute the features of foregrounds, and of mirrored objects, that are asked for and that the store lacks."""
    settings, features = ctx.settings(RegionFeaturesSettings), ctx.artifact("features")
    regions, network_settings = ctx.settings(RegionSettings), ctx.settings(NetworkSettings)
    check_regions(settings, features.summary["layers"], regions.method)
    if settings.features == "full" and not settings.mirror_truth:
        ctx.publish("mirrored", [], {})
        ctx.publish("manifest", [], {"layer": settings.layer})
        return
    overlaps = ctx.settings(RegionOverlapsSettings)
    network = load_weights(ctx.input("weights"), pool5_grid=network_settings.pool5_grid)
    common = {
        "read_image": ctx.image,
        "read_masks": ctx.masks,
        "network": network,
        "regions": regions,
        "network_settings": network_settings,
        "device": ctx.device,
        "layer": settings.layer,
        "min_object_px": overlaps.min_object_px,
    }
    made_of = _made_of(settings, overlaps, network, regions, network_settings)
    _mirrored(ctx, settings, common, made_of)
    _foregrounds(ctx, settings, common, made_of)


def _foregrounds(
    ctx: Context, settings: RegionFeaturesSettings, common: Mapping[str, Any], made_of: Mapping[str, Any]
) -> None:
    """Compute the foregrounds of every image's objects and regions, where they are asked for."""
    if settings.features == "full":
        ctx.publish("manifest", [], {"layer": settings.layer})
        return
    made_of = {**made_of, "max_regions": settings.max_regions}
    compute = FgCompute(**common, made_of=made_of, store=ctx.store, max_regions=settings.max_regions)
    proposals, images = ctx.artifact("proposals"), ctx.dataset().images
    tasks = [_task(ctx, record, made_of, proposals) for record in images]
    keys = ctx.compute_images(tasks, compute, unit="regions")
    entries = [(record.id, key) for record, key in zip(images, keys, strict=True)]
    ctx.publish("manifest", entries, made_of)


def _mirrored(
    ctx: Context, settings: RegionFeaturesSettings, common: Mapping[str, Any], made_of: Mapping[str, Any]
) -> None:
    """Compute the training images' mirrored objects, where they are asked for."""
    if not settings.mirror_truth:
        ctx.publish("mirrored", [], {})
        return
    padding = "mean" if settings.features == "fg" else ctx.settings(RegionSettings).padding
    made_of = {**made_of, "mirrored": settings.features, "padding": padding}
    trained = ctx.dataset().split("train")
    tasks = [_task(ctx, record, made_of) for record in trained]
    compute = MirroredCompute(**common, made_of=made_of, features=settings.features)
    keys = ctx.compute_images(tasks, compute, unit="mirrored objects")
    ctx.publish("mirrored", [(record.id, key) for record, key in zip(trained, keys, strict=True)], made_of)


def _task(
    ctx: Context, record: ImageRecord, made_of: Mapping[str, Any], proposals: Artifact | None = None
) -> ImageTask:
    """Name an image's rows: they depend on its pixels, masks and boxes, and on proposals where these are looked at."""
    inputs = {
        "image": record.sha256,
        "masks": masks_digest(record, ctx.dataset().category_ids),
        "ground_truth": ground_truth_digest(record),  # the boxes of the objects' crops
    }
    reads = {}
    if proposals is not None:
        inputs["proposals"] = reads[proposals.stage] = proposals_key(proposals, record)
    return ImageTask(record, Recipe(ctx.node.stage.name, ctx.node.version, made_of, inputs), reads)


def _made_of(
    settings: RegionFeaturesSettings,
    overlaps: RegionOverlapsSettings,
    network: Network,
    regions: RegionSettings,
    network_settings: NetworkSettings,
) -> dict[str, Any]:
    """Return what all rows depend on beside the image: part of their keys, and kept as attributes."""
    return {
        "layer": settings.layer,
        "network": network.name,
        "weights_digest": weights_digest(network, [settings.layer]),
        "arithmetic": network_settings.dtype,
        "storage": regions.storage,
        "pool5_grid": network.pool5_grid if settings.layer == "pool5" else None,
        "input": network.input.as_json(),
        "crop": regions.crop,
        "context_px": regions.context_px,
        "batch": network_settings.batch,
        "min_object_px": overlaps.min_object_px,
    }
