"""Stage ``propose``: the RPN's proposals of every image (Faster R-CNN section 3.3).

Reads a network with an RPN, and the stored maps where this node has them; writes one HDF5 object per image, in the form
of the stage ``proposals`` (boxes best first) with scores and the anchor of each, and the manifest, whose summary says
how well they cover the objects. Cost: one pass of the convolutions per image, or reading its map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cache import Artifact, Payload, Recipe, Store
from cache.errors import StageError
from manifests import ImageRecord
from stages.contract import Compute, Context, ImageTask, ReadImage, image_attrs
from stages.fast.images import scaled_size
from stages.networks.settings import ArithmeticSettings
from stages.proposals.recall import ImageBoxes, recall_summary, told
from stages.rpn.propose import mean_sizes
from stages.rpn.settings import ProposeSettings, RpnShapeSettings

from .agreement import check_trained, other_anchors, other_layer
from .lists import maps_of
from .maps import AS_IT_IS, MapPass, described
from .network import RegionNetwork, load_regions
from .proposer import Proposer, rpn_digest
from .settings import MapsSettings


@dataclass(frozen=True)
class ProposeCompute(Compute):
    """One image's proposals: from its stored map, or from its pixels where ``store`` is None."""

    on_device = True
    read_image: ReadImage
    store: Store | None
    network: RegionNetwork
    maps: MapsSettings
    settings: ProposeSettings
    seed: int
    device: str
    dtype: str

    @cached_property
    def proposer(self) -> Proposer:
        """Return the RPN on the device of this process."""
        return Proposer(self.network, self.settings, self.seed, self.device, self.dtype)

    @cached_property
    def map_pass(self) -> MapPass:
        """Return the trunk on the device of this process."""
        return MapPass(self.network, self.maps, self.device, self.dtype)

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.proposer, self.map_pass

    def __call__(self, task: ImageTask) -> Payload:
        """The image's proposals."""
        record = task.image
        if self.store is None:
            fmap: Any = self.map_pass(self.read_image(record), record.file_name)
        else:
            ((stage, key),) = task.reads.items()
            fmap = self.store.get(stage, key, [AS_IT_IS]).arrays[AS_IT_IS]
        size = self.map_pass.size_of(record.width, record.height)
        found = self.proposer(fmap, size, record.sha256, training=bool(task.args["training"]))
        attrs = {
            **image_attrs(record, len(found.boxes)),
            "method": "rpn",
        }
        return Payload({"boxes": found.boxes, "scores": found.scores, "anchors": found.anchors}, attrs, "hdf5")


def run(ctx: Context) -> None:
    """Propose for the images that the store lacks, and report how well the proposals cover the objects."""
    settings, maps = ctx.settings(ProposeSettings), ctx.settings(MapsSettings)
    dtype = ctx.settings(ArithmeticSettings).dtype
    network = load_regions(ctx.input("weights"))
    if network.rpn is None:
        raise StageError(f"{ctx.shown('weights')}: holds no region proposal network; run `dvc repro`")
    other = other_anchors(network, ctx.settings(RpnShapeSettings)) + other_layer(network, maps.layer)
    check_trained(ctx.shown("weights"), other)
    made_of = described(network, maps, dtype)
    stored = None
    if ctx.has("maps"):
        stored = maps_of(ctx.artifact("maps"), made_of, ctx.input("manifest"), ctx.shown("maps"))
    images = ctx.dataset().images
    tasks = [_task(ctx, record, settings, {**made_of, "rpn": rpn_digest(network)}, stored) for record in images]
    store = ctx.store if stored is not None else None
    compute = ProposeCompute(ctx.image, store, network, maps, settings, ctx.seed, ctx.device, dtype)
    keys = ctx.compute_images(tasks, compute, unit="proposals")
    _publish(ctx, images, keys, network, maps)


def _task(
    ctx: Context, record: ImageRecord, settings: ProposeSettings, made_of: Mapping[str, Any], maps: Artifact | None
) -> ImageTask:
    """The task of one image; its key is the same whether its map is read or computed."""
    training = record.split == "train"
    params = {**_of_split(settings, training), "seed": ctx.seed if settings.rank == "random" else None}
    recipe = Recipe(ctx.node.stage.name, ctx.node.version, {**params, **made_of}, {"image": record.sha256})
    reads = {} if maps is None else {maps.stage: maps.keys[record.id]}
    return ImageTask(record, recipe, reads, {"training": training})


def _of_split(settings: ProposeSettings, training: bool) -> dict[str, Any]:
    """The parameters that matter to an image of one split."""
    values = settings.model_dump(mode="json")
    limits = {name: values.pop(f"train_{name}") for name in ("before_nms", "after_nms")}
    return values | limits if training else values


def _publish(
    ctx: Context, images: Sequence[ImageRecord], keys: Sequence[str], network: RegionNetwork, maps: MapsSettings
) -> None:
    key_of = {record.id: key for record, key in zip(images, keys, strict=True)}
    assert network.rpn_shape is not None
    shapes = network.rpn_shape.anchors.shapes()
    scaled: list[tuple[np.ndarray, np.ndarray]] = []

    def read_boxes(record: ImageRecord) -> ImageBoxes:
        arrays = ctx.store.get(ctx.node.stage.name, key_of[record.id], ["boxes", "anchors"]).arrays
        if not len(arrays["boxes"]):
            ctx.log.warning(f"{record.file_name}: no proposals; the image is kept with zero boxes")
        size = scaled_size(record.width, record.height, maps.short_px, maps.long_px)
        scaled.append((size.scaled(arrays["boxes"]), arrays["anchors"]))
        return ImageBoxes(arrays["boxes"], arrays["boxes"])

    splits = recall_summary(ctx.dataset(), read_boxes)
    for split, figures in splits.items():
        ctx.log.info(told(split, figures))
    boxes, anchors = (np.concatenate(parts) for parts in zip(*scaled, strict=True))
    summary = {
        "splits": splits,
        "anchors": [
            {"anchor_px": _px(shape[2:] - shape[:2]), "mean_proposal_px": _px(mean)}
            for shape, mean in zip(shapes, mean_sizes(boxes, anchors, len(shapes)), strict=True)
        ],
    }
    ctx.publish("manifest", list(key_of.items()), summary)


def _px(sides: np.ndarray) -> list[float] | None:
    """Width and height as JSON; None where there is none."""
    return None if np.isnan(sides).any() else [round(float(side), 1) for side in sides]
