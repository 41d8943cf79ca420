"""What the trainings of a shared network have in common: its solver, the dtype of its arithmetic, its warnings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Store
from cache.errors import StageError
from manifests import ImageRecord
from manifests.select import training_images
from stages.contract import Context
from stages.features.objects import ground_truth_digest
from stages.finetune.batches import ArrayCache
from stages.networks.forward import device_of
from stages.training.loop import TrainingRun, generator
from stages.training.settings import SolverSettings
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

from .images import Entry, Inputs, MapInputs, PixelInputs, TrainingImages, in_epochs
from .maps import AS_IT_IS, MIRRORED
from .network import RegionNetwork, Shared, frozen_parameters


def training_run(settings: SolverSettings, node: str, group: str, ctx: Context, iter_size: int = 1) -> TrainingRun:
    """Return the training loop's view of the parameters of ``group``, whose randomness is that of this node alone."""
    return TrainingRun(
        stage=group,
        iterations=settings.iterations,
        eval_every=settings.eval_every,
        checkpoint_every=settings.checkpoint_every,
        seed=_seed_of(ctx.seed, node),
        iter_size=iter_size,
        train_batch_norm=False,
        workers=ctx.workers,
    )


def _seed_of(seed: int, node: str) -> int:
    """Derive a seed from the node's name: two trainings of one kind draw apart."""
    return int(generator(seed, node, "training").integers(0, 2**62))


def schedule_of(settings: SolverSettings) -> StepSchedule:
    """Return the learning rate by iteration."""
    return StepSchedule(settings.lr, settings.gamma, settings.step)


def solver_of(model: Shared, frozen: set[str], settings: SolverSettings) -> MomentumSGD:
    """Freeze what ``frozen`` names of the trunk, and return the solver of all else, as py-faster-rcnn has it.

    Weights x1, biases x2 and decayed, no layer faster than another.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.removeprefix("trunk.") not in frozen or not name.startswith("trunk."))
    multipliers = caffe_multipliers(model, decayed_biases=True)
    return MomentumSGD(model, multipliers, momentum=settings.momentum, weight_decay=settings.weight_decay)


def frozen_of(network: RegionNetwork, frozen: str | None, *, trunk: bool) -> set[str]:
    """Name the trunk's parameters that stay: as ``maps.frozen`` says; none where there is no trunk to train."""
    return frozen_parameters(network.network, network.layer, frozen) if trunk else set()


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Compute convolutions and products inside in ``precision``."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Move what the network takes, pixels or a map [1, c, y, x], to a device, in channels-last memory."""
    return torch.from_numpy(array).to(device, memory_format=torch.channels_last)


def inputs_of(ctx: Context, network: RegionNetwork, images: TrainingImages, settings: SolverSettings) -> Inputs:
    """Return what gives the network's input of each training image: stored maps where there are, else pixels."""
    cache_bytes = settings.image_cache_mb << 20
    if not ctx.has("maps"):
        read = ctx.image
        pixels: ArrayCache[int] = ArrayCache(lambda index: read(images.records[index]), cache_bytes)
        return PixelInputs(pixels, images.sizes, network.network.input)
    listed, store = ctx.artifact("maps"), ctx.store
    keys = [_key(listed.keys, record) for record in images.records]
    return MapInputs(ArrayCache(_map_reader(store, listed.stage, keys), cache_bytes))


def _map_reader(store: Store, stage: str, keys: Sequence[str]) -> Callable[[tuple[int, bool]], np.ndarray]:
    def read(name: tuple[int, bool]) -> np.ndarray:
        image, mirrored = name
        array = MIRRORED if mirrored else AS_IT_IS
        found: np.ndarray = store.get(stage, keys[image], [array]).arrays[array]
        return found

    return read


def _key(keys: Any, record: ImageRecord) -> str:
    if record.id not in keys:
        raise StageError(f"{record.file_name}: has no stored map; run the stage maps again")
    return str(keys[record.id])


def batches(
    images: TrainingImages, entries: Sequence[Entry], per_batch: int, run: TrainingRun
) -> Callable[[int], tuple[Entry, ...]]:
    """Return what names the images of mini-batch ``number``."""
    wide = [images.wide(entry) for entry in entries]
    return in_epochs(entries, wide, per_batch, lambda epoch: generator(run.seed, run.stage, "epoch", epoch))


def training_records(ctx: Context, **difficult: bool) -> list[ImageRecord]:
    """Return the images of the train split; StageError where none shows an object that is to be learned.

    Args:
        difficult: by group of parameters, whether difficult objects are (``difficult`` of that group).
    """
    records = training_images(ctx.dataset(), None)
    if not any((~record.crowd).any() for record in records):
        raise StageError(f"{ctx.node.name}: no image of the train split shows an object; annotate some")
    for group, counted in difficult.items():
        if not counted and not any((~(record.crowd | record.difficult)).any() for record in records):
            raise StageError(
                f"{ctx.node.name}: all objects of the train split are difficult, and these are not learned; set "
                f"{group}.difficult to true, or annotate others"
            )
    return records


def identity(ctx: Context, network: RegionNetwork, **settings: Any) -> dict[str, Any]:
    """Return the parameters that a training's result depends on, beside its inputs, as JSON."""
    return {
        "seed": ctx.seed,
        "node": ctx.node.name,
        "layer": network.layer,
        **settings,
        "classes": list(ctx.dataset().classes),
        "torch": torch.__version__,
        "device": device_of(ctx.device),
    }


def image_digests(records: Sequence[ImageRecord], *more: dict[int, str]) -> list[list[str]]:
    """Return what of each image a training depends on: its bytes, its objects, and keys of other stages' objects."""
    return [
        [record.sha256, ground_truth_digest(record), *(str(keys[record.id]) for keys in more)] for record in records
    ]
