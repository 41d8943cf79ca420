"""Stage ``region_features``: features of regions whose background is taken away (paper section 5: fg).

Reads the dataset manifest, the masks, the proposals, the network and the list of cached features; writes one zarr
object per image and ``artifacts/region_features/manifest.json``, which lists none with ``region_features.features:
full``: those are in the store; ``mirrored.json`` lists those of the training images' mirrored objects, where they are
asked for. Cost: one forward pass per region of ``region_features.max_regions``, and two per mirrored object.
"""

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
    """Compute the foregrounds' features that the store lacks."""
    settings, features = ctx.settings(RegionFeaturesSettings), ctx.artifact("features")
    check_regions(settings, features.summary["layers"], ctx.settings(RegionSettings).method)
    _mirrored(ctx, settings)
    if settings.features == "full":
        ctx.publish("manifest", [], {"layer": settings.layer})
        return
    regions, network_settings = ctx.settings(RegionSettings), ctx.settings(NetworkSettings)
    overlaps, dataset = ctx.settings(RegionOverlapsSettings), ctx.dataset()
    network = load_weights(ctx.input("weights"), pool5_grid=network_settings.pool5_grid)
    made_of = _made_of(settings, overlaps, network, regions, network_settings)
    compute = FgCompute(
        ctx.store, ctx.image, ctx.masks, network, regions, network_settings, ctx.device,
        settings.layer, settings.max_regions, overlaps.min_object_px, made_of,
    )  # fmt: skip
    proposals = ctx.artifact("proposals")

    def task(record: ImageRecord, proposals: Artifact) -> ImageTask:
        key = proposals_key(proposals, record)
        inputs = {
            "image": record.sha256,
            "proposals": key,
            "masks": masks_digest(record, dataset.category_ids),
            "ground_truth": ground_truth_digest(record),  # the boxes of the objects' crops
        }
        recipe = Recipe(ctx.node.stage.name, ctx.node.version, made_of, inputs)
        return ImageTask(record, recipe, {proposals.stage: key})

    keys = ctx.compute_images([task(record, proposals) for record in dataset.images], compute, unit="regions")
    entries = [(record.id, key) for record, key in zip(dataset.images, keys, strict=True)]
    ctx.publish("manifest", entries, {**made_of})


def _mirrored(ctx: Context, settings: RegionFeaturesSettings) -> None:
    """Compute the features of the training images' mirrored objects that the store lacks, where they are asked for."""
    if not settings.mirror_truth:
        ctx.publish("mirrored", [], {})
        return
    regions, network_settings = ctx.settings(RegionSettings), ctx.settings(NetworkSettings)
    overlaps, dataset = ctx.settings(RegionOverlapsSettings), ctx.dataset()
    network = load_weights(ctx.input("weights"), pool5_grid=network_settings.pool5_grid)
    made_of = _made_of(settings, overlaps, network, regions, network_settings)
    del made_of["max_regions"]
    made_of |= {"mirrored": settings.features, "padding": "mean" if settings.features == "fg" else regions.padding}
    compute = MirroredCompute(
        ctx.image, ctx.masks, network, regions, network_settings, ctx.device,
        settings.layer, settings.features, overlaps.min_object_px, made_of,
    )  # fmt: skip
    trained = dataset.split("train")
    tasks = []
    for record in trained:
        inputs = {
            "image": record.sha256,
            "masks": masks_digest(record, dataset.category_ids),
            "ground_truth": ground_truth_digest(record),
        }
        tasks.append(ImageTask(record, Recipe(ctx.node.stage.name, ctx.node.version, made_of, inputs)))
    keys = ctx.compute_images(tasks, compute, unit="mirrored objects")
    entries = [(record.id, key) for record, key in zip(trained, keys, strict=True)]
    ctx.publish("mirrored", entries, {**made_of})


def _made_of(
    settings: RegionFeaturesSettings,
    overlaps: RegionOverlapsSettings,
    network: Network,
    regions: RegionSettings,
    network_settings: NetworkSettings,
) -> dict[str, Any]:
    """Everything but the image that a foreground's features depend on: part of the key, and kept as attributes."""
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
        "max_regions": settings.max_regions,
        "min_object_px": overlaps.min_object_px,
    }
