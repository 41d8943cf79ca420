"""Stage ``combine``: several detectors' scored windows, suppressed together (SPP-net, section 4.4).

Reads ``artifacts/detect/manifest.json`` and, for ``combine.detectors``, ``detections/NAME.json``; writes one HDF5
object per image and ``artifacts/combine/manifest.json``. Without other detectors that is detect's manifest, unchanged,
at no cost; with them some ms per image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import StageError
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, Context, ImageTask, Stage

from .saved import FOLDER
from .settings import CombineSettings

if TYPE_CHECKING:
    from cache import Payload, Store

VERSION = 1


@dataclass(frozen=True)
class CombineCompute(Compute):
    """One image's candidates of all detectors to its detections."""

    store: "Store"
    nms_iou: float
    classifier: str
    regressed: bool
    classes: tuple[str, ...]

    def __call__(self, task: ImageTask) -> "Payload":
        """The image's detections."""
        from cache import Payload

        from .suppression import CANDIDATES, Candidates, suppressed, union

        keys: Sequence[str] = task.args["detections"]
        stored = [self.store.get("detect", key, CANDIDATES).arrays for key in keys]
        scored = [Candidates(*(arrays[name] for name in CANDIDATES)) for arrays in stored]
        found = suppressed(union(scored), self.nms_iou)
        attrs = {
            "image": task.image.file_name,
            "image_sha256": task.image.sha256,
            "box_convention": BOX_CONVENTION,
            "count": len(found.bbox),
            "classes": list(self.classes),
            "classifier": self.classifier,
            "regressed": self.regressed,
            "detections": list(keys),
        }
        return Payload(found.arrays(), attrs, "hdf5")


def run(ctx: Context) -> None:
    """Hand on detect's list, or combine on the images that the store lacks and find the thresholds over all."""
    settings: CombineSettings = ctx.settings("combine")
    if settings.detectors:
        _combine(ctx, settings)
    else:
        ctx.artifact("detect").write(ctx.output("manifest"))


def _combine(ctx: Context, settings: CombineSettings) -> None:
    from cache import Recipe

    from .saved import check_fit, checked, detector_of, read_saved, same_images
    from .thresholds import stored_thresholds

    dataset, own = ctx.dataset(), checked(ctx.input("detect"))
    others = {name: read_saved(ctx.input("saved"), name) for name in settings.detectors}
    check_fit(own, others)
    keys_of = [list(own.keys.values()), *(same_images(own, other) for other in others.values())]
    _check_stored(ctx, dict(zip(others, keys_of[1:], strict=True)))
    for name, keys in zip(others, keys_of[1:], strict=True):
        if keys == keys_of[0]:
            ctx.log.warning(f"combine.detectors: {name} is the project's own detector, which adds nothing")
    params = {"nms_iou": settings.nms_iou}
    tasks = []
    for image_id, *keys in zip(own.keys, *keys_of, strict=True):
        ordered = sorted(keys)  # the result and its key are the same in whatever order detectors are listed
        recipe = Recipe("combine", VERSION, params, {"detections": ordered})
        tasks.append(ImageTask(dataset.image(image_id), recipe, {"detect": keys[0]}, {"detections": ordered}))
    compute = CombineCompute(
        ctx.store, settings.nms_iou, own.summary["classifier"], own.summary["regressed"], dataset.classes
    )
    made = ctx.compute_images(tasks, compute, unit="detections")
    rank_factor = sum(int(one.summary["rank_factor"]) for one in (own, *others.values()))
    summary = {
        **own.summary,
        "detector": "; ".join(detector_of(one) for one in (own, *others.values())),
        "thresholds": stored_thresholds(ctx.store, keys_of, dataset.classes, rank_factor),
        "rank_factor": rank_factor,
        "detectors": {name: other.digest for name, other in others.items()},
    }
    ctx.publish("manifest", list(zip(own.keys, made, strict=True)), summary)


def _check_stored(ctx: Context, saved: Mapping[str, Sequence[str]]) -> None:
    """Nobody can compute another detector's objects again here, so all gaps are told before anything is computed."""
    problems = []
    for name, keys in saved.items():
        if lacking := len(ctx.store.missing("detect", keys)):
            problems.append(
                f"combine.detectors: {lacking} of {len(set(keys))} objects of {name} are not in the store "
                f"{ctx.store.root}; `rcnn cache pull` may have them, or run the pipeline with the parameters that made "
                f"them and `rcnn detections save {name}`"
            )
    if problems:
        raise StageError("\n".join(problems))


STAGE = Stage(
    name="combine",
    version=VERSION,
    settings={"combine": CombineSettings},
    groups=("combine",),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "detect": "artifacts/detect/manifest.json",
        "saved": FOLDER,
    },
    outputs={"manifest": "artifacts/combine/manifest.json"},
    run=run,
)
