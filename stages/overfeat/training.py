"""The common parts of OverFeat's two trainings: which images, what names the result, the run and the solver."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from manifests import ImageRecord
from stages.contract import Log
from stages.features.objects import ground_truth_digest
from stages.networks.forward import device_of
from stages.training.checkpoint import Checkpoint
from stages.training.held_out import held_out
from stages.training.loop import TrainingRun, train
from stages.training.settings import SolverSettings
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

CURVE_COLUMNS = ("iteration", "train_loss")
B = TypeVar("B")  # whatever a batch is
M = TypeVar("M", bound=nn.Module)


def trained_on(records: Sequence[ImageRecord], fraction: float, seed: int) -> list[ImageRecord]:
    """Return the training images that are not held out (:func:`.held_out.held_out`), in order."""
    aside = held_out(records, fraction, seed)
    return [record for record in records if record.id not in aside]


def image_digests(records: Sequence[ImageRecord], keys: Sequence[str]) -> list[list[str]]:
    """Return what of each image a training depends on: its bytes, its objects, and the key of its maps."""
    return [[one.sha256, ground_truth_digest(one), key] for one, key in zip(records, keys, strict=True)]


def identity(
    settings: SolverSettings, group: str, *, seed: int, classes: Sequence[str], device: str, **more: Any
) -> Mapping[str, Any]:
    """Return the parameters that a training's result depends on, beside its inputs, as JSON.

    Which images are held out is no part of it: the inputs name those that are trained on.
    """
    own = {name: value for name, value in settings.identity().items() if name != "held_out_fraction"}
    return {
        "seed": seed,
        group: own,
        **more,
        "classes": list(classes),
        "torch": torch.__version__,
        "device": device_of(device),
    }


def training_run(settings: SolverSettings, group: str, *, seed: int, workers: int) -> TrainingRun:
    """Return the training loop's view of the parameters of ``group``."""
    return TrainingRun(
        stage=group,
        iterations=settings.iterations,
        eval_every=settings.eval_every,
        checkpoint_every=settings.checkpoint_every,
        seed=seed,
        train_batch_norm=False,
        workers=workers,
    )


def fit(
    model: M,
    settings: SolverSettings,
    *,
    draw: Callable[[int], B],
    loss: Callable[[M, B], Mapping[str, Tensor]],
    images_of: Callable[[int], str],
    run: TrainingRun,
    checkpoint: Checkpoint,
    log: Log,
) -> list[dict[str, float]]:
    """Train all of ``model``, layers behind the stored maps, in place; returns the curve (``training.loop.train``'s).

    By Caffe's rule: biases learn twice as fast; they are decayed, too, and no layer is faster than another (ours).

    Args:
        images_of: names the images of batch ``number``, for the message of a loss that is no number.
    """
    model.requires_grad_(True)
    multipliers = caffe_multipliers(model, decayed_biases=True)
    return train(
        model,
        MomentumSGD(model, multipliers, momentum=settings.momentum, weight_decay=settings.weight_decay),
        schedule=StepSchedule(settings.lr, settings.gamma, settings.step),
        draw=draw,
        loss=loss,
        run=run,
        checkpoint=checkpoint,
        log=log,
        batch_name=images_of,
    )
