"""Stage ``features``: CNN features of every image's ground truth and proposals (paper section 2.1).

Reads the dataset manifest, the proposals and ``artifacts/finetune/weights.safetensors``; writes one zarr object per
image and ``artifacts/features/manifest.json``. Cost: one forward pass per region, nearly all of a run's time; with
``features.method: spp`` one convolutional pass per image and scale, and what follows conv5 per region.

An object's key holds all that its bits depend on and nothing else: not the split, the device or the number of
workers; and of the weights only the tensors before the stored layers. A training image that is annotated in part has no
proposals, and its objects' rows alone.
"""

from typing import Any

from cache import Artifact, Recipe
from cache.errors import StageError
from manifests import ImageRecord
from manifests.select import is_searched
from stages.contract import Context, ImageTask
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights
from stages.proposals.reading import proposals_key

from .method import OBJECT_VERSIONS, features_made_of, lengths
from .objects import FeaturesCompute, ground_truth_digest
from .settings import FeaturesSettings

RESERVED = frozenset({"boxes", "is_gt", "gt_class", "difficult", "overlaps"})  # names of the object's other arrays


def run(ctx: Context) -> None:
    """Compute the features that the store lacks."""
    settings = ctx.settings(FeaturesSettings)
    dataset, n_classes = ctx.dataset(), len(ctx.dataset().classes)
    network = _network(ctx)
    layers = sorted(set(settings.layers))
    for layer in layers:
        if layer in RESERVED:
            raise StageError(f"features.layers: {layer!r} is the name of another array; choose another layer")
    proposals = ctx.artifact("proposals")
    dims = lengths(network, layers, settings)
    made_of = features_made_of(settings, ctx.settings(NetworkSettings), network, layers)
    compute = FeaturesCompute(
        ctx.store, ctx.image, network, settings, ctx.settings(NetworkSettings), ctx.device, n_classes, made_of
    )
    tasks = [_task(record, proposals, made_of, n_classes, ctx.node.stage.name) for record in dataset.images]
    keys = ctx.compute_images(tasks, compute, unit="regions")
    entries = [(record.id, key) for record, key in zip(dataset.images, keys, strict=True)]
    ctx.publish("manifest", entries, {**made_of, "layers": dims})


def _network(ctx: Context) -> Network:
    """The fine-tuned network, with pool5 on the grid that the parameters ask for now."""
    settings = ctx.settings(NetworkSettings)
    network = load_weights(ctx.input("weights"), pool5_grid=settings.pool5_grid)
    if network.name != settings.name:
        raise StageError(
            f"{ctx.input('weights')}: holds weights of {network.name}, network.name is {settings.name}; run `dvc repro`"
        )
    return network


def _task(record: ImageRecord, proposals: Artifact, made_of: dict[str, Any], n_classes: int, stage: str) -> ImageTask:
    key, method = proposals_key(proposals, record) if is_searched(record) else None, made_of.get("method", "warp")
    inputs = {
        "image": record.sha256,
        "proposals": key,
        "ground_truth": ground_truth_digest(record),
        "n_classes": n_classes,
    }
    reads = {} if key is None else {proposals.stage: key}
    return ImageTask(record, Recipe(stage, OBJECT_VERSIONS[method], made_of, inputs), reads)
