"""Fine-tuning itself: a network gets a new (N + 1)-way last layer and is trained on windows (paper section 2.3)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from cache.errors import StageError
from stages.contract import Log
from stages.networks.network import Network
from stages.training.checkpoint import Checkpoint
from stages.training.cross_entropy import LabelledBatch, classify, cross_entropy
from stages.training.loop import TrainingRun, generator, prefetch, torch_generator, train
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

from .batches import WindowBatches
from .sampling import Flips, Rows, draw_batch, draw_held_out, draws_in_blocks
from .settings import FinetuneSettings
from .windows import Windows

# Always all of them, since DVC's plot names them; those of held-out windows are empty where there are none.
CURVE_COLUMNS = ("iteration", "train_loss", "val_loss", "val_accuracy", "val_fg_accuracy")


@dataclass(frozen=True)
class FineTuned:
    """What came out, beside the network.

    Attributes:
        curve: its rows (CURVE_COLUMNS).
        recognised: the share of object windows that the network recognises in the end, of held-out images, or where
            there are none of training images; NaN where there is no such window.
    """

    curve: list[dict[str, float]]
    recognised: float


def training_run(settings: FinetuneSettings, seed: int, workers: int) -> TrainingRun:
    """Return the training loop's view of the parameters."""
    return TrainingRun(
        stage="finetune",
        iterations=settings.iterations,
        eval_every=settings.eval_every,
        checkpoint_every=settings.checkpoint_every,
        seed=seed,
        train_batch_norm=False,
        workers=workers,
    )


def check_windows(windows: Windows, log: Log) -> None:
    """Raise StageError where there is nothing to learn from; warn where there is no background."""
    if len(windows.foreground) == 0:
        raise StageError(
            "finetune: no window of the train split overlaps an object enough to be foreground; annotate objects in it,"
            " lower finetune.fg_iou, or set finetune.iterations to 0"
        )
    if len(windows.background) == 0:
        log.warning("no background windows (no proposals?); mini-batches hold foreground only")


def fine_tune(
    network: Network,
    training: Windows,
    held_out: Windows,
    batches: WindowBatches,
    settings: FinetuneSettings,
    run: TrainingRun,
    checkpoint: Checkpoint,
    log: Log,
    *,
    n_classes: int,
) -> FineTuned:
    """Give ``network`` a new layer of ``n_classes + 1`` outputs (background first) and train it in place: all of it, or
    the part that takes the batches.

    Dropout is active; batch normalisation, which the authors' networks lack, keeps its pre-trained
    statistics, because mini-batches of one quarter positives are not what the features will see.

    The weights are those after the last iteration, as R-CNN's authors take them: the held-out curve chooses none.
    (SPP-net's program keeps those of least error on windows of VOC 2007's test images.)
    """
    network.new_head(n_classes + 1, torch_generator(run.seed, run.stage, "new layer"), settings.new_layer_bias)
    part = batches.trained_part(network)
    fixed = _sample(held_out, settings, run)
    rows_of = _sampler(training, settings, run)

    def draw(number: int) -> LabelledBatch:
        rows, flips = rows_of(number)
        return batches.batch(training.take(rows), flips)

    curve = train(
        part,
        _solver(network, part, settings),
        schedule=StepSchedule(settings.lr, settings.gamma, settings.step),
        draw=draw,
        loss=cross_entropy(settings.precision),
        run=run,
        checkpoint=checkpoint,
        log=log,
        evaluate=lambda part: measure(part, fixed, batches, settings, run.workers) if len(fixed) else {},
    )
    if len(fixed):
        return FineTuned(curve, curve[-1]["val_fg_accuracy"])
    seen = measure(part, _sample(training, settings, run), batches, settings, run.workers)
    return FineTuned(curve, seen["val_fg_accuracy"])


def _sampler(windows: Windows, settings: FinetuneSettings, run: TrainingRun) -> Callable[[int], tuple[Rows, Flips]]:
    """Return what draws the rows of mini-batch ``number``, and which of them to mirror, as ``sampling`` says."""
    fg, bg, mirror = settings.fg_per_batch, settings.bg_per_batch, settings.mirror

    def rng_of(purpose: str, number: int) -> np.random.Generator:
        return generator(run.seed, run.stage, purpose, number)

    if settings.sampling == "blocks":
        return draws_in_blocks(windows, fg=fg, bg=bg, mirror=mirror, rng_of=lambda number: rng_of("block", number))
    return lambda number: draw_batch(windows, fg=fg, bg=bg, mirror=mirror, rng=rng_of("batch", number))


def _solver(network: Network, part: nn.Module, settings: FinetuneSettings) -> MomentumSGD:
    """Build the solver for the trained ``part``.

    The network's new last layer learns ``new_layer_lr`` times as fast, and its bias never decays, those of the others
    with ``decay_biases``.
    """
    head = {id(p) for p in network.classifier_parameters()}
    new = {name for name, p in part.named_parameters() if id(p) in head}
    plain = caffe_multipliers(part, new, settings.new_layer_lr)
    biases = {name for name in plain if name not in new and name.rpartition(".")[2] == "bias"}
    decayed = biases if settings.decay_biases else ()
    rates = caffe_multipliers(part, new, settings.new_layer_lr, decayed_biases=decayed)
    return MomentumSGD(part, rates, momentum=settings.momentum, weight_decay=settings.weight_decay)


def _sample(windows: Windows, settings: FinetuneSettings, run: TrainingRun) -> Windows:
    """Draw the fixed windows to measure on, foreground and background as in a mini-batch."""
    share = settings.fg_per_batch / (settings.fg_per_batch + settings.bg_per_batch)
    rng = generator(run.seed, run.stage, "held-out windows")
    return windows.take(draw_held_out(windows, count=settings.held_out_windows, fg_share=share, rng=rng))


def measure(
    network: nn.Module, windows: Windows, batches: WindowBatches, settings: FinetuneSettings, workers: int
) -> dict[str, float]:
    """Return the mean loss, the accuracy over all windows, and that over foreground ones (NaN where there are none)."""
    chunk = settings.fg_per_batch + settings.bg_per_batch

    def part(i: int) -> LabelledBatch:
        return batches.batch(windows.take(np.arange(i * chunk, min((i + 1) * chunk, len(windows)))))

    parts = prefetch(part, 0, -(-len(windows) // chunk), workers)
    losses, predicted, labels = classify(network, parts, settings.precision)
    hits, positive = predicted == labels, labels > 0
    return {
        "val_loss": float(losses.mean()),
        "val_accuracy": float(hits.mean()),
        "val_fg_accuracy": float(hits[positive].mean()) if positive.any() else float("nan"),
    }
