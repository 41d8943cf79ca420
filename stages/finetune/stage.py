"""Stage ``finetune``: continue training the CNN on proposals of the train split (paper section 2.3).

Reads the dataset manifest, the proposals and the network's weights; writes
``artifacts/finetune/weights.safetensors`` (N + 1 outputs, background first) and the curve
``artifacts/finetune/curve.csv``. With ``finetune.iterations: 0`` the weights are passed on as they are. Cost:
128 windows forward and backward per iteration, about four forward passes. With ``features.method: spp`` only the fully
connected layers are trained (SPP paper section 4.2), on windows pooled from feature maps, the stage's own objects;
``artifacts/finetune/manifest.json`` names them.
"""

import shutil
from typing import TYPE_CHECKING

from stages.contract import Context, Stage

from .settings import FinetuneSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stages.training.checkpoint import Checkpoint

    from .batches import WindowBatches
    from .readers import RegionForm

VERSION = 1
LEARNED = 0.1  # a fine-tuned network recognises at least this share of the held-out object windows
# These change no number of the result, so a run may go on from a checkpoint that was made with others.
NO_RESULT = {"image_cache_mb", "checkpoint_every"}


def run(ctx: Context) -> None:
    """Fine-tune, or pass the weights on where ``iterations`` is 0."""
    from stages.training.curve import write_curve

    from .fine_tune import CURVE_COLUMNS

    settings: FinetuneSettings = ctx.settings("finetune")
    if settings.iterations == 0:
        ctx.log.info("finetune.iterations is 0: weights are used as they are")
        shutil.copyfile(ctx.input("weights"), ctx.output("weights"))
        write_curve(ctx.output("curve"), CURVE_COLUMNS, [])
        ctx.publish("maps", [], {})
        return
    _fine_tune(ctx, settings)


def _fine_tune(ctx: Context, settings: FinetuneSettings) -> None:
    from stages.networks.forward import device_of
    from stages.networks.weights import class_names_meta, load_weights, save_weights
    from stages.training.curve import write_curve

    from .fine_tune import CURVE_COLUMNS, check_windows, fine_tune, training_run
    from .pools import labelled_windows
    from .readers import RegionForm, pooled, warped

    dataset, form, device = ctx.dataset(), RegionForm.of(ctx), device_of(ctx.device)
    network = load_weights(ctx.input("weights"))
    training, held_out = labelled_windows(ctx, settings)
    check_windows(training, ctx.log)
    if form.method == "spp":
        batches: WindowBatches = pooled(ctx, form, network, settings, training, held_out)
    else:
        batches = warped(ctx, form, network, settings)
        ctx.publish("maps", [], {})
    checkpoint = _checkpoint(ctx, settings, form, device)
    rows = fine_tune(
        network.to(device),
        training,
        held_out,
        batches,
        settings,
        training_run(settings, ctx.seed, ctx.workers),
        checkpoint,
        ctx.log,
        n_classes=len(dataset.classes),
    )
    _warn_if_nothing_learned(rows[-1], ctx)
    meta = {"stage": "finetune", **class_names_meta(dataset.classes), "background_output": "0"}
    save_weights(ctx.output("weights"), network, meta)
    write_curve(ctx.output("curve"), CURVE_COLUMNS, rows)
    ctx.after_commit(checkpoint.remove)


def _warn_if_nothing_learned(last: "Mapping[str, float]", ctx: Context) -> None:
    """A rate that throws the weights off leaves a finite loss and a network that calls everything background."""
    accuracy = last.get("val_fg_accuracy", float("nan"))
    if accuracy < LEARNED:
        ctx.log.warning(
            f"only {accuracy:.0%} of the held-out object windows are recognised after fine-tuning; lower"
            " finetune.lr or finetune.new_layer_lr, or train for more iterations"
        )


def _checkpoint(ctx: Context, settings: FinetuneSettings, form: "RegionForm", device: str) -> "Checkpoint":
    """The checkpoint of exactly this run: same inputs, parameters, seed, code version and torch."""
    import torch

    from cache import digest_file
    from stages.training.checkpoint import Checkpoint

    identity = {name: digest_file(ctx.input(name)) for name in ("manifest", "proposals", "weights")}
    return Checkpoint(
        ctx.work_dir(),
        {
            **identity,
            "version": VERSION,
            "seed": ctx.seed,
            "finetune": settings.model_dump(mode="json", exclude=NO_RESULT),
            "regions": form.identity(),
            "torch": torch.__version__,
            "device": device,
        },
    )


STAGE = Stage(
    name="finetune",
    version=VERSION,
    settings={"finetune": FinetuneSettings},
    groups=(
        "seed",
        "finetune",
        "features.method",
        "features.crop",
        "features.context_px",
        "features.spp",
        "features.storage",
    ),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "proposals": "artifacts/proposals/manifest.json",
        "weights": "artifacts/pretrain/weights.safetensors",
    },
    outputs={
        "weights": "artifacts/finetune/weights.safetensors",
        "curve": "artifacts/finetune/curve.csv",
        "maps": "artifacts/finetune/manifest.json",
    },
    run=run,
    plots=("curve",),
)
