"""Stage ``features``: CNN features of every image's ground truth and proposals (paper section 2.1; FACTS section 5).

Reads the dataset manifest, the proposals and ``artifacts/finetune/weights.safetensors``; writes one zarr object per
image and ``artifacts/features/manifest.json``. Cost: one forward pass per region, nearly all of a run's time.

An object's key holds all that its bits depend on and nothing else: not the split, the device or the number of
workers; and of the weights only the tensors before the stored layers.
"""

from typing import TYPE_CHECKING, Any

from ..common.contract import Context, ImageTask, Stage
from ..common.errors import StageError
from .settings import FeaturesSettings

if TYPE_CHECKING:
    from cache import Payload
    from manifests import ImageRecord

    from ..common.networks import Network, NetworkSettings

VERSION = 1
RESERVED = frozenset({"boxes", "is_gt", "gt_class", "difficult", "overlaps"})  # names of the object's other arrays


def run(ctx: Context) -> None:
    """Compute the features that the store lacks."""
    from ..common.extraction import Crop, extractor, one_thread_each
    from .objects import payload, regions_of

    settings: FeaturesSettings = ctx.settings("features")
    dataset, n_classes = ctx.dataset(), len(ctx.dataset().classes)
    network = _network(ctx)
    layers = sorted(set(settings.layers))
    for layer in layers:
        if layer in RESERVED:
            raise StageError(f"features.layers: {layer!r} is the name of another array; choose another layer")
    proposal_keys = ctx.artifact("proposals").keys
    described = _described(settings, ctx.settings("network"), network, layers)
    crop = Crop(settings.crop, settings.context_px)

    with one_thread_each():
        extract = extractor(network, layers, crop, ctx.settings("network"), ctx.device)

        def compute(task: ImageTask) -> "Payload":
            record = task.image
            proposals = ctx.store.get("proposals", task.args["proposals"], ["boxes"]).arrays["boxes"]
            regions = regions_of(record, proposals, n_classes)
            try:
                features = extract(ctx.image(record), regions.boxes)
            except StageError as error:
                raise StageError(f"{record.file_name}: {error}") from error
            return payload(record, regions, features, settings.storage, described)

        tasks = [_task(record, proposal_keys, described, n_classes) for record in dataset.images]
        keys = ctx.compute_images(tasks, compute, unit="regions")
    entries = [(record.id, key) for record, key in zip(dataset.images, keys, strict=True)]
    ctx.publish("manifest", entries, {**described, "layers": extract.dims})


def _network(ctx: Context) -> "Network":
    """The fine-tuned network, with pool5 on the grid that the parameters ask for now."""
    from ..common.weights import load_weights

    settings: NetworkSettings = ctx.settings("network")
    network = load_weights(ctx.input("weights"))
    if network.name != settings.name:
        raise StageError(
            f"{ctx.input('weights')}: holds weights of {network.name}, network.name is {settings.name}; run `dvc repro`"
        )
    if settings.pool5_grid is not None:
        network.pool5_grid = settings.pool5_grid
    return network


def _described(
    settings: FeaturesSettings, network_settings: "NetworkSettings", network: "Network", layers: list[str]
) -> dict[str, Any]:
    """Everything but the image that a feature's bits depend on: part of the key, and kept as attributes."""
    from ..common.weights import weights_digest

    return {
        "layers": layers,
        "network": network.name,
        "weights_digest": weights_digest(network, layers),
        "pool5_grid": network.pool5_grid if "pool5" in layers else None,
        "input": network.input.as_json(),
        "crop": settings.crop,
        "context_px": settings.context_px,
        "arithmetic": network_settings.dtype,
        "batch": network_settings.batch,
        "storage": settings.storage,
    }


def _task(record: "ImageRecord", proposal_keys: dict[int, str], described: dict[str, Any], n_classes: int) -> ImageTask:
    from cache import Recipe

    from .objects import ground_truth_digest

    if record.id not in proposal_keys:
        raise StageError(f"{record.file_name}: no proposals for this image; run the stage proposals again")
    key = proposal_keys[record.id]
    inputs = {
        "image": record.sha256,
        "proposals": key,
        "ground_truth": ground_truth_digest(record),
        "n_classes": n_classes,
    }
    return ImageTask(record, Recipe("features", VERSION, described, inputs), {"proposals": key})


STAGE = Stage(
    name="features",
    version=VERSION,
    settings={"features": FeaturesSettings},
    groups=("features", "network"),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "proposals": "artifacts/proposals/manifest.json",
        "weights": "artifacts/finetune/weights.safetensors",
    },
    outputs={"manifest": "artifacts/features/manifest.json"},
    run=run,
)
