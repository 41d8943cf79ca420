"""The loop that trains any model by any loss: batches ahead, a curve, checkpoints.

Everything random in batch ``i`` (which samples, crops, mirroring, dropout masks) is drawn from ``(seed, stage, i)``
alone, never from a generator that runs along. So a batch can be prepared by any thread at any time, and a run that was
killed goes on from its last checkpoint as if it had never stopped: on a CPU, with the same number of torch threads, the
final weights are the same to the last bit. On a GPU cuDNN's sums may differ in the last bits from run to run.
"""

import functools
import math
import operator
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cache.errors import StageError
from stages.contract import Log

from .checkpoint import Checkpoint
from .curve import Losses
from .solver import MomentumSGD, StepSchedule

B = TypeVar("B")  # whatever a batch is
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainingRun:
    """The length of one run, how often it is looked at, and what its randomness derives from."""

    stage: str  # also the parameter group that messages name
    iterations: int  # steps of the solver
    eval_every: int
    checkpoint_every: int
    seed: int
    iter_size: int = 1  # batches whose gradients are averaged before one step (Caffe's word)
    train_batch_norm: bool = True  # False keeps batch normalisation's pre-trained statistics
    workers: int = 2  # threads that prepare batches; never changes a result
    node: str | None = None  # what messages call it, where that is not the stage


def generator(seed: int, stage: str, purpose: str, number: int = 0) -> np.random.Generator:
    """Make a generator for one purpose of one stage at one batch, independent of every other."""
    words = [int.from_bytes(text.encode(), "little") for text in (stage, purpose)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words, number]))


def torch_generator(seed: int, stage: str, purpose: str) -> torch.Generator:
    """Make a torch generator for one purpose of one stage (weights of a new layer or network)."""
    drawn = generator(seed, stage, purpose).integers(0, 2**62)
    return torch.Generator().manual_seed(int(drawn))


