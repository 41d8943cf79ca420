"""Training a network from scratch on a classification set."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..common.boxes import Boxes
from ..common.checkpoint import Checkpoint
from ..common.contract import Log
from ..common.solver import MomentumSGD, StepSchedule, caffe_multipliers
from ..common.training import Batch, Course, Warp, classify, generator, prefetch, torch_generator, train
from .classification import ClassificationSet, crop_boxes, recolour
from .normalisation import fold, normalise
from .settings import PretrainSettings

if TYPE_CHECKING:
    from ..common.networks import Network

CURVE_COLUMNS = ("iteration", "train_loss", "val_loss", "val_accuracy")


def pretrain(
    network: "Network",
    data: ClassificationSet,
    warp: Warp,
    settings: PretrainSettings,
    course: Course,
    checkpoint: Checkpoint,
    log: Log,
) -> list[dict[str, float]]:
    """Train ``network`` in place on random crops; returns the curve (see CURVE_COLUMNS).

    The last layer begins at N(0, 0.01), as in Caffe's training files. With ``settings.batch_norm`` the network is
    trained with batch normalisation, which is folded away before this returns.
    """
    network.new_head(data.n_classes, torch_generator(course.seed, course.stage, "last layer"))
    normalised = settings.batch_norm and normalise(network, list(network.classifier_parameters()))
    solver = MomentumSGD(
        network, caffe_multipliers(network), momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    train_rows, val_rows = np.flatnonzero(data.train), np.flatnonzero(~data.train)
    side = data.images.shape[1]

    def draw(iteration: int) -> Batch:
        rng = generator(course.seed, course.stage, "batch", iteration)
        rows = rng.choice(train_rows, settings.batch)
        boxes = crop_boxes(len(rows), side, settings.crop, rng)
        flips = rng.random(len(rows)) < 0.5 if settings.mirror else np.zeros(len(rows), bool)
        images = recolour(data.images[rows], rng) if settings.recolour else data.images[rows]
        return Batch(_crops(images, boxes, flips, warp), data.labels[rows])

    def held_out(chunk: int) -> Batch:
        rows = val_rows[chunk * settings.batch : (chunk + 1) * settings.batch]
        return held_out_batch(data, rows, warp, settings.crop)

    def evaluate() -> dict[str, float]:
        batches = prefetch(held_out, 0, -(-len(val_rows) // settings.batch), course.workers)
        losses, predicted, labels = classify(network, batches, settings.precision)
        return {"val_loss": float(losses.mean()), "val_accuracy": float((predicted == labels).mean())}

    with _dropout(network, settings.dropout):
        rows = train(
            network,
            solver,
            schedule=StepSchedule(settings.lr, settings.gamma, settings.step),
            draw=draw,
            evaluate=evaluate,
            course=course,
            checkpoint=checkpoint,
            log=log,
        )
    if normalised:
        fold(network)
    return rows


def held_out_batch(data: ClassificationSet, rows: NDArray[np.int64], warp: Warp, crop: float) -> Batch:
    """The centre crops of some pictures, not mirrored."""
    boxes = crop_boxes(len(rows), data.images.shape[1], crop, None)
    return Batch(_crops(data.images[rows], boxes, np.zeros(len(rows), bool), warp), data.labels[rows])


def _crops(images: NDArray[np.uint8], boxes: Boxes, flips: NDArray[np.bool_], warp: Warp) -> NDArray[np.float32]:
    return np.concatenate([warp(image, boxes[i : i + 1], flips[i : i + 1]) for i, image in enumerate(images)])


@contextmanager
def _dropout(network: nn.Module, active: bool) -> Iterator[None]:
    """Dropout as it is, or off for the duration."""
    layers = [m for m in network.modules() if isinstance(m, nn.Dropout)]
    rates = [layer.p for layer in layers]
    for layer in layers:
        layer.p = layer.p if active else 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate
