"""Stage ``roi_detect``: every test image's detections by Fast R-CNN on its proposals (Faster R-CNN section 3.3).

Reads the proposals, the trained network, and the stored maps where this node has them; writes the objects and the list
that the stage ``detect`` writes for R-CNN, so that combining, evaluation and comparison read them alike. Cost: one pass
of the convolutions per image, or reading its map, and the fully connected layers on each proposal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cache import Artifact, Payload, Recipe, Store
from manifests import ImageRecord
from stages.boxes.geometry import Boxes
from stages.contract import Compute, Context, ImageTask, ReadImage, image_attrs
from stages.detections.suppression import Candidates
from stages.detections.thresholds import stored_thresholds
from stages.fast.settings import RoiDetectSettings
from stages.lists import of_dataset
from stages.networks.settings import ArithmeticSettings
from stages.proposals.reading import proposals_key

from .agreement import check_classes, check_trained, other_layer
from .lists import maps_of
from .maps import AS_IT_IS, STAGE, MapPass, described
from .network import RegionNetwork, load_regions
from .scorer import RoiScorer, fast_digest
from .settings import MapsSettings


@dataclass(frozen=True)
class RoiDetectCompute(Compute):
    """One image's detections: from its stored map, or from its pixels where ``has_maps`` is False."""

    on_device = True
    read_image: ReadImage
    store: Store
    proposals: str  # the stage that made them
    has_maps: bool
    network: RegionNetwork
    maps: MapsSettings
    settings: RoiDetectSettings
    classes: tuple[str, ...]
    device: str
    dtype: str

    @cached_property
    def scorer(self) -> RoiScorer:
        """Return the head on the device of this process."""
        return RoiScorer(self.network, self.settings, self.device, self.dtype)

    @cached_property
    def map_pass(self) -> MapPass:
        """Return the trunk on the device of this process."""
        return MapPass(self.network, self.maps, self.device, self.dtype)

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.scorer, self.map_pass

    def __call__(self, task: ImageTask) -> Payload:
        """The image's detections."""
        record = task.image
        boxes = self.store.get(self.proposals, task.reads[self.proposals], ["boxes"]).arrays["boxes"]
        found = self._candidates(task, boxes)
        kept = self.scorer.kept(found)
        attrs: dict[str, Any] = {
            **image_attrs(record, len(kept.bbox)),
            "classes": list(self.classes),
            "classifier": "softmax",
            "layers": ["fc7", "fc7"],
            "regressed": True,
        }
        return Payload({**kept.arrays(), **found.arrays()}, attrs, "hdf5")

    def _candidates(self, task: ImageTask, boxes: Boxes) -> Candidates:
        """The image's scored regions, on its stored map, on one computed, or on one of each scale."""
        record = task.image
        if self.scorer.by_scale:  # of a node without maps: the parameters are checked
            return self.scorer.candidates_at_scales(self.map_pass, self.read_image(record), boxes, record.file_name)
        if self.has_maps:
            fmap: Any = self.store.get(STAGE, task.reads[STAGE], [AS_IT_IS]).arrays[AS_IT_IS]
        else:
            fmap = self.map_pass(self.read_image(record), record.file_name)
        size = self.map_pass.size_of(record.width, record.height)
        return self.scorer.candidates(fmap, size, boxes, record.width, record.height)


def run(ctx: Context) -> None:
    """Detect on the images that the store lacks, then find the thresholds over all of them."""
    settings, maps = ctx.settings(RoiDetectSettings), ctx.settings(MapsSettings)
    network, dataset = load_regions(ctx.input("weights")), ctx.dataset()
    check_classes(network, dataset.classes, ctx.shown("weights"))
    check_trained(ctx.shown("weights"), other_layer(network, maps.layer))
    proposals = of_dataset(ctx.artifact("proposals"), ctx.input("manifest"), ctx.shown("proposals"))
    dtype = ctx.settings(ArithmeticSettings).dtype
    of_maps, stored = described(network, maps, dtype), None
    if ctx.has("maps"):
        stored = maps_of(ctx.artifact("maps"), of_maps, ctx.input("manifest"), ctx.shown("maps"))
    images = dataset.split("test")
    made_of = of_maps | {"fast": fast_digest(network), **_key_params(settings)}
    tasks = [_task(ctx, record, made_of, proposals, stored) for record in images]
    compute = RoiDetectCompute(
        ctx.image,
        ctx.store,
        proposals.stage,
        stored is not None,
        network,
        maps,
        settings,
        dataset.classes,
        ctx.device,
        dtype,
    )
    keys = ctx.compute_images(tasks, compute, unit="detections")
    limits: dict[str, float | None] = dict.fromkeys(dataset.classes)
    if settings.rank_factor is not None:
        limits = stored_thresholds(ctx.store, [(ctx.node.stage.name, keys)], dataset.classes, settings.rank_factor)
    scales = ", ".join(map(str, settings.scales_px or [maps.short_px]))
    summary = {
        "detector": f"{network.network.name}, Fast R-CNN on {_whose(ctx, proposals)}, {scales} px",
        "thresholds": limits,
        "classifier": "softmax",
        "regressed": True,
        "classes": list(dataset.classes),
        "images": [record.sha256 for record in images],
        "rank_factor": settings.rank_factor,
    }
    ctx.publish("manifest", [(record.id, key) for record, key in zip(images, keys, strict=True)], summary)


def _whose(ctx: Context, proposals: Artifact) -> str:
    """Word whose proposals are classified: an RPN's of this detector, of another one, or none's."""
    if proposals.stage != "propose":
        return "given proposals"
    detectors = [ctx.input(name).parents[1] for name in ("proposals", "weights")]
    return "its own proposals" if detectors[0] == detectors[1] else "another detector's proposals"


def _key_params(settings: RoiDetectSettings) -> dict[str, Any]:
    """The parameters that an image's object depends on: of the dataset-wide rule only whether there is one."""
    scales = set() if settings.scales_px else {"scales_px", "scales_long_px"}
    params = settings.model_dump(mode="json", exclude={"rank_factor", *scales})
    return {**params, "by_rank": settings.rank_factor is not None}


def _task(
    ctx: Context, record: ImageRecord, made_of: Mapping[str, Any], proposals: Artifact, maps: Artifact | None
) -> ImageTask:
    key = proposals_key(proposals, record)
    recipe = Recipe(ctx.node.stage.name, ctx.node.version, made_of, {"image": record.sha256, "proposals": key})
    reads = {proposals.stage: key} | ({} if maps is None else {maps.stage: maps.keys[record.id]})
    return ImageTask(record, recipe, reads)
