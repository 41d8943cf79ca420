"""Stage ``finetune``: continue training the CNN on warped proposals of the train split (paper section 2.3).

Reads the dataset manifest, the proposals and the network's weights; writes
``artifacts/finetune/weights.safetensors`` (N + 1 outputs, background first) and the curve
``artifacts/finetune/curve.csv``. With ``finetune.iterations: 0`` the weights are passed on as they are. Cost:
128 windows forward and backward per iteration, about four forward passes.
"""

from typing import TYPE_CHECKING

from ..common.contract import Context, Stage
from ..common.errors import StageError
from .settings import FinetuneSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manifests import ImageRecord

    from ..common.boxes import Boxes
    from ..common.checkpoint import Checkpoint
    from .windows import Windows

VERSION = 1
LEARNED = 0.1  # a fine-tuned network recognises at least this share of the held-out object windows
# These change no number of the result, so a run may go on from a checkpoint that was made with others.
NO_RESULT = {"image_cache_mb", "checkpoint_every"}


def run(ctx: Context) -> None:
    """Fine-tune, or pass the weights on where ``iterations`` is 0."""
    from ..common.training import write_curve
    from .tuning import CURVE_COLUMNS

    settings: FinetuneSettings = ctx.settings("finetune")
    if settings.iterations == 0:
        ctx.log.info("finetune.iterations is 0: weights are used as they are")
        ctx.output("weights").write_bytes(ctx.input("weights").read_bytes())
        write_curve(ctx.output("curve"), CURVE_COLUMNS, [])
        return
    _fine_tune(ctx, settings)


def _fine_tune(ctx: Context, settings: FinetuneSettings) -> None:
    import json

    from ..common.device import device_of
    from ..common.training import write_curve
    from ..common.weights import load_weights, save_weights
    from .tuning import CURVE_COLUMNS, check_pools, course_of, fine_tune, window_reader

    dataset = ctx.dataset()
    network = load_weights(ctx.input("weights"), device_of(ctx.device))
    records = dataset.split("train")
    training, held_out = _windows(ctx, records, settings, len(dataset.classes))
    check_pools(training, ctx.log)
    checkpoint = _checkpoint(ctx, settings, str(next(network.parameters()).device))
    rows = fine_tune(
        network,
        training,
        held_out,
        window_reader(
            lambda index: ctx.image(records[index]),
            network.input,
            mode=ctx.settings("features.crop"),
            context_px=ctx.settings("features.context_px"),
            cache_bytes=settings.image_cache_mb << 20,
        ),
        settings,
        course_of(settings, ctx.seed, ctx.workers),
        checkpoint,
        ctx.log,
        n_classes=len(dataset.classes),
    )
    _warn_if_nothing_learned(rows[-1], ctx)
    meta = {"stage": "finetune", "classes": json.dumps(list(dataset.classes)), "background_output": "0"}
    save_weights(ctx.output("weights"), network, meta)
    write_curve(ctx.output("curve"), CURVE_COLUMNS, rows)
    ctx.after_commit(checkpoint.remove)


def _warn_if_nothing_learned(last: "Mapping[str, float]", ctx: Context) -> None:
    """A rate that throws the weights off leaves a finite loss and a network that calls everything background."""
    accuracy = last.get("val_fg_accuracy", float("nan"))
    if accuracy < LEARNED:
        ctx.log.warning(
            f"finetune: only {accuracy:.0%} of the held-out object windows are recognised after fine-tuning; lower"
            " finetune.lr or finetune.new_layer_lr, or train for more iterations"
        )


def _windows(
    ctx: Context, records: "list[ImageRecord]", settings: FinetuneSettings, n_classes: int
) -> "tuple[Windows, Windows]":
    """Labelled windows of the images trained on, and of those held out."""
    from ..common.training import generator
    from .windows import collect, hold_out

    artifact = ctx.artifact("proposals")

    def proposals_of(record: "ImageRecord") -> "Boxes":
        if record.id not in artifact.keys:
            raise StageError(f"{record.file_name}: no proposals for this image; run the stage proposals again")
        boxes: Boxes = ctx.store.get("proposals", artifact.keys[record.id], ["boxes"]).arrays["boxes"]
        return boxes

    aside = hold_out(len(records), settings.held_out_fraction, generator(ctx.seed, "finetune", "held-out images"))
    training, held_out = collect(
        records, proposals_of, aside, n_classes=n_classes, fg_iou=settings.fg_iou, bg_iou=settings.bg_iou
    )
    ctx.log.info(
        f"finetune: {len(training.foreground)} foreground and {len(training.background)} background windows of"
        f" {int((~aside).sum())} images; {int(aside.sum())} images held out"
    )
    return training, held_out


def _checkpoint(ctx: Context, settings: FinetuneSettings, device: str) -> "Checkpoint":
    """The checkpoint of exactly this run: same inputs, parameters, seed, code version and torch."""
    import torch

    from cache import digest_file

    from ..common.checkpoint import Checkpoint

    identity = {name: digest_file(ctx.input(name)) for name in ("manifest", "proposals", "weights")}
    return Checkpoint(
        ctx.work_dir(),
        {
            **identity,
            "version": VERSION,
            "seed": ctx.seed,
            "finetune": settings.model_dump(mode="json", exclude=NO_RESULT),
            "crop": [ctx.settings("features.crop"), ctx.settings("features.context_px")],
            "torch": torch.__version__,
            "device": device,
        },
    )


STAGE = Stage(
    name="finetune",
    version=VERSION,
    settings={"finetune": FinetuneSettings},
    groups=("seed", "finetune", "features.crop", "features.context_px"),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "proposals": "artifacts/proposals/manifest.json",
        "weights": "artifacts/pretrain/weights.safetensors",
    },
    outputs={"weights": "artifacts/finetune/weights.safetensors", "curve": "artifacts/finetune/curve.csv"},
    run=run,
    plots=("curve",),
)
