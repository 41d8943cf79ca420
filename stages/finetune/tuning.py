"""Fine-tuning itself: windows in, warped or pooled, a network with a new (N + 1)-way layer out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.contract import Log
from stages.features.warp import CropMode, check_context, warp_regions
from stages.networks.network import Network
from stages.networks.spec import InputSpec
from stages.training.checkpoint import Checkpoint
from stages.training.loop import Batch, Course, Warp, classify, generator, prefetch, torch_generator, train
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

from .batches import ArrayCache
from .settings import FinetuneSettings
from .windows import Windows, draw_batch, draw_held_out

CURVE_COLUMNS = ("iteration", "train_loss", "val_loss", "val_accuracy", "val_fg_accuracy")


class Reader(Protocol):
    """Makes batches of windows, and knows which part of a network takes them and is trained."""

    def read(self, windows: Windows, flips: NDArray[np.bool_] | None = None) -> Batch:
        """The windows in their order, those where ``flips`` [n] mirrored left-right; safe to call from threads."""

    def trained_part(self, network: Network) -> nn.Module:
        """What maps batches to logits, sharing the network's weights."""


@dataclass(frozen=True)
class WindowReader:
    """Batches of warped windows, which the whole network takes."""

    images: ArrayCache[int]
    warp: Warp

    def trained_part(self, network: Network) -> nn.Module:
        """The network."""
        return network

    def read(self, windows: Windows, flips: NDArray[np.bool_] | None = None) -> Batch:
        """The windows' crops in their order, those where ``flips`` [n] mirrored left-right after warping.

        As in Caffe's window_data_layer the finished crop is mirrored, its padding with it. Each image is
        fetched once per batch.
        """
        mirror = np.zeros(len(windows), bool) if flips is None else flips
        parts, order = [], []
        for image in np.unique(windows.images):
            rows = np.flatnonzero(windows.images == image)
            parts.append(self.warp(self.images[int(image)], windows.boxes[rows], mirror[rows]))
            order.append(rows)
        crops = np.empty((len(windows), *parts[0].shape[1:]), np.float32)
        for rows, part in zip(order, parts, strict=True):
            crops[rows] = part
        return Batch(crops, windows.labels)


def window_reader(
    read: Callable[[int], NDArray[np.uint8]],
    spec: InputSpec,
    *,
    mode: CropMode,
    context_px: int,
    cache_bytes: int,
) -> WindowReader:
    """A reader that decodes image ``i`` by ``read(i)`` and warps as the stage ``features`` will.

    Raises StageError where the context leaves no room for the box.
    """
    check_context(spec.side_px, context_px)

    def warp(image: NDArray[np.uint8], boxes: Boxes, mirror: NDArray[np.bool_]) -> NDArray[np.float32]:
        return warp_regions(image, boxes, spec, mode=mode, context_px=context_px, mirror=mirror)

    return WindowReader(ArrayCache(read, cache_bytes), warp)


def course_of(settings: FinetuneSettings, seed: int, workers: int) -> Course:
    """The training loop's view of the parameters."""
    return Course(
        stage="finetune",
        iterations=settings.iterations,
        eval_every=settings.eval_every,
        checkpoint_every=settings.checkpoint_every,
        seed=seed,
        precision=settings.precision,
        train_batch_norm=False,
        workers=workers,
    )


def check_pools(windows: Windows, log: Log) -> None:
    """StageError where there is nothing to learn from, a warning where there is no background."""
    if len(windows.foreground) == 0:
        raise StageError(
            "finetune: no window of the train split overlaps an object enough to be foreground; annotate objects in it,"
            " lower finetune.fg_iou, or set finetune.iterations to 0"
        )
    if len(windows.background) == 0:
        log.warning("finetune: no background windows (no proposals?); mini-batches hold foreground only")


def fine_tune(
    network: Network,
    training: Windows,
    held_out: Windows,
    reader: Reader,
    settings: FinetuneSettings,
    course: Course,
    checkpoint: Checkpoint,
    log: Log,
    *,
    n_classes: int,
) -> list[dict[str, float]]:
    """Give ``network`` a new layer of ``n_classes + 1`` outputs (background first) and train it in place: all of it, or
    the part that takes the reader's batches.

    Returns the curve (see CURVE_COLUMNS; the held-out columns are missing where ``held_out`` is empty).
    Dropout is active; batch normalisation, which the authors' networks lack, keeps its pre-trained
    statistics, because mini-batches of one quarter positives are not what the features will see.
    """
    network.new_head(n_classes + 1, torch_generator(course.seed, course.stage, "new layer"))
    part = reader.trained_part(network)
    fixed = _held_out_sample(held_out, settings, course)

    def draw(iteration: int) -> Batch:
        rng = generator(course.seed, course.stage, "batch", iteration)
        rows, flips = draw_batch(
            training, fg=settings.fg_per_batch, bg=settings.bg_per_batch, mirror=settings.mirror, rng=rng
        )
        return reader.read(training.take(rows), flips)

    return train(
        part,
        _solver(network, part, settings),
        schedule=StepSchedule(settings.lr, settings.gamma, settings.step),
        draw=draw,
        evaluate=lambda: measure(part, fixed, reader, settings, course.workers) if len(fixed) else {},
        course=course,
        checkpoint=checkpoint,
        log=log,
    )


def _solver(network: Network, part: nn.Module, settings: FinetuneSettings) -> MomentumSGD:
    """Of the trained ``part``, the network's last layer being the new one, which learns faster."""
    head = {id(p) for p in network.classifier_parameters()}
    new = {name for name, p in part.named_parameters() if id(p) in head}
    rates = caffe_multipliers(part, new, settings.new_layer_lr)
    return MomentumSGD(part, rates, momentum=settings.momentum, weight_decay=settings.weight_decay)


def _held_out_sample(held_out: Windows, settings: FinetuneSettings, course: Course) -> Windows:
    """The fixed windows that the curve is measured on, foreground and background as in a mini-batch."""
    share = settings.fg_per_batch / (settings.fg_per_batch + settings.bg_per_batch)
    rng = generator(course.seed, course.stage, "held-out windows")
    return held_out.take(draw_held_out(held_out, count=settings.held_out_windows, fg_share=share, rng=rng))


def measure(
    network: nn.Module, windows: Windows, reader: Reader, settings: FinetuneSettings, workers: int
) -> dict[str, float]:
    """Mean loss, accuracy over all windows, and accuracy over foreground ones (NaN where there are none)."""
    chunk = settings.fg_per_batch + settings.bg_per_batch

    def part(i: int) -> Batch:
        return reader.read(windows.take(np.arange(i * chunk, min((i + 1) * chunk, len(windows)))))

    batches = prefetch(part, 0, -(-len(windows) // chunk), workers)
    losses, predicted, labels = classify(network, batches, settings.precision)
    hits, positive = predicted == labels, labels > 0
    return {
        "val_loss": float(losses.mean()),
        "val_accuracy": float(hits.mean()),
        "val_fg_accuracy": float(hits[positive].mean()) if positive.any() else float("nan"),
    }
