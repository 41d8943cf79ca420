"""The common parts of all trainings of a shared network: run and solver, images, batches and inputs, identity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import Artifact, Store
from cache.errors import StageError
from manifests import ImageRecord
from stages.contract import Log, ReadImage
from stages.features.objects import ground_truth_digest
from stages.finetune.batches import ArrayCache
from stages.networks.forward import device_of
from stages.training.checkpoint import Checkpoint
from stages.training.images import ImageSide, in_epochs
from stages.training.loop import TrainingRun, generator, train
from stages.training.settings import SolverSettings
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

from .images import Inputs, MapInputs, PixelInputs, TrainingImages
from .maps import AS_IT_IS, MIRRORED
from .network import RegionNetwork, Shared
from .settings import ImageSettings

B = TypeVar("B")  # whatever a batch is


def training_run(
    settings: SolverSettings, node: str, group: str, *, seed: int, workers: int, iter_size: int = 1
) -> TrainingRun:
    """Return the training loop's view of the parameters of ``group``, whose randomness is that of this node alone."""
    return TrainingRun(
        stage=group,
        iterations=settings.iterations,
        eval_every=settings.eval_every,
        checkpoint_every=settings.checkpoint_every,
        seed=_seed_of(seed, node),
        iter_size=iter_size,
        train_batch_norm=False,
        workers=workers,
        node=node,
    )


def _seed_of(seed: int, node: str) -> int:
    """Derive a seed from the node's name: two trainings of one kind draw apart."""
    return int(generator(seed, node, "training").integers(0, 2**62))


