"""Stage ``proposals``: region proposals of every image, each in one HDF5 object.

    dvc repro -s proposals          or: rcnn run proposals

Training images that are annotated in part (``exhaustive: false``) are left out: nothing but their objects is used.
Reads the dataset manifest and the images, writes ``artifacts/proposals/manifest.json``. With selective search about a
tenth of a second per 500 x 375 image and thread, and about 180 kB, nearly all of it for the region masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Payload, Recipe, digest_array
from cache.errors import StageError
from manifests import ImageRecord
from manifests.select import is_searched
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, Context, ImageTask, Node, ReadImage, image_attrs

from .cost import large_pictures
from .given import GivenProposals
from .methods import NEEDS_PIXELS, all_found, file_boxes, key_params, prepare, proposals_of
from .recall import ImageBoxes, recall_summary, told
from .settings import ProposalsSettings


def compute(task: ImageTask, pixels: NDArray[np.uint8] | None, settings: ProposalsSettings, seed: int) -> Payload:
    """One image's object; a pure function of its arguments. ``pixels`` is None where the method needs none."""
    arrays, attrs = proposals_of(task.image, pixels, settings, seed, task.args.get("given"))
    return Payload(
        arrays,
        {
            **image_attrs(task.image, len(arrays["boxes"])),
            "box_convention": BOX_CONVENTION,
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
    params, images = key_params(settings, ctx.seed), [image for image in dataset.images if is_searched(image)]
    from_file = file_boxes(settings, images, ctx.log.info)
    tasks = [_task(record, params, from_file, ctx.node) for record in images]
    if ctx.store.missing(ctx.node.stage.name, [task.recipe.key for task in tasks]):
        for line in large_pictures(images, settings):
            ctx.log.warning(line)
    read_image = ctx.image if settings.method in NEEDS_PIXELS else None
    keys = ctx.compute_images(tasks, ProposalsCompute(settings, ctx.seed, read_image))
    _publish(ctx, tasks, keys, settings)


def _task(
    record: ImageRecord, params: Mapping[str, Any], from_file: Mapping[int, GivenProposals] | None, node: Node
) -> ImageTask:
    inputs: dict[str, Any] = {"image_sha256": record.sha256}
    if from_file is None:
        return ImageTask(record, Recipe(node.stage.name, node.version, params, inputs))
    given = from_file[record.id]
    inputs["boxes"] = digest_array(given.boxes)
    if given.regions is not None:
        inputs["regions"] = given.regions.digest
    return ImageTask(record, Recipe(node.stage.name, node.version, params, inputs), args={"given": given})


def _publish(ctx: Context, tasks: Sequence[ImageTask], keys: Sequence[str], settings: ProposalsSettings) -> None:
    key_of = {task.image.id: key for task, key in zip(tasks, keys, strict=True)}
    given = {task.image.id: task.args.get("given") for task in tasks}

    def read_boxes(record: ImageRecord) -> ImageBoxes:
        stage, key = ctx.node.stage.name, key_of[record.id]
        arrays = ctx.store.get(stage, key, names=["boxes"]).arrays
        kept = arrays["boxes"]
        if not len(kept):
            ctx.log.warning(f"{record.file_name}: no proposals; the image is kept with zero boxes")
        if len(kept) == settings.max_proposals and settings.method == "selective_search":
            arrays = ctx.store.get(stage, key).arrays
        return ImageBoxes(kept, all_found(record, arrays, settings, ctx.seed, given[record.id]))

    dataset = ctx.dataset()
    searched = replace(dataset, images=tuple(image for image in dataset.images if image.id in key_of))
    summary = recall_summary(searched, read_boxes)
    for split, figures in summary.items():
        ctx.log.info(told(split, figures))
        if figures["cap"]["images_cut"]:
            ctx.log.warning(f"{split}: {_cut(figures, settings)}")
    ctx.publish("manifest", list(key_of.items()), {"splits": summary})


def _cut(figures: Mapping[str, Any], settings: ProposalsSettings) -> str:
    """Say what the cap has cost one split."""
    cap = figures["cap"]
    cut = f"proposals.max_proposals {settings.max_proposals} was reached in {cap['images_cut']} of {figures['images']}"
    if cap["found"] is None:
        return f"{cut} images; what was found beyond it is not known by this method"
    lost = f"{cap['recall_lost_0.5'] or 0:.3g} at IoU 0.5, {cap['recall_lost_0.7'] or 0:.3g} at 0.7"
    return f"{cut} images: {figures['boxes']} of {cap['found']} boxes kept, recall lost {lost} (null keeps all)"
