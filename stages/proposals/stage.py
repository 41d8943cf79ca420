"""Stage ``proposals``: region proposals of every image, each in one HDF5 object.

    dvc repro -s proposals          or: rcnn run proposals

Reads the dataset manifest and the images, writes ``artifacts/proposals/manifest.json``. With selective search about a
tenth of a second per 500 x 375 image and thread, and about 180 kB, nearly all of it for the region masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cache import Payload, Recipe, digest_array
from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import BOX_CONVENTION, Boxes
from stages.contract import Compute, Context, ImageTask, Node, ReadImage

from .methods import NEEDS_PIXELS, file_boxes, prepare, proposals_of
from .recall import recall_summary
from .settings import ProposalsSettings

_COMMON = ("method", "max_proposals")
_PER_METHOD = {
    "selective_search": ("min_side_px", "resize_width_px", "k", "colors", "strategies", "sigma", "min_region_px"),
    "opencv": ("min_side_px", "resize_width_px", "opencv"),
    "sliding_window": ("min_side_px", "sliding_window"),
    "file": (),
}


def key_params(settings: ProposalsSettings, seed: int) -> dict[str, Any]:
    """The parameters that the chosen method's result depends on."""
    everything = settings.model_dump(mode="json")
    params = {name: everything[name] for name in (*_COMMON, *_PER_METHOD[settings.method])}
    if settings.method != "file":
        params["seed"] = seed
    if settings.method == "opencv":
        params["opencv_version"] = cv2.__version__
    return params


def compute(task: ImageTask, pixels: NDArray[np.uint8] | None, settings: ProposalsSettings, seed: int) -> Payload:
    """One image's object; a pure function of its arguments. ``pixels`` is None where the method needs none."""

    arrays, attrs = proposals_of(task.image, pixels, settings, seed, task.args.get("boxes"))
    return Payload(
        arrays,
        {
            "image": task.image.file_name,
            "image_sha256": task.image.sha256,
            "box_convention": BOX_CONVENTION,
            "count": len(arrays["boxes"]),
            "method": settings.method,
            **attrs,
        },
        "hdf5",
    )


@dataclass(frozen=True)
class ProposalsCompute(Compute):
    """:func:`compute` with what all images share; ``read_image`` is None where the method needs no pixels."""

    settings: ProposalsSettings
    seed: int
    read_image: ReadImage | None

    def prepare(self) -> None:
        """Fail early, or compile once rather than in every thread."""

        prepare(self.settings)

    def __call__(self, task: ImageTask) -> Payload:
        """The image's proposals."""
        pixels = None if self.read_image is None else self.read_image(task.image)
        return compute(task, pixels, self.settings, self.seed)


def run(ctx: Context) -> None:
    """Compute the proposals that the store lacks, and report how well they cover the objects."""

    settings = ctx.settings(ProposalsSettings)
    dataset = ctx.dataset()
    if not dataset.has_boxes:
        raise StageError(
            f"dataset {dataset.name} has one class per picture and no boxes, so there is nothing to detect in it; run "
            "`dvc repro classification/dvc.yaml`, or choose a dataset with boxes"
        )
    params = key_params(settings, ctx.seed)
    from_file = file_boxes(settings, dataset.images, ctx.log.info)
    tasks = [_task(record, params, from_file, ctx.node) for record in dataset.images]
    read_image = ctx.image if settings.method in NEEDS_PIXELS else None
    keys = ctx.compute_images(tasks, ProposalsCompute(settings, ctx.seed, read_image))
    _publish(ctx, dict(zip((record.id for record in dataset.images), keys, strict=True)))


def _task(
    record: ImageRecord, params: Mapping[str, Any], from_file: Mapping[int, Boxes] | None, node: Node
) -> ImageTask:
    inputs: dict[str, Any] = {"image_sha256": record.sha256}
    if from_file is None:
        return ImageTask(record, Recipe(node.stage.name, node.version, params, inputs))
    boxes = from_file[record.id]
    inputs["boxes"] = digest_array(boxes)
    return ImageTask(record, Recipe(node.stage.name, node.version, params, inputs), args={"boxes": boxes})


def _publish(ctx: Context, keys: Mapping[int, str]) -> None:

    def read_boxes(record: ImageRecord) -> Boxes:
        boxes = ctx.store.get(ctx.node.stage.name, keys[record.id], names=["boxes"]).arrays["boxes"]
        if not len(boxes):
            ctx.log.warning(f"{record.file_name}: no proposals; the image is kept with zero boxes")
        return boxes

    summary = recall_summary(ctx.dataset(), read_boxes)
    for split, figures in summary.items():
        overall = figures["overall"]
        ctx.log.info(
            f"{split}: {figures['mean_boxes']:.0f} per image, recall {overall['recall_0.5']} at IoU 0.5, "
            f"{overall['recall_0.7']} at 0.7, mean best overlap {overall['mean_best_overlap']} "
            f"({overall['objects']} objects, difficult and crowd left out)"
        )
    ctx.publish("manifest", list(keys.items()), {"splits": summary})