def prefetch(draw: Callable[[int], B], start: int, stop: int, workers: int) -> Generator[B]:
    """Yield ``draw(i)`` for i in [start, stop) in order, prepared ``workers`` batches ahead in as many threads."""
    with ThreadPoolExecutor(workers, thread_name_prefix="batch") as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for i in range(start, stop):
                waiting.append(pool.submit(draw, i))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def train(
    model: M,
    solver: MomentumSGD,
    *,
    schedule: StepSchedule,
    draw: Callable[[int], B],
    loss: Callable[[M, B], Mapping[str, Tensor]],
    run: TrainingRun,
    checkpoint: Checkpoint,
    log: Log,
    weights: Mapping[str, float] | None = None,
    evaluate: Callable[[M], Mapping[str, float]] | None = None,
    batch_name: Callable[[int], str] | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` in place, from the checkpoint where there is one.

    Parameters that the loss gives no gradient stay as they are to the last bit, and so do the statistics of batch
    normalisation whose own parameters are frozen (``requires_grad_(False)``).

    Args:
        solver: Steps the model's trainable parameters, or some of them.
        draw: Gives batch ``i``, of ``run.iterations * run.iter_size``; called from threads.
        loss: Gives the batch's loss as named terms, scalars on the model's device, the same names each time. Called
            with the model in training mode, and torch's global generator seeded by the batch's number.
        weights: Factors of terms in the total that is minimised; a term without one counts once.
        evaluate: Gives columns of a curve row, such as ``val_loss``; called with the model in evaluation mode and
            gradients off.
        batch_name: Says what batch ``i`` is made of, for the message of a loss that is no longer finite.

    Returns:
        The curve (:meth:`.curve.Progress.with_row`): a row after the first iteration, after every ``run.eval_every``,
        and after the last.

    Raises StageError when the loss, or an evaluation's ``val_loss``, is no longer finite.
    """
    at = checkpoint.restore(model, solver)
    if at.iteration:
        log.info(f"going on from the checkpoint at iteration {at.iteration}")
    first, last = (iterations * run.iter_size for iterations in (at.iteration, run.iterations))
    with closing(prefetch(draw, first, last, run.workers)) as batches:
        for iteration in range(at.iteration, run.iterations):
            rate = schedule.rate(iteration)
            losses = _forward_backward(model, loss, batches, weights or {}, run, iteration)
            _check_finite(losses, run, iteration, rate, batch_name)
            solver.step(rate)
            at = at.stepped(losses)
            if at.iteration in (1, run.iterations) or at.iteration % run.eval_every == 0:
                found = {} if evaluate is None else _evaluated(model, evaluate)
                _check_finite(Losses(found.get("val_loss", 0.0)), run, iteration, rate)
                at = at.with_row(found)
            if at.iteration % run.checkpoint_every == 0 and at.iteration < run.iterations:
                checkpoint.save(model, solver, at)
            log.progress(at.iteration, run.iterations, "iterations", losses.note)
    model.eval()
    return [dict(row) for row in at.rows]


def _forward_backward(
    model: M,
    loss: Callable[[M, B], Mapping[str, Tensor]],
    batches: Iterator[B],
    weights: Mapping[str, float],
    run: TrainingRun,
    iteration: int,
) -> Losses:
    """Leave the gradients of one iteration, averaged over its batches, in the parameters; return the mean losses."""
    _set_training(model, run.train_batch_norm)
    device = next(model.parameters()).device
    totals: list[float] = []
    values: list[dict[str, float]] = []
    for k in range(run.iter_size):
        batch = next(batches)
        with _seeded(run, iteration * run.iter_size + k, device):
            terms = loss(model, batch)
            total = _total(terms, weights)
        torch.autograd.backward(total / run.iter_size if run.iter_size > 1 else total)
        totals.append(total.item())
        values.append({name: term.item() for name, term in terms.items()} if len(terms) > 1 else {})
    means = {name: sum(part[name] for part in values) / run.iter_size for name in values[0]}
    return Losses(sum(totals) / run.iter_size, means)


def _total(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Add up the weighted terms. Raises ValueError for a weight of no term, and for a term named as the total is."""
    unknown = set(weights) - set(terms)
    if unknown or (len(terms) > 1 and "loss" in terms):
        raise ValueError(f"terms of the loss are {sorted(terms)}, none called loss; weights are for {sorted(weights)}")
    weighted = [weights[name] * term if name in weights else term for name, term in terms.items()]
    return functools.reduce(operator.add, weighted)


def _set_training(model: nn.Module, batch_norm: bool) -> None:
    """Put the model into training mode, but for batch normalisation that keeps its statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = [parameter.requires_grad for parameter in module.parameters()]
            if not batch_norm or (own and not any(own)):
                module.eval()


@contextmanager
def _seeded(run: TrainingRun, number: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator, which dropout draws from, by the batch's number, and put it back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(generator(run.seed, run.stage, "dropout", number).integers(0, 2**62)))
        yield


@torch.no_grad()
def _evaluated(model: M, evaluate: Callable[[M], Mapping[str, float]]) -> Mapping[str, float]:
    """Call ``evaluate`` with the model in evaluation mode, gradients off."""
    model.eval()
    return evaluate(model)


def _check_finite(
    losses: Losses, run: TrainingRun, iteration: int, rate: float, batch_name: Callable[[int], str] | None = None
) -> None:
    """Raise StageError, naming the terms and what the batches are made of, where the loss is no longer a number."""
    if not math.isfinite(losses.total):
        broken = [name for name, value in losses.terms.items() if not math.isfinite(value)]
        which = f"'s {' and '.join(broken)}" if broken else ""
        numbers = range(iteration * run.iter_size, (iteration + 1) * run.iter_size)
        of = "" if batch_name is None else f", on {', '.join(map(batch_name, numbers))}"
        raise StageError(
            f"{run.node or run.stage}: the loss{which} became {losses.total} at iteration {iteration + 1} with "
            f"learning rate {rate:g}{of}; lower {run.stage}.lr"
        )
