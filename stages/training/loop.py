"""The training loop that `pretrain` and `finetune` share: batches, a held-out curve, checkpoints.

Everything random in iteration ``i`` (which samples, crops, mirroring, dropout masks) is drawn from ``(seed,
stage, i)`` alone, never from a generator that runs along. So a batch can be prepared by any thread at any
time, and a run that was killed goes on from its last checkpoint as if it had never stopped: on a CPU, with
the same number of torch threads, the final weights are the same to the last bit. On a GPU cuDNN's sums may
differ in the last bits from run to run.
"""

import csv
import io
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache import atomic_write
from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.contract import Log

from .checkpoint import Checkpoint, Progress
from .solver import MomentumSGD, StepSchedule

Precision = Literal["float32", "bfloat16"]
# (image, boxes [n, 4], which to mirror [n]) -> crops as the network takes them, float32 [n, 3, side, side].
# Called from several threads at once.
Warp = Callable[[NDArray[np.uint8], Boxes, NDArray[np.bool_]], NDArray[np.float32]]


@dataclass(frozen=True)
class Batch:
    """What the network takes: ``images`` float32 [n, 3, side, side], or pooled vectors [n, d]; ``labels`` int64 [n]."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Course:
    """How one run goes: its length, how often it looks up, and what its randomness derives from."""

    stage: str  # also names the parameter group in messages
    iterations: int
    eval_every: int
    checkpoint_every: int
    seed: int
    precision: Precision = "float32"
    train_batch_norm: bool = True  # False keeps batch normalisation's pre-trained statistics
    workers: int = 2  # threads that prepare batches; never changes a result


def generator(seed: int, stage: str, purpose: str, iteration: int = 0) -> np.random.Generator:
    """A generator for one purpose of one stage at one iteration, independent of every other."""
    words = [int.from_bytes(text.encode(), "little") for text in (stage, purpose)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words, iteration]))


def torch_generator(seed: int, stage: str, purpose: str) -> torch.Generator:
    """The same for torch (weights of a new layer or network)."""
    drawn = generator(seed, stage, purpose).integers(0, 2**62)
    return torch.Generator().manual_seed(int(drawn))


@contextmanager
def _dropout_of(course: Course, iteration: int, device: torch.device) -> Iterator[None]:
    """Torch's global generator, which dropout draws from, set by the iteration and put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(generator(course.seed, course.stage, "dropout", iteration).integers(0, 2**62)))
        yield


def prefetch(draw: Callable[[int], Batch], start: int, stop: int, workers: int) -> Generator[Batch]:
    """``draw(i)`` for i in [start, stop) in order, prepared ``workers`` batches ahead in as many threads."""
    with ThreadPoolExecutor(workers, thread_name_prefix="batch") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for i in range(start, stop):
                waiting.append(pool.submit(draw, i))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _logits(network: nn.Module, images: NDArray[np.float32], precision: Precision) -> Tensor:
    device = next(network.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        # channels-last memory: a third faster on CPUs, and what tensor cores want
        form = torch.channels_last if images.ndim == 4 else torch.preserve_format
        inputs = torch.from_numpy(images).to(device, memory_format=form)
        logits: Tensor = network(inputs)
    return logits.float()


@torch.no_grad()
def classify(
    network: nn.Module, batches: Iterable[Batch], precision: Precision = "float32"
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Cross-entropy [n], predicted class [n] and true class [n] of every sample, dropout off."""
    network.eval()
    losses, predicted, labels = [], [], []
    for batch in batches:
        logits = _logits(network, batch.images, precision)
        target = torch.from_numpy(batch.labels).to(logits.device)
        losses.append(nn.functional.cross_entropy(logits, target, reduction="none").double().cpu().numpy())
        predicted.append(logits.argmax(1).cpu().numpy())
        labels.append(batch.labels)
    return np.concatenate(losses), np.concatenate(predicted), np.concatenate(labels)


def _training_mode(network: nn.Module, batch_norm: bool) -> None:
    network.train()
    if not batch_norm:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def train(
    network: nn.Module,
    solver: MomentumSGD,
    *,
    schedule: StepSchedule,
    draw: Callable[[int], Batch],
    evaluate: Callable[[], Mapping[str, float]],
    course: Course,
    checkpoint: Checkpoint,
    log: Log,
) -> list[dict[str, float]]:
    """Train ``network`` in place by mean softmax cross-entropy, from the checkpoint where there is one.

    ``draw(i)`` gives iteration ``i``'s batch and is called from threads. ``evaluate()`` gives the held-out
    columns of a curve row. Returns the curve: a row after the first iteration, after every ``eval_every``,
    and after the last, with ``iteration``, ``train_loss`` (mean since the row before) and what ``evaluate``
    gave. Raises StageError when the loss is no longer finite.
    """
    at = checkpoint.restore(network, solver)
    if at.iteration:
        log.info(f"{course.stage}: going on from the checkpoint at iteration {at.iteration}")
    rows, loss_sum, loss_count = list(at.rows), at.loss_sum, at.loss_count
    with closing(prefetch(draw, at.iteration, course.iterations, course.workers)) as batches:
        for iteration, batch in enumerate(batches, at.iteration):
            rate = schedule.rate(iteration)
            loss = _forward_backward(network, batch, course, iteration)
            _finite(loss, course, iteration, rate)
            solver.step(rate)
            done, loss_sum, loss_count = iteration + 1, loss_sum + loss, loss_count + 1
            if done in (1, course.iterations) or done % course.eval_every == 0:
                row = {"iteration": done, "train_loss": loss_sum / loss_count, **evaluate()}
                _finite(row.get("val_loss", 0.0), course, iteration, rate)
                rows.append(row)
                loss_sum, loss_count = 0.0, 0
            if done % course.checkpoint_every == 0 and done < course.iterations:
                checkpoint.save(network, solver, Progress(done, tuple(rows), loss_sum, loss_count))
            log.progress(done, course.iterations, "iterations", f"loss {loss:.3f}")
    network.eval()
    return [dict(row) for row in rows]


def _forward_backward(network: nn.Module, batch: Batch, course: Course, iteration: int) -> float:
    """Leave the gradients of the batch's mean cross-entropy in the parameters; returns that loss."""
    _training_mode(network, course.train_batch_norm)
    device = next(network.parameters()).device
    with _dropout_of(course, iteration, device):
        logits = _logits(network, batch.images, course.precision)
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels).to(device))
    loss.backward()
    return float(loss.item())


def _finite(loss: float, course: Course, iteration: int, rate: float) -> None:
    if not math.isfinite(loss):
        raise StageError(
            f"{course.stage}: the loss became {loss} at iteration {iteration + 1} with learning rate"
            f" {rate:g}; lower {course.stage}.lr"
        )


def write_curve(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, float]]) -> None:
    """Write the curve as CSV, one row per evaluation; a value that does not exist is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: v if isinstance(v, int) else f"{v:.6g}" for k, v in row.items() if not math.isnan(v)})
    atomic_write(path, text.getvalue().encode())
