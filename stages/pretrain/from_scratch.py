"""Training from scratch: a network learns to classify pictures (the paper takes Caffe's, trained on ILSVRC 2012)."""

from collections.abc import Sequence

import numpy as np
import torch

from cache.errors import StageError
from stages.contract import Log
from stages.networks.modes import dropout
from stages.networks.network import Network
from stages.training.checkpoint import Checkpoint
from stages.training.cross_entropy import LabelledBatch, classify, cross_entropy
from stages.training.loop import TrainingRun, generator, prefetch, torch_generator, train
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

from .batches import TrainingBatches, colour_axes, held_out_batch
from .normalisation import fold, normalise
from .pictures import LabelledPictures
from .settings import PretrainSettings

CURVE_COLUMNS = ("iteration", "train_loss", "val_loss", "val_accuracy")


def training_run(settings: PretrainSettings, seed: int, workers: int) -> TrainingRun:
    """Return the training loop's view of the parameters."""
    return TrainingRun(
        stage="pretrain",
        iterations=settings.iterations,
        eval_every=settings.eval_every,
        checkpoint_every=settings.checkpoint_every,
        seed=seed,
        workers=workers,
    )


def pretrain(
    network: Network,
    data: LabelledPictures,
    settings: PretrainSettings,
    run: TrainingRun,
    checkpoint: Checkpoint,
    log: Log,
) -> list[dict[str, float]]:
    """Train ``network`` in place on random crops.

    With ``settings.sizes_px`` the crops of one epoch have one side and those of the next another (SPP paper section
    2.3): one network, so nothing is copied where the paper switches between two. Its 180 px region is its 224 px region
    resized; here each is resized from the picture. Held-out pictures have the network's own side. StageError, before
    anything is trained, for sizes that the network cannot take.

    The last layer begins at N(0, 0.01), as in Caffe's training files, and its biases at the architecture's own (0;
    ZF-5: 1). With ``settings.batch_norm`` the network is trained with batch normalisation, which is folded away before
    this returns.

    Returns:
        The curve (see CURVE_COLUMNS).
    """
    sizes = settings.sizes_px or (network.input.side_px,)
    check_sizes(network, sizes)
    network.new_head(data.n_classes, torch_generator(run.seed, run.stage, "last layer"))
    normalised = settings.batch_norm and normalise(network, list(network.classifier_parameters()))
    solver = MomentumSGD(
        network, caffe_multipliers(network), momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    axes = None
    if settings.colour_std > 0:
        axes = colour_axes(data, generator(run.seed, run.stage, "colour axes"))
    with dropout(network, settings.dropout):
        rows = train(
            network,
            solver,
            schedule=StepSchedule(settings.lr, settings.gamma, settings.step),
            draw=TrainingBatches(data, network.input, settings, run, sizes, axes),
            loss=cross_entropy(settings.precision),
            run=run,
            checkpoint=checkpoint,
            log=log,
            evaluate=lambda network: _measure(network, data, settings, run.workers),
        )
    if normalised:
        fold(network)
    return rows


def check_sizes(network: Network, sizes_px: Sequence[int]) -> None:
    """Raise StageError where crops of one of these sides cannot pass through the network."""
    own = network.input.side_px
    if network.pyramid is None and set(sizes_px) != {own}:
        raise StageError(
            f"pretrain.sizes_px: {list(sizes_px)} needs network.pyramid, since without it fc6 takes crops of {own} px "
            "only; set network.pyramid ([1, 2, 3, 6]), or pretrain.sizes_px to null"
        )
    device = next(network.parameters()).device
    for side in sizes_px:
        try:
            with torch.inference_mode():
                network.eval()(torch.zeros(1, 3, side, side, device=device))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise StageError(
                f"pretrain.sizes_px: {network.name} cannot take crops of {side} px ({reason}); its own are {own} px"
            ) from error


def _measure(network: Network, data: LabelledPictures, settings: PretrainSettings, workers: int) -> dict[str, float]:
    """Return the mean loss and the accuracy over the held-out pictures."""
    held_out = np.flatnonzero(~data.train)

    def part(i: int) -> LabelledBatch:
        rows = held_out[i * settings.batch : (i + 1) * settings.batch]
        return held_out_batch(data, rows, network.input, (settings.crop, settings.crop_max))

    batches = prefetch(part, 0, -(-len(held_out) // settings.batch), workers)
    losses, predicted, labels = classify(network, batches, settings.precision)
    return {"val_loss": float(losses.mean()), "val_accuracy": float((predicted == labels).mean())}