def solver_of(model: Shared, frozen: set[str], settings: SolverSettings) -> MomentumSGD:
    """Freeze what ``frozen`` names of the trunk, and return the solver of all else, as py-faster-rcnn has it.

    Weights x1, biases x2 and decayed, no layer faster than another.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.removeprefix("trunk.") not in frozen or not name.startswith("trunk."))
    multipliers = caffe_multipliers(model, decayed_biases=True)
    return MomentumSGD(model, multipliers, momentum=settings.momentum, weight_decay=settings.weight_decay)


def fit(
    model: Shared,
    settings: SolverSettings,
    *,
    frozen: set[str],
    draw: Callable[[int], B],
    loss: Callable[[Shared, B], Mapping[str, Tensor]],
    images_of: Callable[[int], str],
    run: TrainingRun,
    checkpoint: Checkpoint,
    log: Log,
) -> list[dict[str, float]]:
    """Train the parts of a network that ``model`` runs, in place; returns the curve (``training.loop.train``'s).

    Args:
        frozen: parameters of the trunk that stay (:func:`.network.frozen_parameters`); none where it is not trained.
        draw, loss: of the training loop.
        images_of: names the images of batch ``number``, for the message of a loss that is no number.
    """
    return train(
        model,
        solver_of(model, frozen, settings),
        schedule=StepSchedule(settings.lr, settings.gamma, settings.step),
        draw=draw,
        loss=loss,
        run=run,
        checkpoint=checkpoint,
        log=log,
        batch_name=images_of,
    )


def on_device(array: NDArray[np.float32], device: torch.device) -> Tensor:
    """Move what the network takes, pixels or a map [1, c, y, x], to a device, in channels-last memory."""
    return torch.from_numpy(array).to(device, memory_format=torch.channels_last)


def training_images(
    records: Sequence[ImageRecord], scale: ImageSettings, *, difficult: bool, mirror: bool
) -> TrainingImages:
    """Return the images of a training at the scale of ``maps``."""
    sides = {"short_px": scale.short_px, "long_px": scale.long_px}
    return TrainingImages(records, **sides, difficult=difficult, mirror=mirror)


def map_shapes(network: RegionNetwork, images: TrainingImages) -> dict[tuple[int, int], tuple[int, int]]:
    """Find rows and columns of the shared map by the height and width of every resized training image.

    StageError naming an image of which nothing is left.
    """
    first = {(size.height, size.width): i for i, size in reversed(list(enumerate(images.sizes)))}
    shapes = {}
    for (height, width), index in sorted(first.items()):
        try:
            shapes[height, width] = network.map_shape(height, width)
        except StageError as error:
            raise StageError(f"{images.records[index].file_name}: {error}, or leave the image out") from None
    return shapes


@dataclass(frozen=True)
class StoredMaps:
    """The maps that a training reads in place of pixels: the store, and the list that names them."""

    store: Store
    listed: Artifact


def inputs_of(source: ReadImage | StoredMaps, network: RegionNetwork, images: TrainingImages, cache_mb: int) -> Inputs:
    """Return what gives the network's input of each training image: its pixels, or its stored map.

    Up to ``cache_mb`` MB (2^20 bytes) of what was read are kept. StageError for an image without a stored map.
    """
    limit = cache_mb << 20
    if isinstance(source, StoredMaps):
        keys = [_key(source.listed.keys, record) for record in images.records]
        return MapInputs(ArrayCache(_map_reader(source.store, source.listed.stage, keys), limit))
    read = source
    pixels: ArrayCache[int] = ArrayCache(lambda index: read(images.records[index]), limit)
    return PixelInputs(pixels, images.sizes, network.network.input)


def _map_reader(store: Store, stage: str, keys: Sequence[str]) -> Callable[[tuple[int, bool]], NDArray[Any]]:
    def read(name: tuple[int, bool]) -> NDArray[Any]:
        image, mirrored = name
        array = MIRRORED if mirrored else AS_IT_IS
        found: NDArray[Any] = store.get(stage, keys[image], [array]).arrays[array]
        return found

    return read


def _key(keys: Mapping[int, str], record: ImageRecord) -> str:
    if record.id not in keys:
        raise StageError(f"{record.file_name}: has no stored map; run the stage maps again")
    return keys[record.id]


def batches(
    images: TrainingImages, entries: Sequence[ImageSide], per_batch: int, run: TrainingRun
) -> Callable[[int], tuple[ImageSide, ...]]:
    """Return what names the images of mini-batch ``number``."""
    wide = [images.wide(entry) for entry in entries]
    return in_epochs(entries, wide, per_batch, lambda epoch: generator(run.seed, run.stage, "epoch", epoch))


def names_of(images: TrainingImages, entries_of: Callable[[int], tuple[ImageSide, ...]]) -> Callable[[int], str]:
    """Return what names the images of batch ``number``, those mirrored as such."""

    def name(number: int) -> str:
        sides = entries_of(number)
        return ", ".join(images.records[s.image].file_name + (" (mirrored)" if s.mirrored else "") for s in sides)

    return name


def identity(
    network: RegionNetwork, *, seed: int, node: str, classes: Sequence[str], device: str, **settings: Any
) -> dict[str, Any]:
    """Return the parameters that a training's result depends on, beside its inputs, as JSON."""
    return {
        "seed": seed,
        "node": node,
        "layer": network.layer,
        **settings,
        "classes": list(classes),
        "torch": torch.__version__,
        "device": device_of(device),
    }


def check_objects(images: TrainingImages, group: str) -> None:
    """Raise StageError where no image shows an object to train on."""
    if not any(len(images.objects(ImageSide(i, mirrored=False)).boxes) for i in range(len(images.records))):
        raise StageError(
            f"{group}: no image of the train split shows an object that is trained on; annotate some, or set "
            f"{group}.difficult to true if all are marked difficult"
        )


def image_digests(records: Sequence[ImageRecord], *more: Mapping[int, str]) -> list[list[str]]:
    """Return what of each image a training depends on: its bytes, its objects, and keys of other stages' objects."""
    return [[record.sha256, ground_truth_digest(record), *(keys[record.id] for keys in more)] for record in records]
