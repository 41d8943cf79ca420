"""Training of the box regressor: which windows hold an object, and where in them it lies (OverFeat section 4.2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import StageError
from stages.boxes.geometry import Boxes, area, iou
from stages.networks.forward import in_precision
from stages.training.images import ImageSide
from stages.training.loop import TrainingRun, generator

from .places import Indices
from .pooled_rows import PooledRows
from .regressor import EDGES, EdgeRegressor, encode_edges
from .settings import RegressSettings
from .training_images import WindowImages

LEAST_STD = 1e-4  # below, edges are all the same but for rounding


def objects_held(windows: Boxes, objects: Boxes, object_part: float) -> tuple[Indices, Indices]:
    """Find the windows that hold at least ``object_part`` of an object's area, and that object (ours).

    Of several the one of largest IoU with the window, the first of equal ones. (The paper trains on windows that
    overlap the object by at least 50%; a small object in the middle of a large window would then teach nothing.)

    Args:
        windows: float32 [n, 4], px.
        objects: float32 [m, 4], px.

    Returns:
        Rows of windows and, for each, the row of its object: int64 [k] both.
    """
    if not len(objects):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    w, o = windows[:, None].astype(np.float64), objects[None].astype(np.float64)
    sides = np.minimum(w[..., 2:], o[..., 2:]) - np.maximum(w[..., :2], o[..., :2])
    held = sides.clip(0).prod(axis=-1) >= object_part * area(objects)  # [n, m]
    held &= area(objects) > 0
    rows = np.flatnonzero(held.any(axis=1))
    overlaps = np.where(held[rows], iou(windows[rows], objects), -1.0)
    return rows, overlaps.argmax(axis=1)


class EdgeTargets:
    """The windows of training images that hold an object, and what is drawn of them; safe to use from several threads.

    ``sides`` are the images and mirror images that have such windows. ``StageError`` where none has.
    """

    def __init__(self, images: WindowImages, settings: RegressSettings) -> None:
        images.check_objects("regress")
        self.images, self._held = images, {}
        for side in images.sides:
            objects = images.objects(side)
            counted = np.flatnonzero(objects.counted)
            rows, which = objects_held(images.grid(side).boxes, objects.boxes[counted], settings.object_part)
            if len(rows):
                self._held[side] = rows.astype(np.int32), counted[which].astype(np.int32)
        self.sides = list(self._held)
        if not self.sides:
            raise StageError(
                f"regress: no window of the train split holds {settings.object_part:g} of an object's area: "
                f"{images.sizes_told()}; or lower regress.object_part"
            )

    def counts(self, n_classes: int) -> NDArray[np.int64]:
        """Count the windows of each class: int64 [n_classes]."""
        out = np.zeros(n_classes, np.int64)
        for side, (_, which) in self._held.items():
            out += np.bincount(self.images.objects(side).labels[which], minlength=n_classes)
        return out

    def norm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Measure mean and deviation of the edges (:func:`.regressor.encode_edges`) over all windows: float64 [4] both.

        An edge that does not vary has a deviation of 1.
        """
        count, sums, squares = 0, np.zeros(EDGES), np.zeros(EDGES)
        for side, (rows, which) in self._held.items():
            edges = encode_edges(self.images.grid(side).boxes[rows], self.images.objects(side).boxes[which])
            count += len(edges)
            sums += edges.sum(axis=0)
            squares += (edges**2).sum(axis=0)
        mean = sums / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return mean, np.where(std >= LEAST_STD, std, 1.0)

    def draw(self, side: ImageSide, count: int, rng: np.random.Generator) -> tuple[Indices, Boxes, NDArray[np.int64]]:
        """Draw windows of an image: their numbers int64 [count], their objects [count, 4] and those' classes.

        All come once before any comes again.
        """
        rows, which = self._held[side]
        chosen = np.resize(rng.permutation(len(rows))[:count], count)
        objects = self.images.objects(side)
        return rows[chosen].astype(np.int64), objects.boxes[which[chosen]], objects.labels[which[chosen]]


@dataclass(frozen=True)
class EdgeBatch:
    """A mini-batch: windows float32 [n, d] as fc6 takes them, standardised edges [n, 4], classes int64 [n]."""

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    labels: NDArray[np.int64]


def edge_batches(
    targets: EdgeTargets,
    rows: PooledRows,
    regressor: EdgeRegressor,
    sides_of: Callable[[int], tuple[ImageSide, ...]],
    windows_per_batch: int,
    run: TrainingRun,
) -> Callable[[int], EdgeBatch]:
    """Return what makes mini-batch ``number``, of ``windows_per_batch`` windows; called from several threads."""

    def batch(number: int) -> EdgeBatch:
        rng = generator(run.seed, run.stage, "windows", number)
        sides = sides_of(number)
        each, more = divmod(windows_per_batch, len(sides))
        inputs, wanted, labels = [], [], []
        for i, side in enumerate(sides):
            grid = targets.images.grid(side)
            chosen, objects, own = targets.draw(side, each + (i < more), rng)
            inputs.append(rows(side, grid, chosen))
            wanted.append(regressor.standardised(grid.boxes[chosen], objects))
            labels.append(own)
        return EdgeBatch(np.concatenate(inputs), np.concatenate(wanted), np.concatenate(labels))

    return batch


def edge_terms(per_class: bool, precision: str) -> Callable[[nn.Sequential, EdgeBatch], Mapping[str, Tensor]]:
    """Make the loss of the training loop: mean squared error of standardised edges (the paper's l2).

    With ``per_class`` of the four outputs of the object's class alone.
    """

    def loss(model: nn.Sequential, batch: EdgeBatch) -> Mapping[str, Tensor]:
        device = next(model.parameters()).device
        inputs, targets, labels = (
            torch.from_numpy(array).to(device) for array in (batch.inputs, batch.targets, batch.labels)
        )
        with in_precision(device, precision):
            found = model(inputs).float().unflatten(1, (-1, EDGES))
        own = found[torch.arange(len(found), device=device), labels if per_class else 0]
        return {"l2": functional.mse_loss(own, targets)}

    return loss
