"""Stage ``merge``: an image's scored windows to its detections (OverFeat section 4.3).

Reads the scored windows; writes the objects and the list that the stage ``detect`` writes for R-CNN, with the members
of each box beside them, so that combining, evaluation and comparison read them alike. Where ``merge.t`` is null it is
first chosen on the training images held out; the summary tells which, and how well each did. Cost: some ms per image,
and for the choice eight times that for each image held out; no window is looked at again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cache import Artifact, Payload, Recipe, Store
from manifests import Dataset, ImageRecord
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, Context, ImageTask, image_attrs
from stages.detections.suppression import ImageDetections

from .agreement import slide_of
from .choice import best_t, scores_by_t
from .combining import Entering, combined, entering, suppressed_windows
from .settings import MergeSettings
from .windows import ARRAYS, ScoredWindows


@dataclass(frozen=True)
class MergeCompute(Compute):
    """One image's detections; ``settings`` have a ``t`` where boxes merge."""

    store: Store
    settings: MergeSettings
    classes: tuple[str, ...]

    def __call__(self, task: ImageTask) -> Payload:
        """Combine the image's boxes."""
        ((stage, key),) = task.reads.items()
        windows = _entering(self.store, stage, key, task.image, self.settings)
        found = combined(windows, self.settings)
        both = ImageDetections(found.bbox, suppressed_windows(windows, self.settings.nms_iou))
        attrs = {
            **image_attrs(task.image, len(found.bbox)),
            "box_convention": BOX_CONVENTION,
            "classes": list(self.classes),
            "classifier": "softmax",
            "regressed": True,
        }
        return Payload({**both.arrays(), **found.candidates.arrays(), **found.members()}, attrs, "hdf5")


def _entering(store: Store, stage: str, key: str, record: ImageRecord, settings: MergeSettings) -> Entering:
    windows = ScoredWindows(**store.get(stage, key, ARRAYS).arrays)
    return entering(windows, settings, record.width, record.height)


def run(ctx: Context) -> None:
    """Choose ``t`` where that is left open, and combine the boxes of the test images that the store lacks."""
    settings, dataset = ctx.settings(MergeSettings), ctx.dataset()
    slide = slide_of(ctx.artifact("slide"), dataset.classes, settings.k, ctx.input("manifest"), ctx.shown("slide"))
    images, found = dataset.split("test"), None
    if settings.method == "merge" and settings.t is None:
        found = _scores_by_t(ctx, dataset, slide, settings)
        settings = settings.model_copy(update={"t": best_t(found)})
    params = _key_params(settings)
    tasks = [_task(ctx, record, params, slide) for record in images]
    keys = ctx.compute_images(tasks, MergeCompute(ctx.store, settings, dataset.classes), unit="detections")
    rule = f"merged up to {settings.t:g}" if settings.method == "merge" else "suppressed"
    summary = {
        "detector": f"{slide.summary['network']}, OverFeat, boxes {rule}",
        "thresholds": dict.fromkeys(dataset.classes),
        "classifier": "softmax",
        "regressed": True,
        "classes": list(dataset.classes),
        "images": [record.sha256 for record in images],
        "rank_factor": None,
        "t": params.get("t"),
        "t_found": None if found is None else {f"{t:g}": score for t, score in found.items()},
    }
    ctx.publish("manifest", [(record.id, key) for record, key in zip(images, keys, strict=True)], summary)


def _scores_by_t(ctx: Context, dataset: Dataset, slide: Artifact, settings: MergeSettings) -> dict[float, float]:
    """Score each ``t`` on the training images held out, which are those of the list that are no test images."""
    test = {record.id for record in dataset.split("test")}
    images = [record for record in dataset.images if record.id in slide.keys and record.id not in test]

    def windows() -> Iterator[tuple[ImageRecord, Entering]]:
        for done, record in enumerate(images, 1):
            yield record, _entering(ctx.store, slide.stage, slide.keys[record.id], record, settings)
            ctx.log.progress(done, len(images), "images")

    found = scores_by_t(windows(), settings, len(dataset.classes))
    told = ", ".join(f"{t:g}: {100 * score:.1f}" for t, score in found.items())
    if not any(found.values()):
        ctx.log.warning("no box is right on the training images held out at any t: the choice says nothing")
    ctx.log.info(f"mAP of the {len(images)} training images held out, by t: {told}; taken: {best_t(found):g}")
    return found


def _key_params(settings: MergeSettings) -> dict[str, Any]:
    """Return the parameters that an image's object depends on."""
    unused = {"t", "then_nms"} if settings.method == "nms" else set()
    return settings.model_dump(mode="json", exclude=unused)


def _task(ctx: Context, record: ImageRecord, params: Mapping[str, Any], slide: Artifact) -> ImageTask:
    # the image's size, which boxes are clipped to, follows from its bytes, and they are in the windows' key
    key = slide.keys[record.id]
    recipe = Recipe(ctx.node.stage.name, ctx.node.version, params, {"slide": key})
    return ImageTask(record, recipe, {slide.stage: key})
