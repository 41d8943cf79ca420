"""Stage ``combine``: several detectors' scored windows, suppressed together (SPP-net, section 4.4).

Reads ``artifacts/detect/manifest.json`` and, for ``combine.detectors``, ``detections/NAME.json``; writes one HDF5
object per image and ``artifacts/combine/manifest.json``. Without other detectors that is detect's manifest, unchanged,
at no cost; with them some ms per image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cache import Artifact, Payload, Recipe, Store
from cache.errors import StageError
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, Context, ImageTask, image_attrs

from .saved import IMPORTED, check_fit, checked, detector_input, detector_of, read_saved, same_images
from .settings import CombineSettings
from .suppression import CANDIDATES, Candidates, suppressed, union
from .thresholds import stored_thresholds


@dataclass(frozen=True)
class CombineCompute(Compute):
    """One image's candidates of all detectors to its detections."""

    store: Store
    nms_iou: float
    classifier: str
    regressed: bool
    classes: tuple[str, ...]

    def __call__(self, task: ImageTask) -> Payload:
        """Suppress the image's candidates of all detectors together."""
        sources: Sequence[tuple[str, str]] = task.args["detections"]
        stored = [self.store.get(stage, key, CANDIDATES).arrays for stage, key in sources]
        scored = [Candidates(*(arrays[name] for name in CANDIDATES)) for arrays in stored]
        found = suppressed(union(scored), self.nms_iou)
        attrs = {
            **image_attrs(task.image, len(found.bbox)),
            "box_convention": BOX_CONVENTION,
            "classes": list(self.classes),
            "classifier": self.classifier,
            "regressed": self.regressed,
            "detections": [key for _, key in sources],
        }
        return Payload(found.arrays(), attrs, "hdf5")


def run(ctx: Context) -> None:
    """Hand on the one detector's list, or combine on the images that the store lacks and find thresholds over all."""
    settings = ctx.settings(CombineSettings)
    sources = _sources(ctx, settings)
    if ctx.has("detect") and len(sources) == 1:
        ctx.artifact("detect").write(ctx.output("manifest"))
        return
    _combine(ctx, settings, sources)


def _sources(ctx: Context, settings: CombineSettings) -> dict[str, Artifact]:
    """Return the detectors' lists by name, the project's own first; "" is its name."""
    own = {"": checked(ctx.input("detect"))} if ctx.has("detect") else {}
    named = {
        name: checked(ctx.input(detector_input(name)))
        if ctx.has(detector_input(name))
        else read_saved(ctx.input("saved"), name)
        for name in settings.detectors
    }
    if not own and not named:
        raise StageError("combine.detectors: names no detector; list those to join, for instance [rcnn, sppnet]")
    return own | named


def _combine(ctx: Context, settings: CombineSettings, sources: Mapping[str, Artifact]) -> None:
    dataset = ctx.dataset()
    (first_name, first), *rest = sources.items()
    others = dict(rest)
    check_fit(first, others, first_name)
    keys_of = {first_name: list(first.keys.values())} | {
        name: same_images(first, other) for name, other in others.items()
    }
    _check_stored(ctx, {name: (sources[name].stage, keys) for name, keys in keys_of.items() if name})
    for name in others:
        if keys_of[name] == keys_of[first_name]:
            same = first_name or "the project's own detector"
            ctx.log.warning(f"combine.detectors: {name} is {same} once more, which adds nothing")
    params = {"nms_iou": settings.nms_iou}
    tasks = []
    for row, image_id in enumerate(first.keys):
        objects = sorted(
            ((sources[name].stage, keys[row]) for name, keys in keys_of.items()), key=lambda named: named[1]
        )  # the result and its key are the same in whatever order detectors are listed
        recipe = Recipe(ctx.node.stage.name, ctx.node.version, params, {"detections": [key for _, key in objects]})
        reads = {first.stage: keys_of[first_name][row]}
        tasks.append(ImageTask(dataset.image(image_id), recipe, reads, {"detections": objects}))
    compute = CombineCompute(
        ctx.store, settings.nms_iou, first.summary["classifier"], first.summary["regressed"], dataset.classes
    )
    made = ctx.compute_images(tasks, compute, unit="detections")
    factors = [one.summary["rank_factor"] for one in sources.values()]
    rank_factor = None if None in factors else sum(factors)
    limits: dict[str, float | None] = dict.fromkeys(dataset.classes)
    if rank_factor is not None:
        lists = [(sources[name].stage, keys) for name, keys in keys_of.items()]
        limits = stored_thresholds(ctx.store, lists, dataset.classes, rank_factor)
    summary = {
        **first.summary,
        "detector": "; ".join(detector_of(one) for one in sources.values()),
        "thresholds": limits,
        "rank_factor": rank_factor,
        "detectors": {name: one.digest for name, one in sources.items() if name},
    }
    ctx.publish("manifest", list(zip(first.keys, made, strict=True)), summary)


def _how_again(name: str, stage: str, *, is_detector: bool) -> str:
    """Say how a detector's missing objects come back."""
    if is_detector:
        return f"`dvc repro -f` of the detector {name} computes them"
    if stage == IMPORTED:
        return f"`rcnn detections import` of the same file brings them, with --name {name} --force"
    return f"run the pipeline with the parameters that made them and `rcnn detections save {name}`"


def _check_stored(ctx: Context, lists: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Tell all gaps before anything is computed: nobody can compute another detector's objects again here."""
    problems = []
    for name, (stage, keys) in lists.items():
        if lacking := len(ctx.store.missing(stage, keys)):
            how = _how_again(name, stage, is_detector=ctx.has(detector_input(name)))
            problems.append(
                f"combine.detectors: {lacking} of {len(set(keys))} objects of {name} are not in the store "
                f"{ctx.store.root}; `rcnn cache pull` may have them, or {how}"
            )
    if problems:
        raise StageError("\n".join(problems))
